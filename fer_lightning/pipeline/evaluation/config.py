"""The typed runs that judge models: evaluate, calibrate, robustness."""

from dataclasses import dataclass, field
from enum import Enum

from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.runs.config import RunConfig
from fer_lightning.training.config import ACCELERATORS, CalibrationConfig, CalibrationMethod


class View(Enum):
    """From how many crops of a picture its logits are averaged."""

    single = "single"
    flip = "flip"
    ten_crop = "ten_crop"


class Corruption(Enum):
    """What a camera, a codec or the world does to a picture before it is prepared."""

    blur = "blur"
    noise = "noise"
    gamma = "gamma"
    jpeg = "jpeg"
    grey = "grey"
    low_resolution = "low_resolution"
    occlusion = "occlusion"


@dataclass(kw_only=True)
class EvaluationCalibration:
    """How logits are calibrated: as the model's run did, unless asked otherwise."""

    method: CalibrationMethod | None = None
    """Unset: the method that the model's run has fitted, or temperature where it has fitted none. Another one can be fitted
    on val rows only."""
    num_folds: int = 5
    """Folds of the cross-fit of val rows."""
    num_bins: int = 15
    """Bins of ECE and of the reliability diagram."""
    conformal_alpha: float = 0.1
    """Share of rows whose true class a conformal set may miss."""

    def __post_init__(self) -> None:
        """Check as training does."""
        self.settled(None)

    def settled(self, recorded: str | None) -> CalibrationConfig:
        """Return the options with a method.

        Args:
            recorded: method that the model's run has fitted.
        """
        method = self.method or CalibrationMethod(recorded or "temperature")
        return CalibrationConfig(**{**vars(self), "method": method})


@dataclass(kw_only=True)
class GatesConfig:
    """Limits that a candidate has to keep, on the same rows as a reference; a broken one is exit code 3.

    Figures are calibrated where a calibration is kept with the model, not where this command fits one.
    """

    reference: str | None = None
    """What the candidate is compared with: a run directory, checkpoint, ONNX file, ensemble or stored logits."""
    max_macro_f1_drop: float | None = None
    """Macro-F1 may be at most this much below the reference's."""
    max_minority_f1_drop: float | None = None
    """Minority-F1 may be at most this much below the reference's."""
    max_ece: float | None = None
    """ECE may be at most this."""
    max_ece_increase: float | None = None
    """It may be at most this much above the reference's."""
    min_macro_f1: float | None = None
    """Macro-F1 must be at least this."""

    @property
    def relative(self) -> list[str]:
        """The limits that are set and need a reference."""
        names = ("max_macro_f1_drop", "max_minority_f1_drop", "max_ece_increase")
        return [name for name in names if getattr(self, name) is not None]

    @property
    def absolute(self) -> list[str]:
        """The limits that are set and need none."""
        return [name for name in ("max_ece", "min_macro_f1") if getattr(self, name) is not None]

    def __post_init__(self) -> None:
        """Check ranges, and that limits and reference belong together."""
        for name in (*self.relative, *self.absolute):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"evaluate.gates.{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.relative and self.reference is None:
            raise ValueError(
                f"evaluate.gates.{self.relative[0]} compares with a reference: evaluate.gates.reference=<run directory, "
                "checkpoint, ONNX file or stored logits>"
            )
        if self.reference is not None and not self.relative:
            raise ValueError(
                "evaluate.gates.reference is set, but no limit compares with it: set evaluate.gates.max_macro_f1_drop, "
                "max_minority_f1_drop or max_ece_increase"
            )


