"""Reads `ensemble.json` back, and refuses one that could not be computed as it says, or not as one network."""

import math
from collections.abc import Sequence
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.labels import check_class_order
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.ensemble import ENSEMBLE_FILE, Ensemble, EnsembleTeacher
from fer_lightning.runs.ensemble_teachers import teacher_file, with_a_share

ENSEMBLE_ONNX_FILE = "ensemble.onnx"
_SPACES = ("logit", "prob")
_KINDS = ("checkpoint", "onnx", "foreign")
_VIEWS = ("single", "flip", "ten_crop")
_SUM_TOLERANCE = 1e-6


def ensemble_file(path: Path) -> Path:
    """Return the `ensemble.json` that a folder or the file itself stands for."""
    return path if path.name == ENSEMBLE_FILE else path / ENSEMBLE_FILE


def is_ensemble(given: str) -> bool:
    """Tell whether a path names an ensemble: a folder with an `ensemble.json`, or that file."""
    return Path(given).name == ENSEMBLE_FILE or ensemble_file(Path(given)).is_file()


def _check_teacher(teacher: EnsembleTeacher, *, where: str) -> None:
    if teacher.kind not in _KINDS:
        raise FerError(f"{where}.kind is {teacher.kind!r}; expected one of {', '.join(_KINDS)}")
    if not (math.isfinite(teacher.weight) and teacher.weight >= 0):
        raise FerError(f"{where}.weight is {teacher.weight}; a share is finite and not negative")
    temperature = teacher.calibration_temperature
    if not (math.isfinite(temperature) and temperature > 0):
        raise FerError(f"{where}.calibration_temperature is {temperature}; it must be positive and finite")


def _check(ensemble: Ensemble, *, where: str) -> None:
    try:
        check_class_order(ensemble.class_order, where=f"{where}: class_order")
    except ValueError as error:
        raise FerError(str(error)) from error
    for field, value, known in (("space", ensemble.space, _SPACES), ("view", ensemble.view, _VIEWS)):
        if value not in known:
            raise FerError(f"{where}: {field} is {value!r}; expected one of {', '.join(known)}")
    if not ensemble.teachers:
        raise FerError(f"{where}: teachers is empty; an ensemble has at least one")
    for number, teacher in enumerate(ensemble.teachers):
        _check_teacher(teacher, where=f"{where}: teachers.{number}")
    total = math.fsum(teacher.weight for teacher in ensemble.teachers)
    if abs(total - 1) > _SUM_TOLERANCE:
        raise FerError(f"{where}: teachers.weight sums to {total:.9g}; shares sum to 1")
    names = [teacher.name for teacher in ensemble.teachers]
    if len(set(names)) < len(names) or not all(names):
        raise FerError(f"{where}: teachers.name must name each teacher once, got {', '.join(names)}")


def read_ensemble(path: Path, *, option: str) -> Ensemble:
    """Read an ensemble and check that it can be computed.

    Args:
        path: its folder, or the `ensemble.json` in it.
        option: the option that named it, for messages.

    Raises:
        FerError: missing, of another schema version or class order, without teachers, or with weights, temperatures,
            names or a space that contradict themselves; names file and field.
    """
    file = ensemble_file(path)
    if not file.is_file():
        raise FerError(f"{option}: {file.parent} holds no ensemble: there is no {ENSEMBLE_FILE} in it")
    ensemble = read_artifact(file, Ensemble)
    _check(ensemble, where=f"{option}: {file}")
    return ensemble


def fusion_text(space: str, weights: Sequence[float], names: Sequence[str]) -> str:
    """Return what stands where a checkpoint tells its kind of weights, e.g. `logit fusion of 0.4 RN18 + 0.6 B3`."""
    shares = [f"{weight:.4g} {name}" for weight, name in zip(weights, names, strict=True) if weight]
    return f"{space} fusion of {' + '.join(shares)}"


def most_seen(counts: Sequence[int | None]) -> int | None:
    """Return how many rows one of several teachers has seen in training, at most; None where one does not know."""
    known = [count for count in counts if count is not None]
    return max(known) if len(known) == len(counts) else None


def check_network(ensemble: Ensemble, *, where: str) -> list[tuple[EnsembleTeacher, Path]]:
    """Return the teachers that have a share with their checkpoints, if they can be one network, without loading torch.

    Args:
        ensemble: as read.
        where: for messages.

    Raises:
        FerError: a teacher that is no checkpoint or is gone, or an ensemble of several views.
    """
    if ensemble.view != "single":
        raise FerError(
            f"{where}: weights and calibration are those of view {ensemble.view}, and a network sees each picture once; "
            "fuse the teachers with evaluate.view=single"
        )
    for teacher in with_a_share(ensemble.teachers):
        if teacher.kind != "checkpoint":
            raise FerError(
                f"{where}: teacher {teacher.name} ({teacher.given}) is of kind {teacher.kind}, and a network is made of checkpoints; "
                "name its run or checkpoint among ensemble.teachers, or fuse stored logits: task=evaluate with the ensemble's folder"
            )
    return [(teacher, teacher_file(teacher, where=where)) for teacher in with_a_share(ensemble.teachers)]
