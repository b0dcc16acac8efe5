"""The network of an ensemble: its teachers' checkpoints, proven to be those that it was made of."""

from dataclasses import dataclass
from pathlib import Path

from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.models.fused_classifier import FusedClassifier
from fer_lightning.runs.checkpoint import ClassifierCheckpoint, read_checkpoint
from fer_lightning.runs.ensemble import Ensemble, EnsembleTeacher
from fer_lightning.runs.ensemble_file import check_network, ensemble_file, read_ensemble
from fer_lightning.runs.ensemble_teachers import check_teacher_digest, with_a_share


@dataclass(frozen=True)
class EnsembleNetwork:
    """An ensemble whose teachers have been read and checked."""

    path: Path
    """Its `ensemble.json`."""
    sha256: str
    """Of that file."""
    ensemble: Ensemble
    canonical: CanonicalSpec
    """The picture that all its teachers expect."""
    checkpoints: tuple[ClassifierCheckpoint, ...]
    """Of the teachers that have a share."""

    def build(self) -> FusedClassifier:
        """Return the network in evaluation mode."""
        teachers = with_a_share(self.ensemble.teachers)
        fused = FusedClassifier(
            [checkpoint.build() for checkpoint in self.checkpoints],
            space=self.ensemble.space,
            weights=[teacher.weight for teacher in teachers],
            temperatures=[teacher.calibration_temperature for teacher in teachers],
        )
        return fused.eval()


def _check_alike(teachers: list[EnsembleTeacher], checkpoints: tuple[ClassifierCheckpoint, ...], *, where: str) -> None:
    first = vars(checkpoints[0].canonical)
    for teacher, checkpoint in zip(teachers, checkpoints, strict=True):
        if checkpoint.canonical.digest() == checkpoints[0].canonical.digest():
            continue
        own = vars(checkpoint.canonical)
        differing = ", ".join(f"{name} {first[name]} and {own[name]}" for name in first if first[name] != own[name])
        raise FerError(
            f"{where}: one network sees one picture, but {teachers[0].name} and {teacher.name} expect different ones ({differing}). "
            "Such an ensemble is fused from stored logits: task=evaluate with the ensemble's folder"
        )


def read_ensemble_network(path: Path, *, option: str) -> EnsembleNetwork:
    """Read an ensemble and the checkpoints of its teachers.

    Args:
        path: its folder, or the `ensemble.json` in it.
        option: the option that named it, for messages.

    Raises:
        FerError: an ensemble that is damaged, or no network (see `check_network`); a teacher that is gone or was replaced; teachers
            that expect different pictures.
    """
    ensemble = read_ensemble(path, option=option)
    file = ensemble_file(path)
    where, teachers = f"{option}: {file}", with_a_share(ensemble.teachers)
    checkpoints = []
    for teacher, teacher_path in check_network(ensemble, where=where):
        checkpoint = read_checkpoint(teacher_path, option=option)
        check_teacher_digest(teacher, teacher_path, checkpoint.sha256, where=where)
        checkpoints.append(checkpoint)
    _check_alike(teachers, tuple(checkpoints), where=where)
    return EnsembleNetwork(file, sha256_of(file), ensemble, checkpoints[0].canonical, tuple(checkpoints))