@dataclass(kw_only=True)
class EvaluationTarget:
    """What is evaluated, on which rows, and how."""

    checkpoint: str | None = None
    """A checkpoint (best.pt, checkpoint_last.pt), an ONNX file written by this project, a run directory (its best.pt), an
    ensemble (a folder below `<run.root>/ensembles`), a foreign model (below `<run.root>/foreign`), or stored logits
    (below `<run.root>/logits`)."""
    manifests: list[str] = field(default_factory=list)
    """Several manifests, one evaluation each, instead of `data.manifest`."""
    split: str | None = None
    """Split of the manifest: train, val or test; unset: val, or that of the stored logits."""
    view: View = View.single
    """`single`: the picture; `flip`: and its mirror image; `ten_crop`: corners and centre of a larger picture, each
    mirrored too. Logits are averaged; on train and test rows the calibration that was fitted on single ones is applied."""
    calibrator: str | None = None
    """`calibrator.json` of `task=calibrate` for this very file; unset: the calibration that the model's run has fitted."""
    slices: list[str] = field(default_factory=list)
    """Columns of the manifest whose values get figures and gaps of their own, beside source, label and face size."""
    num_resamples: int = 2000
    """Bootstrap resamples of every interval; 0: no intervals."""
    confidence: float = 0.95
    """Of every interval."""
    target_risks: list[float] = field(default_factory=lambda: [0.05, 0.1])
    """Error rates for which the coverage is told: the share of rows, most confident first, that stays below."""
    batch_size: int = 128
    """Rows at a time; changes logits in the last digits at most."""
    accelerator: str = "auto"
    """Device of a checkpoint: auto, cpu, gpu (or cuda), mps. ONNX files run on the CPU. Always float32."""
    reuse_logits: bool = True
    """Take the stored logits of the same file, rows, pictures and view; false: infer again."""
    gates: GatesConfig = field(default_factory=GatesConfig)
    output_dir: str | None = None
    """Where the files go; unset: `<run.root>/evaluations/<name>`, `calibrations/` or `robustness/` for these tasks.
    `task=fuse_ensemble`: the folder in which the ensemble's own is made; unset: `<run.root>/ensembles`."""

    def __post_init__(self) -> None:
        """Check names and ranges."""
        if self.accelerator not in ACCELERATORS:
            raise ValueError(f"evaluate.accelerator must be one of {', '.join(ACCELERATORS)}, got {self.accelerator!r}")
        if self.split not in {None, "train", "val", "test"}:
            raise ValueError(f"evaluate.split must be train, val or test, got {self.split!r}")
        if self.batch_size < 1:
            raise ValueError(f"evaluate.batch_size must be at least 1, got {self.batch_size}")
        if self.num_resamples < 0 or 0 < self.num_resamples < 100:
            raise ValueError(f"evaluate.num_resamples must be 0 or at least 100, got {self.num_resamples}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"evaluate.confidence must lie in (0, 1), got {self.confidence}")
        if self.num_resamples * (1 - self.confidence) < 2 and self.num_resamples:
            raise ValueError(
                f"evaluate.num_resamples={self.num_resamples} cannot tell the ends of intervals of confidence {self.confidence:g}: "
                f"at least {2 / (1 - self.confidence):.0f} are needed"
            )
        if len(set(self.slices)) < len(self.slices):
            raise ValueError(f"evaluate.slices names a column twice: {', '.join(self.slices)}")
        if len(set(self.manifests)) < len(self.manifests):
            raise ValueError(f"evaluate.manifests names a manifest twice: {', '.join(self.manifests)}")
        if any(not 0 < risk < 1 for risk in self.target_risks):
            raise ValueError(f"evaluate.target_risks must lie in (0, 1), got {self.target_risks}")


@dataclass(kw_only=True)
class EvaluateRun:
    """Evaluate any model on any manifest and split.

    Without `data.manifest` the rows and the calibration recorded by the model's run are taken.
    """

    task: str = "evaluate"
    """The verb."""
    run: RunConfig = field(default_factory=RunConfig)
    evaluate: EvaluationTarget = field(default_factory=EvaluationTarget)
    data: DataConfig = field(default_factory=DataConfig)
    source_filter: SourceFilterConfig = field(default_factory=SourceFilterConfig)
    calibration: EvaluationCalibration = field(default_factory=EvaluationCalibration)

    def __post_init__(self) -> None:
        """Check what spans groups."""
        if self.evaluate.manifests and self.data.manifest is not None:
            raise ValueError("evaluate.manifests and data.manifest both name manifests; keep one of them")


@dataclass(kw_only=True)
class CalibrationComparison:
    """Which calibrators are compared, and where the recommended one is applied."""

    methods: list[CalibrationMethod] = field(default_factory=lambda: list(CalibrationMethod))
    """All unless named."""
    apply_to: list[str] = field(default_factory=list)
    """Stored logits of other rows (test, say) that every calibrator, fitted on all val rows, is applied to as it is."""

    def __post_init__(self) -> None:
        """Check that there is something to compare."""
        if not self.methods:
            raise ValueError("calibrate.methods names no calibrator")


@dataclass(kw_only=True)
class CalibrateRun(EvaluateRun):
    """Compare all calibrators on a model's val logits, cross-fitted, and recommend one."""

    task: str = "calibrate"
    """The verb."""
    calibrate: CalibrationComparison = field(default_factory=CalibrationComparison)

    def __post_init__(self) -> None:
        """Check that the rows are val rows."""
        super().__post_init__()
        if self.evaluate.split not in {None, "val"}:
            raise ValueError(
                f"calibrators are fitted on val only, not on evaluate.split={self.evaluate.split}; calibrate.apply_to names "
                "stored logits of other rows that they are applied to"
            )


@dataclass(kw_only=True)
class RobustnessConfig:
    """Which corruptions, at which severities."""

    corruptions: list[Corruption] = field(default_factory=lambda: list(Corruption))
    """All unless named."""
    severities: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 5])
    """From 1, hardly seen, to 5."""
    clahe: bool = True
    """Also judge the model on pictures whose CLAHE is switched off where it was trained with it, and the reverse."""

    def __post_init__(self) -> None:
        """Check ranges, and that nothing is named twice."""
        if not self.severities or any(not 1 <= severity <= 5 for severity in self.severities):
            raise ValueError(f"robustness.severities must lie in 1..5, got {self.severities}")
        twice = sorted({severity for severity in self.severities if self.severities.count(severity) > 1})
        if twice:
            raise ValueError(f"robustness.severities names {', '.join(map(str, twice))} more than once")
        repeated = [item for item in Corruption if self.corruptions.count(item) > 1]
        if repeated:
            names = ", ".join(corruption.value for corruption in repeated)
            raise ValueError(f"robustness.corruptions names {names} more than once")


@dataclass(kw_only=True)
class RobustnessRun(EvaluateRun):
    """Judge a model on corrupted renditions of the same rows."""

    task: str = "robustness"
    """The verb."""
    robustness: RobustnessConfig = field(default_factory=RobustnessConfig)
