"""Another model where a teacher of soft labels lay is refused."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from fer_lightning.errors import FerError
from fer_lightning.runs.ensemble import EnsembleTeacher
from fer_lightning.runs.softlabel_teachers import check_teachers
from fer_lightning.runs.softlabels import SoftLabels
from fer_lightning.runs.stored_logits import write_stored_logits
from tests.runs.softlabel_examples import make_softlabels, teacher, write_manifest
from tests.runs.stored_examples import stored_logits

OPTION = "distillation.softlabels"
WEIGHTS = hashlib.sha256(b"weights").hexdigest()


def taught_by(folder: Path, *teachers: EnsembleTeacher) -> SoftLabels:
    return make_softlabels(write_manifest(folder / "m.csv"), teachers=list(teachers))


def write_weights(folder: Path, content: bytes = b"weights") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "best.pt").write_bytes(content)
    return folder


def test_another_checkpoint_under_the_same_name(tmp_path: Path) -> None:
    run_dir = write_weights(tmp_path / "RN18")
    of_it = teacher(given=str(run_dir), checkpoint_sha256=WEIGHTS, weight=0.5)
    gone = teacher(name="B3", given=str(tmp_path / "B3"), weight=0.5)
    assert check_teachers(taught_by(tmp_path, of_it, gone), option=OPTION) == ("B3",)
    write_weights(run_dir, b"other weights")
    with pytest.raises(FerError, match=r"best\.pt is another model than the one that taught as RN18"):
        check_teachers(taught_by(tmp_path, of_it, gone), option=OPTION)


def test_another_file_of_a_foreign_teacher(tmp_path: Path) -> None:
    for split in ("train_1", "val_1"):
        write_stored_logits(
            tmp_path / "POSTER" / split, stored_logits(kind="foreign", checkpoint="p.csv", checkpoint_sha256="1f" * 32)
        )
    foreign = teacher(name="POSTER", given=str(tmp_path / "POSTER"), kind="foreign", checkpoint_sha256="1f" * 32)
    assert check_teachers(taught_by(tmp_path, foreign), option=OPTION) == ()
    with pytest.raises(FerError, match="POSTER"):
        check_teachers(taught_by(tmp_path, replace(foreign, checkpoint_sha256="2f" * 32)), option=OPTION)
