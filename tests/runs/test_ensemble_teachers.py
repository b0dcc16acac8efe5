"""Teachers are found where they were named, by whatever they were named, and another model in their place is refused."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.ensemble import EnsembleTeacher
from fer_lightning.runs.ensemble_teachers import (
    FoundTeacher,
    check_teacher_digest,
    find_teacher,
    teacher_file,
    with_a_share,
)
from fer_lightning.runs.stored_logits import write_stored_logits
from fer_lightning.runs.stored_logits_record import StoredLogitsRecord
from tests.runs.ensemble_examples import teacher
from tests.runs.examples import example
from tests.runs.stored_examples import stored_logits

WEIGHTS = hashlib.sha256(b"weights").hexdigest()


def write_weights(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "best.pt").write_bytes(b"weights")
    return folder


def of_weights(given: Path) -> EnsembleTeacher:
    made = teacher(given, "RN18") if given.is_file() and given.suffix == ".pt" else example(EnsembleTeacher)
    return replace(
        made, name="RN18", given=str(given), kind="checkpoint", checkpoint="best.pt", checkpoint_sha256=WEIGHTS
    )


def foreign(folder: Path, **digests: str) -> EnsembleTeacher:
    """Write a foreign model with a file for each split, of which the ensemble knows the first."""
    for split, sha256 in digests.items():
        write_stored_logits(folder / split, stored_logits(kind="foreign", checkpoint="p.csv", checkpoint_sha256=sha256))
    return replace(of_weights(folder), kind="foreign", checkpoint_sha256=next(iter(digests.values())))


def test_teachers_files_are_found_again(tmp_path: Path) -> None:
    files = [write_weights(tmp_path / name) / "best.pt" for name in ("RN18", "B3")]
    by_run, by_file = teacher(files[0].parent, "RN18"), teacher(files[1], "B3")
    assert teacher_file(by_run, where="o") == files[0]
    assert teacher_file(by_file, where="o") == files[1]
    stored = tmp_path / "logits" / "run0__best.pt"
    stored.mkdir(parents=True)
    record = replace(example(StoredLogitsRecord), run_dir=str(files[0].parent))
    write_artifact(stored / "storedlogits.json", record)
    assert teacher_file(replace(by_run, given=str(stored)), where="o") == files[0]
    files[0].unlink()
    for gone in (by_run, replace(by_run, given=str(stored))):
        with pytest.raises(FerError, match=f"o: teacher RN18 is gone: no file {files[0]}"):
            teacher_file(gone, where="o")


def test_a_replaced_teacher_is_refused_by_name(tmp_path: Path) -> None:
    file = write_weights(tmp_path / "RN18") / "best.pt"
    one = teacher(file, "RN18")
    check_teacher_digest(one, file, sha256_of(file), where="o")
    with pytest.raises(FerError, match=rf"o: {file} is no longer the teacher RN18 .*: its sha256 is ffffffffffff"):
        check_teacher_digest(one, file, "f" * 64, where="o")


def test_a_teacher_named_by_its_file(tmp_path: Path) -> None:
    file = write_weights(tmp_path / "RN18") / "best.pt"
    assert find_teacher(of_weights(file)) == FoundTeacher(file, (), WEIGHTS)


def test_a_teacher_named_by_stored_logits_is_found_where_these_say(tmp_path: Path) -> None:
    run_dir, kept = write_weights(tmp_path / "RN18"), tmp_path / "kept"
    write_stored_logits(kept, stored_logits(run_dir=str(run_dir), checkpoint="best.pt", checkpoint_sha256=WEIGHTS))
    named = of_weights(kept)
    assert find_teacher(named) == FoundTeacher(run_dir / "best.pt", (kept,), WEIGHTS)
    (run_dir / "best.pt").unlink()
    assert find_teacher(named) == FoundTeacher(None, (kept,), WEIGHTS)


@pytest.mark.parametrize("name", ["logits.npy", "rows.npz", "storedlogits.json"])
def test_a_file_of_stored_logits_is_not_taken_for_the_model(tmp_path: Path, name: str) -> None:
    run_dir, kept = write_weights(tmp_path / "RN18"), tmp_path / "kept"
    write_stored_logits(kept, stored_logits(run_dir=str(run_dir), checkpoint="best.pt", checkpoint_sha256=WEIGHTS))
    named = of_weights(kept / name)
    assert find_teacher(named) == FoundTeacher(run_dir / "best.pt", (kept,), WEIGHTS)
    assert teacher_file(named, where="o") == run_dir / "best.pt"


def test_a_foreign_teacher_may_have_a_file_for_each_split(tmp_path: Path) -> None:
    named = foreign(tmp_path / "POSTER", val="1f" * 32, train="2f" * 32)
    kept = (tmp_path / "POSTER" / "train", tmp_path / "POSTER" / "val")
    assert find_teacher(named) == FoundTeacher(None, kept, "1f" * 32)
    assert find_teacher(replace(named, checkpoint_sha256="3f" * 32)).sha256 in {"1f" * 32, "2f" * 32}


def test_a_teacher_of_weight_zero_has_no_share(tmp_path: Path) -> None:
    first = of_weights(tmp_path)
    assert with_a_share([replace(first, weight=0.0), replace(first, weight=1.0)]) == [replace(first, weight=1.0)]
