"""Where the teachers of an ensemble are now, and whether they are still those that it was made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.ensemble import ENSEMBLE_FILE, EnsembleTeacher
from fer_lightning.runs.stored_logits_record import RECORD_FILE, STORED_FILES, StoredLogitsRecord, stored_folders


@dataclass(frozen=True)
class FoundTeacher:
    """What lies where a teacher lay."""

    model: Path | None
    """Checkpoint or ONNX file, which can be inferred again; None where there is none."""
    kept: tuple[Path, ...]
    """Folders of its stored logits, where it was named by them."""
    sha256: str | None
    """Digest of the model as it is now; None where nothing is left of it."""


def with_a_share(teachers: Sequence[EnsembleTeacher]) -> list[EnsembleTeacher]:
    """Return the teachers that have a share; one of weight 0 is never computed."""
    return [teacher for teacher in teachers if teacher.weight > 0]


def _model_below(path: Path, teacher: EnsembleTeacher) -> Path:
    return path / teacher.checkpoint if path.is_dir() else path


def _named(teacher: EnsembleTeacher) -> Path | None:
    """Return the model file that the teacher was named by; None where it was named by stored logits, or is gone."""
    file = _model_below(Path(teacher.given), teacher)
    is_model = teacher.kind != "foreign" and file.name not in STORED_FILES
    return file if is_model and file.is_file() else None


def _records(folders: Sequence[Path]) -> list[StoredLogitsRecord]:
    return [read_artifact(folder / RECORD_FILE, StoredLogitsRecord) for folder in folders]


def find_teacher(teacher: EnsembleTeacher) -> FoundTeacher:
    """Look a teacher up where it was named.

    One that was named by stored logits is looked for where these say that the model is. A foreign teacher has a file for each
    split: it is still there as long as one of its stored logits is of the file that was recorded.

    Raises:
        FerError: the record of its stored logits is damaged.
    """
    named = _named(teacher)
    if named is not None:
        return FoundTeacher(named, (), sha256_of(named))
    kept = tuple(stored_folders(Path(teacher.given)))
    records = _records(kept)
    if not records:
        return FoundTeacher(None, (), None)
    file = _model_below(Path(records[0].run_dir), teacher)
    if file.is_file() and teacher.kind != "foreign":
        return FoundTeacher(file, kept, sha256_of(file))
    digests = [record.checkpoint_sha256 for record in records]
    return FoundTeacher(None, kept, teacher.checkpoint_sha256 if teacher.checkpoint_sha256 in digests else digests[0])


def teacher_file(teacher: EnsembleTeacher, *, where: str) -> Path:
    """Return where the checkpoint or ONNX file of a teacher lies.

    Args:
        teacher: of kind `checkpoint` or `onnx`; stored logits stand for the file that they are of.
        where: the ensemble, for messages.

    Raises:
        FerError: it is gone.
    """
    named = _named(teacher)
    if named is not None:
        return named
    records = _records(stored_folders(Path(teacher.given)))
    file = _model_below(Path(records[0].run_dir if records else teacher.given), teacher)
    if not file.is_file():
        raise FerError(f"{where}: teacher {teacher.name} is gone: no file {file}, seen from this folder")
    return file


def check_teacher_digest(teacher: EnsembleTeacher, file: object, sha256: str, *, where: str) -> None:
    """Refuse a file that has taken the place of a teacher.

    Raises:
        FerError: its digest is not that of `ensemble.json`.
    """
    if sha256 != teacher.checkpoint_sha256:
        raise FerError(
            f"{where}: {file} is no longer the teacher {teacher.name} that the ensemble was made of: its sha256 is {sha256[:12]}, "
            f"that of {ENSEMBLE_FILE} {teacher.checkpoint_sha256[:12]}. Bring the file back, or fuse again"
        )
