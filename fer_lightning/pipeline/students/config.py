"""The typed run of a student: what any training takes, and what it is taught beside labels."""

from dataclasses import dataclass, field
from typing import Any

from fer_lightning.data.config import AugmentationKind
from fer_lightning.pipeline.config import TrainingRun
from fer_lightning.training.distillation.config import (
    DistillationConfig,
    DistillationObjective,
    TargetClass,
    TeacherWeighting,
    TemperatureRule,
)

_STUDENT_LOSS = "cross-entropy"
_LABELS_ONLY: dict[str, Any] = {"name": "labels", "objective": DistillationObjective.none, "ce_weight": 1.0}


@dataclass(kw_only=True)
class DistillStudentRun(TrainingRun):
    """Train a student on labels and on what teachers say of the same rows.

    Its name is e.g. `MNV3_mobilenetv3_large_100_seed1337_student_img224_kd`.
    """

    task: str = "distill_student"
    """The verb."""
    distillation: DistillationConfig = field(default_factory=lambda: DistillationConfig(**_LABELS_ONLY))

    @property
    def folder(self) -> str:
        """The folder of runs of this kind below `run.root`."""
        return "students"

    def __post_init__(self) -> None:
        """Check what spans the lesson and other groups."""
        super().__post_init__()
        lesson, objective = self.distillation, self.distillation.objective.value
        lesson.check_taught()
        if self.mixing.enabled and lesson.distils and lesson.ensemble is None:
            raise ValueError(
                "mixing makes pictures that no stored logits are of: distillation.ensemble=<folder> lets the teachers see them, "
                "or use mixing=none"
            )
        if self.mixing.enabled and lesson.decoupled and lesson.target_class is TargetClass.label:
            raise ValueError(
                f"distillation.objective={objective} sets one class apart, and a mixed picture has two; use "
                "distillation.target_class=teacher, another objective, or mixing=none"
            )
        if self.mixing.enabled and lesson.teacher_weighting is TeacherWeighting.loss:
            raise ValueError(
                "distillation.teacher_weighting=loss is by the label of a row, and a mixed picture has two"
            )
        if self.mixing.enabled and lesson.negative_weight:
            raise ValueError("distillation.negative_weight is of a row's own picture; use mixing=none")
        if lesson.views and self.augmentation.kind in {AugmentationKind.strong, AugmentationKind.custom}:
            raise ValueError(
                "distillation.views shows pictures as the teachers saw them; use augmentation=light (colours only) or none"
            )
        learned = lesson.distils and lesson.temperature_rule is TemperatureRule.curriculum
        if learned and self.trainer.strategy == "fsdp":
            raise ValueError(
                "distillation.temperature_rule=curriculum learns one number, which trainer.strategy=fsdp cannot share out; "
                "use trainer.strategy=ddp"
            )

    def _taught_how(self) -> list[str]:
        loss = [] if self.loss.name == _STUDENT_LOSS else [self.loss.name]
        return [self.distillation.name, *loss]
