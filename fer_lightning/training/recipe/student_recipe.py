"""Everything that decides what a student learns: a recipe as any network has one, and a teacher."""

from dataclasses import dataclass, field

from fer_lightning.training.distillation.config import DistillationConfig
from fer_lightning.training.recipe.learning_recipe import LearningRecipe


@dataclass(frozen=True, kw_only=True)
class TeacherFusion:
    """How logits of one or several teachers become those that the student follows."""

    space: str = "logit"
    """`logit` or `prob`: where several teachers are averaged."""
    weights: list[float] = field(default_factory=lambda: [1.0])
    """Share of each teacher whose logits arrive by themselves."""
    temperatures: list[float] = field(default_factory=lambda: [1.0])
    """Divide each teacher's logits before they are averaged."""
    ensemble_temperature: float = 1.0
    """Divides the average."""


@dataclass(frozen=True, kw_only=True)
class StudentRecipe(LearningRecipe):
    """What `StudentModule` needs to train."""

    distillation: DistillationConfig
    fusion: TeacherFusion = field(default_factory=TeacherFusion)
    kd_temperature: float
    """In effect: the configured one, or the one that the teacher's entropy asks for."""
    ensemble_sha256: str | None = None
    """Of the live ensemble's `ensemble.json`."""
    num_rows: int
    """Rows of the manifest."""
