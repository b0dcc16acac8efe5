"""What a student is taught by, ready for its training: tables for the loader, and how teachers become one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.batches.row_logits import RowLogits
from fer_lightning.runs.distillation import DistillationRecord
from fer_lightning.training.distillation.config import DistillationConfig
from fer_lightning.training.recipe.student_recipe import TeacherFusion


@dataclass(frozen=True, eq=False)
class TeacherSignal:
    """What a student is taught by."""

    config: DistillationConfig
    row_logits: RowLogits | None
    """Stored logits of the train rows."""
    negatives: NDArray[np.bool_] | None
    """(n, 7) emotions that a train row does not show."""
    fusion: TeacherFusion
    kd_temperature: float
    """In effect."""
    ensemble_sha256: str | None
    """Of a live ensemble."""
    record: DistillationRecord
