"""The allocator is asked once and says whether it agreed."""

import platform

import pytest

from fer_lightning.allocator import keep_freed_memory


def test_glibc_agrees() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
