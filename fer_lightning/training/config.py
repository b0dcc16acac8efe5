"""Options of training: stage, watchdog, calibration, trainer; what is taught is in `recipe/config.py`."""

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
    freeze_backbone_epochs: int = 0
    """First epochs in which only neck and head are trained."""
    freeze_blocks: int = 0
    """First layers of the backbone (as timm counts them: stem, then blocks) that stay frozen for
    `freeze_blocks_epochs`."""
    freeze_blocks_epochs: int = 0
    """Epochs, from the first, in which `freeze_blocks` layers are frozen."""
    patience: int | None = None
    """Stop after this many epochs without a better val macro-F1; epochs with frozen layers do not count. Unset: train
    all epochs."""
    polish_lr_ratio: float = 0.1
    """Extra epochs of a finished run (`stage.epochs` raised on resume) start at this share of `optimizer.lr`."""

    def __post_init__(self) -> None:
        """Check ranges, and that the name can be part of a folder name."""
        if not self.name or not all(character.isalnum() or character in "-_." for character in self.name):
            raise ValueError(f"stage.name may hold letters, digits and - _ . but is {self.name!r}")
        for name, least in (("image_size", 16), ("epochs", 1), ("batch_size", 2), ("accumulate", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"stage.{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("freeze_backbone_epochs", "freeze_blocks", "freeze_blocks_epochs"):
            if getattr(self, name) < 0:
                raise ValueError(f"stage.{name} must be at least 0, got {getattr(self, name)}")
        if (self.freeze_blocks > 0) != (self.freeze_blocks_epochs > 0):
            raise ValueError("stage.freeze_blocks and stage.freeze_blocks_epochs belong together")
        if self.freeze_blocks and self.freeze_blocks_epochs <= self.freeze_backbone_epochs:
            raise ValueError(
                f"stage.freeze_blocks_epochs={self.freeze_blocks_epochs} would have no effect: the whole backbone is frozen "
                f"for the first stage.freeze_backbone_epochs={self.freeze_backbone_epochs} epochs"
            )
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"stage.patience must be at least 1 or unset, got {self.patience}")
        if not 0 < self.polish_lr_ratio <= 1:
            raise ValueError(f"stage.polish_lr_ratio must lie in (0, 1], got {self.polish_lr_ratio}")


@dataclass(kw_only=True)
class WatchdogConfig:
    """What is done when a training collapses: back to the best checkpoint, with a smaller margin and learning rate."""

    enabled: bool = True
    """Watch; false: a collapse is only recorded by the history's figures, and a loss that is not finite ends the run."""
    drop: float = 0.15
    """A val macro-F1 this far below the best one is a collapse; so is a loss or a weight that is not finite."""
    margin_factor: float = 0.5
    """The margin is multiplied by this after each collapse."""
    lr_factor: float = 0.5
    """The learning rates are multiplied by this after each collapse."""
    max_rollbacks: int = 3
    """One more collapse ends the run with exit code 5."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("drop", "margin_factor", "lr_factor"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"watchdog.{name} must lie in (0, 1], got {getattr(self, name)}")
        if self.max_rollbacks < 1:
            raise ValueError(f"watchdog.max_rollbacks must be at least 1, got {self.max_rollbacks}")


class CalibrationMethod(Enum):
    """How logits become calibrated log-probabilities; see `functional.calibrators`."""

    none = "none"
    temperature = "temperature"
    temperature_grid = "temperature_grid"
    minority_temperature = "minority_temperature"
    per_class_temperature = "per_class_temperature"
    vector = "vector"
    matrix = "matrix"
    dirichlet = "dirichlet"
    isotonic = "isotonic"
    histogram = "histogram"
    ensemble_temperature = "ensemble_temperature"


@dataclass(kw_only=True)
class CalibrationConfig:
    """Post-hoc calibration, fitted on val only."""

    method: CalibrationMethod = CalibrationMethod.temperature
    """Which calibrator is fitted on val; `temperature`: one scalar at the exact minimum of the NLL; `none`: the logits as they
    are."""
    num_folds: int = 5
    """Folds of the cross-fit that gives the scaled val figures."""
    num_bins: int = 15
    """Bins of ECE and of the reliability diagram."""
    conformal_alpha: float = 0.1
    """Share of rows whose true class a conformal set may miss."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.num_folds < 2 or self.num_bins < 1:
            raise ValueError("calibration.num_folds must be at least 2 and calibration.num_bins at least 1")
        if not 0 < self.conformal_alpha < 1:
            raise ValueError(f"calibration.conformal_alpha must lie in (0, 1), got {self.conformal_alpha}")


ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
STRATEGIES = ("auto", "ddp", "fsdp")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")


class WeightStatistics(Enum):
    """Whose weights are described after each epoch."""

    none = "none"
    head = "head"
    all = "all"


@dataclass(kw_only=True)
class TrainerConfig:
    """The machine: device, precision, speed switches."""

    accelerator: str = "auto"
    """Lightning accelerator: auto, cpu, gpu (or cuda), mps."""
    devices: int = 1
    """Number of devices on each machine."""
    num_nodes: int = 1
    """Number of machines."""
    strategy: str = "auto"
    """How several devices share the work: auto (one device, or ddp), ddp (each holds the network), fsdp (GPUs share it)."""
    sync_batchnorm: bool = False
    """BatchNorm statistics over all devices (GPUs only); otherwise each device has its own, as its batches are its own."""
    precision: str = "32-true"
    """Lightning precision, e.g. 32-true, bf16-mixed, 16-mixed (no CPU). The head always computes in float32."""
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
    gradient_norms: bool = False
    """Record the gradient norm of each step: mean, largest and share of clipped steps per epoch, and a TensorBoard curve."""
    weight_statistics: WeightStatistics = WeightStatistics.none
    """Write weightstatistics.csv after each epoch: mean, deviation, range and norm of every tensor, of the head's or none."""

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
        if self.strategy not in STRATEGIES:
            raise ValueError(f"trainer.strategy must be one of {', '.join(STRATEGIES)}, got {self.strategy!r}")
        if self.devices < 1 or self.num_nodes < 1:
            raise ValueError("trainer.devices and trainer.num_nodes must be at least 1")
        if self.accelerator == "cpu" and (self.strategy == "fsdp" or self.sync_batchnorm):
            raise ValueError(
                "trainer.strategy=fsdp and trainer.sync_batchnorm=true need GPUs; trainer.accelerator is cpu"
            )
        if self.accelerator == "cpu" and self.precision == "16-mixed":
            raise ValueError(
                "trainer.precision=16-mixed needs a GPU; trainer.accelerator is cpu. Use bf16-mixed or 32-true"
            )
