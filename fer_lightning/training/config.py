"""Options of training: stage, loss, imbalance, optimizer, calibration, trainer."""

from dataclasses import dataclass
from enum import Enum


@dataclass(kw_only=True)
class StageConfig:
    """One training stage: resolution, length, and where its weights start."""

    name: str = "stageA"
    """Part of the run name."""
    image_size: int = 224
    """Side of the canonical square in pixels."""
    epochs: int = 60
    """Number of epochs."""
    batch_size: int = 64
    """Rows per device and micro-batch."""
    accumulate: int = 1
    """Micro-batches per optimizer step; the last step of an epoch takes what is left."""
    needs_init: bool = False
    """Refuse to start without `init_from`: a second stage is no first one."""
    init_from: str | None = None
    """Run directory or checkpoint whose weights start this new run (a fresh schedule; the source is recorded)."""

    def __post_init__(self) -> None:
        """Check ranges, and that the name can be part of a folder name."""
        if not self.name or not all(character.isalnum() or character in "-_." for character in self.name):
            raise ValueError(f"stage.name may hold letters, digits and - _ . but is {self.name!r}")
        for name, least in (("image_size", 16), ("epochs", 1), ("batch_size", 2), ("accumulate", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"stage.{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(kw_only=True)
class LossConfig:
    """ArcFace on the cosine head; margin 0 is the plain cosine loss."""

    scale: float = 30.0
    """Logits are scale x cosine."""
    margin_rad: float = 0.35
    """Angular margin in radians at the end of the ramp."""
    ramp_start_epoch: int = 5
    """Last epoch at margin 0 (the same head, plain logits); -1 with `ramp_end_epoch` -1: the full margin at once."""
    ramp_end_epoch: int = 15
    """First epoch at the full margin, linear in between; where it equals the start, the epoch after it."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.scale <= 0:
            raise ValueError(f"loss.scale must be positive, got {self.scale}")
        if not 0 <= self.margin_rad < 1.5708:
            raise ValueError(f"loss.margin_rad must lie in [0, pi/2), got {self.margin_rad}")
        if not -1 <= self.ramp_start_epoch <= self.ramp_end_epoch:
            raise ValueError(
                f"loss.ramp_start_epoch={self.ramp_start_epoch} must lie in -1..ramp_end_epoch={self.ramp_end_epoch}"
            )


class ClassWeights(Enum):
    """How the loss weighs classes."""

    none = "none"
    effective_number = "effective_number"
    inverse_frequency = "inverse_frequency"


class Sampler(Enum):
    """How often classes and sources are drawn."""

    shuffle = "shuffle"
    class_balanced = "class_balanced"
    source_class_balanced = "source_class_balanced"


class RowWeights(Enum):
    """What the manifest's `weight` column is used for."""

    none = "none"
    sampler = "sampler"
    loss = "loss"


@dataclass(kw_only=True)
class ImbalanceConfig:
    """Correction of unequal counts: by sampling, by class weights or by row weights; several only when asked for by name."""

    sampler: Sampler = Sampler.shuffle
    """`shuffle`: every row once an epoch. `class_balanced`: every class equally often. `source_class_balanced`: also,
    within a class, each of its sources."""
    min_per_class: int = 0
    """At least this many rows of every class in each batch, the rest at random; 0: no such demand."""
    row_weights: RowWeights = RowWeights.none
    """What the manifest's `weight` column does: nothing; `sampler`: rows are drawn in its proportions (0: never);
    `loss`: it multiplies each row's loss, divided by its mean over the train rows."""
    class_weights: ClassWeights = ClassWeights.none
    """Class weights of the loss, mean 1."""
    beta: float = 0.9999
    """Effective number of samples: beta."""
    power: float = 0.6
    """Inverse frequency: weight = frequency ** -power."""
    allow_both: bool = False
    """Permit a sampler and weights, or class weights and row weights, together."""

    def __post_init__(self) -> None:
        """Check ranges; refuse two samplers, and a double correction."""
        if self.min_per_class < 0:
            raise ValueError(f"imbalance.min_per_class must be at least 0, got {self.min_per_class}")
        if not 0 <= self.beta < 1:
            raise ValueError(f"imbalance.beta must lie in [0, 1), got {self.beta}")
        samplers = {
            f"imbalance.sampler={self.sampler.value}": self.sampler is not Sampler.shuffle,
            f"imbalance.min_per_class={self.min_per_class}": self.min_per_class > 0,
            "imbalance.row_weights=sampler": self.row_weights is RowWeights.sampler,
        }
        chosen = [option for option, on in samplers.items() if on]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} are different ways to draw rows; choose one")
        if self.class_weights is not ClassWeights.none:
            chosen.append(f"imbalance.class_weights={self.class_weights.value}")
        if self.row_weights is RowWeights.loss:
            chosen.append("imbalance.row_weights=loss")
        if len(chosen) > 1 and not self.allow_both:
            raise ValueError(
                f"{' and '.join(chosen)} correct the same imbalance twice; "
                "choose one, or ask for both with imbalance.allow_both=true"
            )


class OptimizerName(Enum):
    """Optimizers of the documents."""

    adamw = "adamw"
    adamw_safe = "adamw_safe"
    sgd = "sgd"


@dataclass(kw_only=True)
class OptimizerConfig:
    """Optimizer and its learning-rate schedule (linear warm-up, cosine to min_lr, by optimizer step)."""

    name: OptimizerName = OptimizerName.adamw
    """`adamw`, `adamw_safe` (no fused or foreach kernels) or `sgd`."""
    lr: float = 3e-4
    """Learning rate after warm-up."""
    min_lr: float = 1e-5
    """Learning rate at the end."""
    weight_decay: float = 0.05
    """Decay of weights; biases and normalisation parameters are not decayed."""
    warmup_epochs: float = 2.0
    """Length of the linear warm-up."""
    momentum: float = 0.9
    """SGD only."""
    gradient_clip_norm: float | None = None
    """Largest gradient norm of a step; unset: no clipping."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 <= self.min_lr <= self.lr or self.lr <= 0:
            raise ValueError(f"optimizer needs 0 <= min_lr <= lr and lr > 0, got min_lr={self.min_lr}, lr={self.lr}")
        if self.warmup_epochs < 0 or self.weight_decay < 0:
            raise ValueError("optimizer.warmup_epochs and optimizer.weight_decay must be at least 0")
        if self.gradient_clip_norm is not None and self.gradient_clip_norm <= 0:
            raise ValueError(f"optimizer.gradient_clip_norm must be positive, got {self.gradient_clip_norm}")


class CalibrationMethod(Enum):
    """How logits are calibrated after training."""

    none = "none"
    temperature = "temperature"


@dataclass(kw_only=True)
class CalibrationConfig:
    """Post-hoc calibration, fitted on val only."""

    method: CalibrationMethod = CalibrationMethod.temperature
    """`temperature`: one scalar at the exact minimum of the NLL; `none`: temperature 1."""
    num_folds: int = 5
    """Folds of the cross-fit that gives the scaled val figures."""
    num_bins: int = 15
    """Bins of ECE and of the reliability diagram."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.num_folds < 2 or self.num_bins < 1:
            raise ValueError("calibration.num_folds must be at least 2 and calibration.num_bins at least 1")


ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")


@dataclass(kw_only=True)
class TrainerConfig:
    """The machine: device, precision, speed switches."""

    accelerator: str = "auto"
    """Lightning accelerator: auto, cpu, gpu (or cuda), mps."""
    devices: int = 1
    """Number of devices."""
    precision: str = "32-true"
    """Lightning precision, e.g. 32-true, bf16-mixed, 16-mixed. The head always computes in float32."""
    deterministic: bool = True
    """Deterministic kernels: a CPU run repeats bit for bit."""
    channels_last: bool = True
    """Channels-last memory format."""
    compile: bool = False
    """torch.compile the network."""
    checkpoint_every_minutes: float | None = 15.0
    """Write checkpoint_last.pt inside an epoch too, when the last one is this old, so that a run killed there goes on
    with its next batch; unset: after each epoch only. Never changes results."""
    onnx: bool = True
    """Export best.onnx and last.onnx at the end."""

    def __post_init__(self) -> None:
        """Check names and ranges."""
        if self.accelerator not in ACCELERATORS:
            raise ValueError(f"trainer.accelerator must be one of {', '.join(ACCELERATORS)}, got {self.accelerator!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"trainer.precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.checkpoint_every_minutes is not None and self.checkpoint_every_minutes <= 0:
            raise ValueError(
                f"trainer.checkpoint_every_minutes must be positive or unset, got {self.checkpoint_every_minutes}"
            )
        if self.devices != 1:
            raise ValueError(f"trainer.devices={self.devices}: training on several devices is not supported yet; use 1")
