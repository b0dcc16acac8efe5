"""Stored logits: round trip, every contradiction refused by file and field, no wrong pair after a kill."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.runs import stored_logits as module
from fer_lightning.runs.artifacts import read_artifact, write_artifact
from fer_lightning.runs.stored_logits import StoredLogits, read_stored_logits, write_stored_logits
from fer_lightning.runs.stored_logits_record import (
    LOGITS_FILE,
    RECORD_FILE,
    ROWS_FILE,
    StoredLogitsRecord,
    read_stored_record,
)
from tests.runs.stored_examples import stored_logits

Arrays = dict[str, NDArray[Any]]


def same(first: StoredLogits, second: StoredLogits) -> None:
    assert first.record == second.record
    for name in ("row_ids", "image_paths", "sources"):
        assert getattr(first, name) == getattr(second, name)
    for name in ("logits", "labels", "groups", "face_sides", "votes"):
        mine, other = getattr(first, name), getattr(second, name)
        if mine is None:
            assert other is None
        else:
            assert mine.dtype == other.dtype
            assert torch.equal(mine, other)


@pytest.mark.parametrize("votes", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["", LOGITS_FILE, ROWS_FILE, RECORD_FILE])
def test_what_is_written_is_read(tmp_path: Path, votes: bool, dtype: str, name: str) -> None:
    folder = tmp_path / "deep" / "folder"
    written = write_stored_logits(folder, stored_logits(votes=votes, dtype=dtype))
    assert written.record.logits_sha256 == sha256_of(folder / LOGITS_FILE)
    assert written.record.rows_sha256 == sha256_of(folder / ROWS_FILE)
    same(read_stored_logits(folder / name, option="x"), written)
    assert read_stored_record(folder / name, option="x") == written.record
    again = write_stored_logits(tmp_path / "again", stored_logits(votes=votes, dtype=dtype))
    assert again.record == written.record  # the same bytes
    assert sorted(path.name for path in folder.iterdir()) == [LOGITS_FILE, ROWS_FILE, RECORD_FILE]


def test_half_precision_is_kept_on_disk_and_nowhere_else(tmp_path: Path) -> None:
    stored = stored_logits(dtype="float16")
    written = write_stored_logits(tmp_path, stored)
    on_disk = np.load(tmp_path / LOGITS_FILE, mmap_mode="r")
    assert on_disk.dtype == np.float16
    assert written.logits.dtype == torch.float32
    assert torch.equal(written.logits, stored.logits.half().float())
    assert not torch.equal(written.logits, stored.logits)


def test_what_half_precision_cannot_hold_is_refused_by_row(tmp_path: Path) -> None:
    stored = stored_logits(dtype="float16")
    for row in (2, 4, 7, 11):
        stored.logits[row, 3] = -65505.0
    stored.logits[5, 0] = 65504.0
    with pytest.raises(
        FerError,
        match=r"numbers up to 65504, and logits are beyond it in 4 of 12 rows: 2, .* \(65505\).* "
        r"and 1 more. Keep them as float32 \(dtype=float32\)",
    ):
        write_stored_logits(tmp_path, stored)
    assert list(tmp_path.iterdir()) == []
    stored.logits[stored.logits < -65504] = -65504.0
    assert write_stored_logits(tmp_path, stored).logits.abs().max() == 65504


def test_rows_are_put_in_another_order_with_all_that_is_theirs() -> None:
    stored = stored_logits(votes=True)
    turned = stored.in_order_of(stored.row_ids[::-1])
    assert torch.equal(turned.logits, stored.logits.flip(0))
    assert turned.votes is not None
    assert stored.votes is not None
    assert torch.equal(turned.votes, stored.votes.flip(0))
    same(turned.in_order_of(stored.row_ids), stored)


def test_arrays_are_readable_without_pickle(tmp_path: Path) -> None:
    stored = write_stored_logits(tmp_path, stored_logits())
    assert np.array_equal(np.load(tmp_path / LOGITS_FILE, allow_pickle=False), stored.logits.numpy())
    with np.load(tmp_path / ROWS_FILE, allow_pickle=False) as file:
        assert [text.decode() for text in file["image_paths"]] == list(stored.image_paths)


def test_a_kill_between_the_two_files_leaves_nothing_that_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_artifact", killed)
        with pytest.raises(KeyboardInterrupt):
            write_stored_logits(tmp_path, stored_logits())
    with pytest.raises(FerError, match=r"^x: .* holds no stored logits: there is no storedlogits.json in it"):
        read_stored_logits(tmp_path, option="x")
    write_stored_logits(tmp_path, stored_logits())
    other = stored_logits()
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_artifact", killed)
        with pytest.raises(KeyboardInterrupt):
            write_stored_logits(tmp_path, replace(other, logits=other.logits + 1))
    with pytest.raises(FerError, match=r"^x: .*logits.npy is not the file that storedlogits.json vouches for: logits_"):
        read_stored_logits(tmp_path, option="x")


@pytest.mark.parametrize(("name", "field"), [(LOGITS_FILE, "logits_sha256"), (ROWS_FILE, "rows_sha256")])
def test_missing_and_changed_files_are_refused(tmp_path: Path, name: str, field: str) -> None:
    write_stored_logits(tmp_path, stored_logits())
    content = (tmp_path / name).read_bytes()
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    for damaged in (bytes(changed), content[:-1], content[: len(content) // 2], b"x"):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(
            FerError, match=rf"{name} is not the file .*: {field} is .*It was cut short or changed since"
        ):
            read_stored_logits(tmp_path, option="x")
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(FerError, match=rf"{name} is damaged: it is empty"):
        read_stored_logits(tmp_path, option="x")
    (tmp_path / name).unlink()
    with pytest.raises(FerError, match=rf"x: cannot read .*{name}: No such file"):
        read_stored_logits(tmp_path, option="x")


def test_missing_and_other_records_are_refused(tmp_path: Path) -> None:
    for read in (read_stored_logits, read_stored_record):
        with pytest.raises(FerError, match="nowhere holds no stored logits"):
            read(tmp_path / "nowhere", option="x")
    (tmp_path / RECORD_FILE).write_text('{"schema_version": 1}')
    with pytest.raises(FerError, match="is no StoredLogitsRecord of schema version 2 but of 1"):
        read_stored_logits(tmp_path, option="x")
    (tmp_path / RECORD_FILE).write_text('{"schema_version": 2}')
    with pytest.raises(FerError, match="not a valid StoredLogitsRecord"):
        read_stored_logits(tmp_path, option="x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_order": ["Neutral", "Angry"]}, "class_order has class order"),
        ({"split": "tset"}, "split is 'tset'"),
        ({"kind": "guess"}, "kind is 'guess'; expected one of checkpoint, onnx, foreign, ensemble"),
        ({"n": 11}, r"n is 11, and there are 12 rows of logits"),
        ({"row_set_fingerprint": "ab" * 32}, "row_set_fingerprint is abababababab, but that of its row ids"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FerError, match=message):
        write_stored_logits(tmp_path, stored_logits(**changes))
    assert list(tmp_path.iterdir()) == []
    write_stored_logits(tmp_path, stored_logits())
    record = read_artifact(tmp_path / RECORD_FILE, StoredLogitsRecord)
    write_artifact(tmp_path / RECORD_FILE, replace(record, **changes))
    with pytest.raises(FerError, match="n being recorded" if "n" in changes else message):
        read_stored_logits(tmp_path, option="x")


def at_row(tensor: Tensor, value: float) -> Tensor:
    changed = tensor.clone()
    changed[3] = value
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"logits": at_row(s.logits, float("nan"))}, "logits are not finite in 1 of 12 rows"),
        (lambda s: {"logits": at_row(s.logits, float("-inf"))}, "logits are not finite in 1 of 12 rows"),
        (lambda s: {"logits": s.logits.softmax(1)}, "logits are probabilities"),
        (lambda s: {"logits": s.logits.softmax(1).half().float()}, "logits are probabilities"),
        (lambda s: {"labels": at_row(s.labels, 7)}, r"labels lie in 0\.\.7"),
        (lambda s: {"labels": at_row(s.labels, -1)}, r"labels lie in -1\.\.6"),
        (lambda s: {"labels": at_row(s.labels, 0)}, "row_set_fingerprint"),
        (lambda s: {"row_ids": (s.row_ids[1], *s.row_ids[1:])}, "row_ids holds a row twice"),
        (lambda s: {"face_sides": at_row(s.face_sides, -1)}, "face_sides holds -1"),
        (lambda s: {"votes": at_row(s.votes, -0.5)}, "votes holds values that are no counts"),
        (lambda s: {"votes": at_row(s.votes, float("inf"))}, "votes holds values that are no counts"),
    ],
)
def test_values_that_cannot_be_are_refused(
    tmp_path: Path, change: Callable[[StoredLogits], dict[str, Any]], message: str
) -> None:
    stored = stored_logits(votes=True)
    with pytest.raises(FerError, match=message):
        write_stored_logits(tmp_path, replace(stored, **change(stored)))


def test_unscaled_cosines_of_another_program_are_refused(tmp_path: Path) -> None:
    stored = stored_logits(kind="foreign")
    cosines = stored.logits / stored.logits.abs().max()
    with pytest.raises(FerError, match=r"all lie in \[-1, 1\], as cosines do; multiply them by the scale"):
        write_stored_logits(tmp_path, replace(stored, logits=cosines))
    written = write_stored_logits(tmp_path, replace(stored, logits=30 * cosines))
    same(read_stored_logits(tmp_path, option="x"), written)
    flat = stored_logits()  # of a linear head that has not learnt much
    write_stored_logits(tmp_path, replace(flat, logits=flat.logits / 1000))


def test_one_row_among_others_may_look_like_probabilities(tmp_path: Path) -> None:
    stored = stored_logits()
    stored.logits[0] = torch.tensor([0.4, 0.6, 0, 0, 0, 0, 0])
    written = write_stored_logits(tmp_path, stored)
    same(read_stored_logits(tmp_path, option="x"), written)


def vouch(folder: Path, **files: bytes) -> None:
    """Write other files, and a record that vouches for them."""
    record = read_artifact(folder / RECORD_FILE, StoredLogitsRecord)
    for name, content in files.items():
        (folder / (LOGITS_FILE if name == "logits" else ROWS_FILE)).write_bytes(content)
        record = replace(record, **{f"{name}_sha256": hashlib.sha256(content).hexdigest()})  # type: ignore[arg-type]
    write_artifact(folder / RECORD_FILE, record)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a | {"labels": a["labels"].astype(np.int32)}, "labels is int32"),
        (lambda a: a | {"groups": a["groups"][:5]}, r"groups is int64 of shape \(5,\)"),
        (lambda a: a | {"sources": a["sources"].astype(str)}, r"sources is <U7 of shape \(12,\); expected bytes"),
        (lambda a: a | {"sources": np.array([b"\xff"] * 12)}, "sources is not UTF-8"),
        (lambda a: a | {"sources": np.array([None] * 12)}, "is damaged: Object arrays cannot be loaded"),
        (lambda a: {name: a[name] for name in a if name != "groups"}, r"arrays missing: \['groups'\], unknown: \[\]"),
        (lambda a: a | {"more": a["groups"]}, r"arrays missing: \[\], unknown: \['more'\]"),
        (lambda _: b"no archive", "is damaged"),
        (lambda _: b"PK\x03\x04 no archive", "is damaged"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, change: Callable[[Arrays], Arrays | bytes], message: str) -> None:
    write_stored_logits(tmp_path, stored_logits())
    with np.load(tmp_path / ROWS_FILE) as file:
        changed = change({name: file[name] for name in file.files})
    if isinstance(changed, dict):
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=True, **changed)
        changed = buffer.getvalue()
    vouch(tmp_path, rows=changed)
    with pytest.raises(FerError, match=message) as refused:
        read_stored_logits(tmp_path, option="evaluate.checkpoint")
    assert str(refused.value).startswith(f"evaluate.checkpoint: {tmp_path / ROWS_FILE}")


def saved(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: saved(a.astype(np.float64)), r"logits is float64 of shape \(12, 7\); expected float32"),
        (lambda a: saved(a.astype(np.float16)), r"logits is float16 of shape \(12, 7\); expected float32"),
        (lambda a: saved(a[:, :6]), r"logits is float32 of shape \(12, 6\)"),
        (lambda a: saved(a)[:-20], "is damaged"),
        (lambda a: saved(a.astype(object)), "is damaged: Object arrays cannot be loaded"),
        (lambda _: b"no array", "is damaged"),
        (lambda _: b"PK\x03\x04 no archive", "is damaged"),
    ],
)
def test_other_logits_are_refused(tmp_path: Path, change: Callable[[NDArray[Any]], bytes], message: str) -> None:
    write_stored_logits(tmp_path, stored_logits())
    vouch(tmp_path, logits=change(np.load(tmp_path / LOGITS_FILE)))
    with pytest.raises(FerError, match=message) as refused:
        read_stored_logits(tmp_path, option="evaluate.checkpoint")
    assert str(refused.value).startswith(f"evaluate.checkpoint: {tmp_path / LOGITS_FILE}")
