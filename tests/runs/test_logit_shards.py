"""Shards: whole or absent, of one request alone, claimed by one at a time."""

from pathlib import Path

import numpy as np
import pytest

from fer_lightning.errors import FerError
from fer_lightning.runs.logit_shards import LogitShards

IDS = np.array([b"a" * 64, b"b" * 64, b"c" * 64])
LOGITS = (np.arange(21).reshape(3, 7) / 8).astype(np.float32)


def shards(folder: Path, request: str = "5" * 64, dtype: str = "float32") -> LogitShards:
    return LogitShards(folder, request, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_written_is_read_by_the_same_request(tmp_path: Path, dtype: str) -> None:
    assert shards(tmp_path, dtype=dtype).read(4, IDS) is None
    shards(tmp_path, dtype=dtype).write(4, IDS, LOGITS)
    found = shards(tmp_path, dtype=dtype).read(4, IDS)
    assert found is not None
    assert found.dtype == np.float32
    assert np.array_equal(found, LOGITS)
    assert shards(tmp_path, dtype=dtype).read(5, IDS) is None
    assert shards(tmp_path, request="6" * 64, dtype=dtype).read(4, IDS) is None


def test_the_same_shard_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        shards(tmp_path / name).write(0, IDS, LOGITS)
    first, second = (path.read_bytes() for path in sorted(tmp_path.rglob("*.npz")))
    assert first == second


@pytest.mark.parametrize("case", ["rows", "order", "request", "type", "truncated", "empty", "foreign"])
def test_what_is_of_something_else_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str) -> None:
    ids = IDS
    shards(tmp_path).write(0, IDS, LOGITS)
    (file,) = tmp_path.rglob("*.npz")
    if case == "rows":
        ids = IDS[:2]
    elif case == "order":
        ids = IDS[::-1]
    elif case == "request":
        shards(tmp_path, request="5" * 16 + "6" * 48).write(0, IDS, LOGITS)  # of the same folder name
    elif case == "type":
        np.savez(file, request=np.array("5" * 64), row_ids=IDS, logits=LOGITS.astype(np.float64))
    elif case == "truncated":
        file.write_bytes(file.read_bytes()[:-30])
    elif case == "empty":
        file.write_bytes(b"")
    else:
        np.savez(file, other=IDS)
    assert shards(tmp_path).read(0, ids) is None
    assert f"{file} is inferred again: it is" in caplog.text


def test_a_claim_is_for_one_at_a_time(tmp_path: Path) -> None:
    first, second = shards(tmp_path), shards(tmp_path)
    assert first.claim(0)
    assert not second.claim(0)
    assert second.claim(1)
    first.release(0)
    assert second.claim(0)
    second.release_all()
    assert first.claim(0)
    assert first.claim(1)
    first.release_all()


def test_requests_do_not_claim_from_one_another(tmp_path: Path) -> None:
    first, second = shards(tmp_path), shards(tmp_path, request="7" * 64)
    assert first.claim(0)
    assert second.claim(0)
    first.release_all()
    second.release_all()


def test_whole_logits_take_the_place_of_all_shards(tmp_path: Path) -> None:
    shards(tmp_path).write(0, IDS, LOGITS)
    shards(tmp_path, request="8" * 64).write(0, IDS, LOGITS)
    shards(tmp_path).remove()
    assert list(tmp_path.iterdir()) == []
    shards(tmp_path).remove()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "shards").write_text("a file")
    with pytest.raises(FerError, match=r"cannot write to .*shards/5{16}: .*; choose another run.root"):
        shards(tmp_path).claim(0)
