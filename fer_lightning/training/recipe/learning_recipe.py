"""Everything that decides what a network learns, as one value that checkpoints carry in plain form."""

from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import TypeAdapter

from fer_lightning.models.classifier import ClassifierSpec
from fer_lightning.training.config import StageConfig, WatchdogConfig
from fer_lightning.training.recipe.config import LossConfig, MixingConfig, OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class PhaseSpan:
    """Epochs under one learning-rate schedule."""

    first_epoch: int
    """0-based."""
    num_epochs: int
    lr_ratio: float
    """Its schedule starts at this share of the configured rates: 1, and less for extra epochs."""


@dataclass(frozen=True, kw_only=True)
class LearningRecipe:
    """What every `LearnerModule` needs to train."""

    classifier: ClassifierSpec
    class_counts: list[int]
    """Train rows of each class."""
    steps_per_epoch: int
    """Optimizer steps."""
    phases: list[PhaseSpan]
    """In order, without gaps; the first is the run's own, the others are extra epochs."""
    seed: int
    loss: LossConfig = field(default_factory=LossConfig)
    mixing: MixingConfig = field(default_factory=MixingConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    stage: StageConfig = field(default_factory=StageConfig)
    watchdog: WatchdogConfig = field(default_factory=WatchdogConfig)
    class_weights: list[float] | None = None
    """Loss weight of each class, or None for 1."""
    weights_from_epoch: int = 0
    """First epoch in which `class_weights` count."""

    @property
    def num_epochs(self) -> int:
        """Epochs of all phases."""
        return self.phases[-1].first_epoch + self.phases[-1].num_epochs

    def to_dict(self) -> dict[str, Any]:
        """Return plain scalars, lists and dicts: checkpoints load with `weights_only=True`."""
        plain: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return plain

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the recipe of `to_dict`."""
        return TypeAdapter(cls).validate_python(values)
