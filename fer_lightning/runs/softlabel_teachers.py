"""Where the teachers of soft labels are now, and whether they are still those that taught."""

from dataclasses import dataclass
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.ensemble import EnsembleTeacher
from fer_lightning.runs.softlabels import SoftLabels
from fer_lightning.runs.stored_logits import RECORD_FILE, StoredLogitsRecord


@dataclass(frozen=True)
class FoundTeacher:
    """What lies where a teacher lay."""

    model: Path | None
    """Checkpoint or ONNX file, which can be inferred again; None where there is none."""
    kept: tuple[Path, ...]
    """Folders of its stored logits, where it was named by them."""
    sha256: str | None
    """Digest of the model as it is now; None where nothing is left of it."""


def _kept_folders(given: Path) -> tuple[Path, ...]:
    records = [given / RECORD_FILE, *sorted(given.glob(f"*/{RECORD_FILE}"))]
    return tuple(record.parent for record in records if record.is_file())


def find_teacher(teacher: EnsembleTeacher) -> FoundTeacher:
    """Look a teacher up where it was named.

    One that was named by stored logits is looked for where these say that the model is.

    Raises:
        FerError: the record of its stored logits is damaged.
    """
    given = Path(teacher.given)
    file = given / teacher.checkpoint if given.is_dir() else given
    if file.is_file() and teacher.kind != "foreign":
        return FoundTeacher(file, (), sha256_of(file))
    kept = _kept_folders(given)
    records = [read_artifact(folder / RECORD_FILE, StoredLogitsRecord) for folder in kept]
    if not records:
        return FoundTeacher(None, (), None)
    file = Path(records[0].run_dir) / records[0].checkpoint
    if file.is_file() and teacher.kind != "foreign":
        return FoundTeacher(file, kept, sha256_of(file))
    others = [record.checkpoint_sha256 for record in records if record.checkpoint_sha256 != teacher.checkpoint_sha256]
    return FoundTeacher(None, kept, others[0] if others else records[0].checkpoint_sha256)


def check_teachers(softlabels: SoftLabels, *, option: str) -> tuple[str, ...]:
    """Compute the digests of the teachers' files again, where these are there.

    Args:
        softlabels: whose teachers.
        option: the option that named the soft labels, for messages.

    Returns:
        Names of the teachers of which nothing is left to compare.

    Raises:
        FerError: another model lies where a teacher lay.
    """
    absent = []
    for teacher in softlabels.record.teachers:
        found = find_teacher(teacher)
        if found.sha256 is None:
            absent.append(teacher.name)
        elif found.sha256 != teacher.checkpoint_sha256:
            raise FerError(
                f"{option}: {found.model or found.kept[0]} is another model than the one that taught as {teacher.name}: its SHA-256 "
                f"is {found.sha256[:12]}, that of the teacher was {teacher.checkpoint_sha256[:12]}. Export soft labels of the "
                "teachers as they are now"
            )
    return tuple(absent)
