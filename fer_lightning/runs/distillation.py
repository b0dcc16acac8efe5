"""`distillation.json` of a student's run: who taught it, what of, and how softly."""

import math
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from fer_lightning.runs.artifacts import STRICT
from fer_lightning.runs.ensemble import EnsembleTeacher

DISTILLATION_FILE = "distillation.json"

_MAY_DIFFER = {"source", "teachers", "teacher_parameters", "verified_rows", "max_abs_difference", "targets"}
"""Of a lesson that goes on: places, and what is only told. Digests of soft labels or ensemble may not."""
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class TargetSharpness:
    """How soft the targets of the train rows are at the KD temperature."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    mean_max_prob: float
    mean_true_prob: float
    """Mean probability of the label."""
    mean_entropy_share: float
    """Mean entropy, as a share of that of the uniform distribution."""


@dataclass(frozen=True, kw_only=True)
class DistillationRecord:
    """`distillation.json`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    teacher: str
    """`labels only`, `soft labels`, `live ensemble` or `own former epoch`."""
    source: str | None
    """Folder of soft labels or ensemble, as named."""
    source_sha256: str | None
    """Of its `hash_manifest.json`, or of `ensemble.json` where the ensemble is live: the same for a resumed run."""
    ensemble: str | None
    """Name of the ensemble."""
    ensemble_sha256: str | None
    space: str | None
    teachers: list[EnsembleTeacher]
    teacher_parameters: int | None
    """Of all teachers that have a share; None where one of them lies in no run directory."""
    teacher_calibration: str
    teacher_temperatures: list[float]
    """By which the logits of the teachers that have a share are divided before they are averaged."""
    ensemble_temperature: float
    """By which the average is divided; 1 unless `teacher_calibration` is `temperature`."""
    kd_temperature: float | None
    """In effect at the start; None without a teacher."""
    views: list[str]
    """Ways in which the pictures were seen whose logits are taught; empty where pictures are augmented at random."""
    rows_taught: int
    """Train rows with teacher logits from the start."""
    rows_without: int
    verified_rows: int
    """Inferred again before training and compared with the soft labels."""
    max_abs_difference: float
    """Largest difference of a logit among them; 0 where none was verified."""
    targets: TargetSharpness | None
    """Of stored soft labels."""


def _same(left: object, right: object) -> bool:
    """Whether two values are equal; numbers but for rounding: a mean over rows depends on the number of threads."""
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=_ROUNDING)
    return left == right


def changes_of_lesson(before: DistillationRecord, now: DistillationRecord) -> list[str]:
    """Return what has changed between two lessons of one student, such that they teach something else."""
    then, given = vars(before), vars(now)
    differing = [name for name, value in then.items() if name not in _MAY_DIFFER and not _same(given[name], value)]
    return [f"{name} was {then[name]}, is {given[name]}" for name in differing]
