"""The typed runs around soft labels: export_softlabels, inspect_softlabels, diagnose_alignment."""

from dataclasses import dataclass, field

from fer_lightning.pipeline.evaluation.config import EvaluateRun
from fer_lightning.pipeline.logits.config import LogitsType
from fer_lightning.runs.config import RunConfig

_SPLITS = ("train", "val", "test")


@dataclass(kw_only=True)
class SoftlabelsConfig:
    """Which ensemble teaches which rows, and how its logits are kept."""

    ensemble: str | None = None
    """Folder of an ensemble (`task=fuse_ensemble`), or of a single teacher: a run directory, checkpoint or ONNX file."""
    splits: list[str] = field(default_factory=lambda: ["train"])
    """Of the manifest."""
    dtype: LogitsType = LogitsType.float16
    """`float16` refuses logits beyond 65,504."""
    flip: bool = False
    """Also keep the logits of the mirror image."""
    crops: int = 0
    """Also keep the logits of this many random crops of each row, as the light augmentation draws them; each crop is recorded,
    so that the student sees the same one."""
    crop_scale_min: float = 0.8
    """Smallest area share of a crop."""
    crop_ratio_max: float = 1.1
    """Largest aspect ratio of a crop; the smallest is its inverse."""
    verify_rows: int = 32
    """Random rows that are inferred again after the export and compared with what was written; 0: none."""

    def __post_init__(self) -> None:
        """Check names and ranges."""
        if not self.splits or not set(self.splits) <= set(_SPLITS) or len(set(self.splits)) < len(self.splits):
            raise ValueError(f"softlabels.splits takes train, val and test, each once, got {self.splits}")
        if self.crops < 0 or self.verify_rows < 0:
            raise ValueError("softlabels.crops and softlabels.verify_rows must be at least 0")
        if not 0 < self.crop_scale_min <= 1:
            raise ValueError(f"softlabels.crop_scale_min must lie in (0, 1], got {self.crop_scale_min}")
        if self.crop_ratio_max < 1:
            raise ValueError(f"softlabels.crop_ratio_max must be at least 1, got {self.crop_ratio_max}")


@dataclass(kw_only=True)
class ExportSoftlabelsRun(EvaluateRun):
    """Export an ensemble's logits on a manifest as soft labels, with every proof of what they are of."""

    task: str = "export_softlabels"
    """The verb."""
    softlabels: SoftlabelsConfig = field(default_factory=SoftlabelsConfig)


@dataclass(kw_only=True)
class InspectConfig:
    """How sharp soft labels are, at which temperatures."""

    softlabels: str | None = None
    """Folder of soft labels, or of stored logits."""
    temperatures: list[float] = field(default_factory=lambda: [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0])
    """KD temperatures."""
    target_entropy: float = 0.5
    """Mean entropy of the targets, as a share of that of the uniform distribution, whose KD temperature is told."""
    output_dir: str | None = None
    """Where the report goes; unset: the folder itself."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not self.temperatures or any(not temperature > 0 for temperature in self.temperatures):
            raise ValueError(f"inspect.temperatures must be positive, got {self.temperatures}")
        if not 0 < self.target_entropy < 1:
            raise ValueError(f"inspect.target_entropy must lie in (0, 1), got {self.target_entropy}")


@dataclass(kw_only=True)
class InspectSoftlabelsRun:
    """Tell how sharp soft labels are, and the KD temperature at which they are as soft as wanted."""

    task: str = "inspect_softlabels"
    """The verb."""
    run: RunConfig = field(default_factory=RunConfig)
    inspect: InspectConfig = field(default_factory=InspectConfig)


@dataclass(kw_only=True)
class DiagnosisConfig:
    """Whose proofs are checked again."""

    softlabels: str | None = None
    """Folder of soft labels."""
    verify_rows: int = 64
    """Random rows that are inferred again; 0: none."""
    output: str | None = None
    """Where the report goes; unset: `diagnosis.json` in the folder."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.verify_rows < 0:
            raise ValueError(f"diagnose.verify_rows must be at least 0, got {self.verify_rows}")


@dataclass(kw_only=True)
class DiagnoseAlignmentRun(EvaluateRun):
    """Compute every digest of soft labels again, infer some rows again, and say what does not hold; exit code 3 then."""

    task: str = "diagnose_alignment"
    """The verb."""
    diagnose: DiagnosisConfig = field(default_factory=DiagnosisConfig)
