"""Atomic writes and digests."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from fer_lightning.files import sha256_of, stamp_of, write_atomically, write_text_atomically


def test_text_is_utf8_with_unix_line_endings(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text_atomically(path, "é\nb\r\n")
    assert path.read_bytes() == "é\nb\r\n".encode()
    write_text_atomically(path, "shorter")
    assert path.read_bytes() == b"shorter"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half(temporary: Path) -> None:
        temporary.write_text("ne")
        assert path.read_text() == "old"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, write_half)
    assert path.read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["a.txt"]


def test_the_first_error_is_the_one_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_atomically(tmp_path / "a.txt", fail)
    assert caught.value.errno == errno.ENOSPC


def test_file_is_flushed_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    replace, fsync = Path.replace, os.fsync

    def flush(number: int) -> None:
        done.append("flushed")
        fsync(number)

    def rename(path: Path, target: Path) -> Path:
        done.append("renamed")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", rename)
    write_text_atomically(tmp_path / "a.txt", "new")
    assert done == ["flushed", "renamed"]


def test_text_that_cannot_be_encoded_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        write_text_atomically(tmp_path / "a.txt", "\udcff")
    assert list(tmp_path.iterdir()) == []


def test_digest_is_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000
    (tmp_path / "a.bin").write_bytes(content)
    assert sha256_of(tmp_path / "a.bin") == hashlib.sha256(content).hexdigest()
    (tmp_path / "empty").touch()
    assert sha256_of(tmp_path / "empty") == hashlib.sha256(b"").hexdigest()


def test_another_file_in_the_same_place_has_another_stamp(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert stamp_of(path) is None
    path.write_text("first")
    first = stamp_of(path)
    assert first == stamp_of(path)
    write_text_atomically(path, "other")
    os.utime(path, ns=(0, path.stat().st_mtime_ns if first is None else first[1]))
    assert stamp_of(path) != first
