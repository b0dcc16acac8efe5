"""The run epoch by epoch: `history.json`, and `timings.json` for what depends on the clock."""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from fer_lightning.runs.artifacts import STRICT, Metrics


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """What the watchdog did at the end of an epoch."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    reason: str
    """Why the epoch counts as a collapse, with its figure."""
    to_epoch: int
    """0-based epoch whose best weights were taken back."""
    margin_factor: float
    """Of the configured margin, from here on."""
    lr_factor: float
    """Of the configured learning rates, from here on."""


@dataclass(frozen=True, kw_only=True)
class GradientNorms:
    """Gradient norms of an epoch's optimizer steps, before clipping."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    mean: float
    largest: float
    clipped_share: float
    """Share of steps whose norm was above `optimizer.gradient_clip_norm`; 0 without clipping."""


@dataclass(frozen=True, kw_only=True)
class LessonRecord:
    """What a student was taught in an epoch, beside the total loss."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    ce_loss: float
    """Mean loss of the labels, before its weight."""
    distillation_loss: float
    """Mean of the objective, before its weight."""
    negative_loss: float
    """Mean of negative learning, before its weight."""
    distillation_weight: float
    """Weight of the objective after the epoch's last step."""
    kd_temperature: float | None
    """After the epoch's last step; None without a teacher."""


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch of `history.json`; nothing that depends on the clock."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    epoch: int
    phase: str
    """What was trained: `head` (backbone frozen), `late blocks`, `all`; `polish` in extra epochs."""
    optimizer_steps: int
    """Steps taken since the start of the run."""
    train_loss: float
    train_accuracy: float
    """Of the augmented (and mixed) training rows, with the weights of each step."""
    margin_rad: float
    scale: float
    lr_backbone: float
    """Largest learning rate of the backbone after the epoch's last step."""
    lr_head: float
    """That of neck and head."""
    row_coverage: float
    """Share of the train rows seen in this epoch."""
    lesson: LessonRecord | None
    """Of students only."""
    gradient_norms: GradientNorms | None
    """With `trainer.gradient_norms` only."""
    calibration_temperature: float | None
    """Of calibrations that are one temperature."""
    at_bound: bool
    val_raw: Metrics
    """Of the averaged weights, where there are any."""
    val_scaled: Metrics | None
    is_best: bool
    rollback: Rollback | None


@dataclass(frozen=True, kw_only=True)
class History:
    """`history.json`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 4
    monitor: str
    epochs: list[EpochRecord]


@dataclass(frozen=True, kw_only=True)
class EpochTiming:
    """Seconds and throughput of one epoch."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    epoch: int
    epoch_seconds: float
    images_per_second: float
    """Training images, over the time spent training."""
    data_wait_share: float
    """Share of the training time spent waiting for the loader."""


@dataclass(frozen=True, kw_only=True)
class Timings:
    """`timings.json`: everything that depends on the clock."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    epochs: list[EpochTiming]
