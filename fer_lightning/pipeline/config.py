"""One typed run per verb: the groups that verb takes."""

from dataclasses import dataclass, field
from pathlib import Path

from fer_lightning.data.building.config import BuildConfig
from fer_lightning.data.config import (
    AuditConfig,
    AugmentationConfig,
    DataConfig,
    SourceFilterConfig,
    TargetsConfig,
)
from fer_lightning.models.config import AttentionKind, BackboneConfig
from fer_lightning.runs.config import RunConfig
from fer_lightning.training.config import (
    CalibrationConfig,
    StageConfig,
    TrainerConfig,
    WatchdogConfig,
    WeightStatistics,
)
from fer_lightning.training.recipe.config import ImbalanceConfig, LossConfig, MixingConfig, OptimizerConfig


@dataclass(kw_only=True)
class TrainingRun:
    """What every training of one network takes, whoever teaches it."""

    task: str
    """The verb."""
    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    source_filter: SourceFilterConfig = field(default_factory=SourceFilterConfig)
    targets: TargetsConfig = field(default_factory=TargetsConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    stage: StageConfig = field(default_factory=StageConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    mixing: MixingConfig = field(default_factory=MixingConfig)
    imbalance: ImbalanceConfig = field(default_factory=ImbalanceConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    watchdog: WatchdogConfig = field(default_factory=WatchdogConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        """Check what spans fields and groups."""
        if self.stage.needs_init and self.stage.init_from is None:
            raise ValueError(
                f"stage {self.stage.name} continues another run: stage.init_from=<run directory or checkpoint>"
            )
        if self.stage.init_from is not None and (self.backbone.pretrained or self.backbone.checkpoint):
            raise ValueError(
                "stage.init_from brings the whole network; backbone.pretrained and backbone.checkpoint "
                "would be overwritten. Add backbone.pretrained=false"
            )
        if self.imbalance.min_per_class * 7 > self.stage.batch_size:
            raise ValueError(
                f"imbalance.min_per_class={self.imbalance.min_per_class} asks for {self.imbalance.min_per_class * 7} "
                f"rows of 7 classes in batches of stage.batch_size={self.stage.batch_size}"
            )
        if self.trainer.compile and self.backbone.attention is not AttentionKind.none:
            raise ValueError(
                "trainer.compile=true compiles the backbone as a whole; it does not go with backbone.attention"
            )
        self._check_corrections()
        self._check_steps()

    def _check_corrections(self) -> None:
        """Refuse logit adjustment by class shares that something else has evened out already."""
        evened = self.imbalance.corrections()
        if self.loss.tau and evened and not self.imbalance.allow_both:
            raise ValueError(
                f"loss.tau={self.loss.tau:g} and {' and '.join(evened)} correct the same imbalance twice; "
                "choose one, or ask for both with imbalance.allow_both=true"
            )

    def _check_steps(self) -> None:
        """Refuse ways of taking steps that do not go together."""
        several = self.trainer.devices * self.trainer.num_nodes > 1
        if self.optimizer.sam_rho and self.trainer.precision == "16-mixed":
            raise ValueError(
                "optimizer.sam_rho takes two gradients a step, between which a scaled loss of trainer.precision=16-mixed "
                "cannot be unscaled; use bf16-mixed or 32-true"
            )
        if self.optimizer.sam_rho and several and self.stage.accumulate > 1:
            raise ValueError("optimizer.sam_rho with stage.accumulate above 1 runs on one device only")
        sharded = [
            option
            for option, on in (
                ("optimizer.sam_rho", self.optimizer.sam_rho),
                ("optimizer.ema_decay", self.optimizer.ema_decay),
                ("watchdog.enabled", self.watchdog.enabled),
                ("trainer.gradient_norms", self.trainer.gradient_norms),
                ("trainer.weight_statistics", self.trainer.weight_statistics is not WeightStatistics.none),
            )
            if on
        ]
        if self.trainer.strategy == "fsdp" and sharded:
            raise ValueError(
                f"trainer.strategy=fsdp shares each weight among devices; it does not work with {' and '.join(sharded)}"
            )

    @property
    def name(self) -> str:
        """The run's folder name."""
        parts = [
            self.backbone.short,
            self.backbone.name.replace("/", "-").replace(":", "-"),
            f"seed{self.run.seed}",
            self.stage.name,
            f"img{self.stage.image_size}",
            *self._taught_how(),
            *([] if self.data.limit_rows is None else [f"rows{self.data.limit_rows}"]),
        ]
        return "_".join(parts if self.run.tag is None else [*parts, self.run.tag])

    @property
    def directory(self) -> Path:
        """Where the run directory is, or will be."""
        return Path(self.run.root) / self.folder / self.name

    @property
    def folder(self) -> str:
        """The folder of runs of this kind below `run.root`."""
        raise NotImplementedError

    def _taught_how(self) -> list[str]:
        """Return the parts of the name that say how it is taught."""
        raise NotImplementedError


@dataclass(kw_only=True)
class TrainTeacherRun(TrainingRun):
    """Train one ArcFace teacher and leave a run directory that proves what it did.

    Its name is e.g. `RN18_resnet18_seed1337_stageA_img224`.
    """

    task: str = "train_teacher"
    """The verb."""

    @property
    def folder(self) -> str:
        """The folder of runs of this kind below `run.root`."""
        return "teachers"

    def _taught_how(self) -> list[str]:
        return [] if self.loss.name == "arcface" else [self.loss.name]


@dataclass(kw_only=True)
class CheckConfig:
    """How far the overfit check of `task=check_training` goes."""

    rows: int = 32
    """Train rows that the network must be able to learn by heart, spread over classes."""
    steps: int = 200
    """Optimizer steps it may take for that, all at `optimizer.lr`."""
    min_accuracy: float = 0.95
    """Share of these rows that it must then tell apart."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.rows < 7:
            raise ValueError(f"check.rows must be at least 7, one of each class, got {self.rows}")
        if self.steps < 1:
            raise ValueError(f"check.steps must be at least 1, got {self.steps}")
        if not 0 < self.min_accuracy <= 1:
            raise ValueError(f"check.min_accuracy must lie in (0, 1], got {self.min_accuracy}")


@dataclass(kw_only=True)
class CheckTrainingRun(TrainTeacherRun):
    """Check that a teacher's recipe can train: its rows, one batch, a few rows learnt by heart, its starting weights."""

    task: str = "check_training"
    """The verb."""
    check: CheckConfig = field(default_factory=CheckConfig)


@dataclass(kw_only=True)
class ExportTarget:
    """What is exported."""

    run_dir: str | None = None
    """A finished or unfinished run directory, or an ensemble, which becomes one graph: `ensemble.onnx`."""
    which: list[str] = field(default_factory=lambda: ["best", "last"])
    """Checkpoints to export: best, last."""
    calibrator: str | None = None
    """`calibrator.json` of `task=calibrate` for the one checkpoint that `which` names; unset: the calibration that the run
    has fitted."""


@dataclass(kw_only=True)
class ExportOnnxRun:
    """Export a run's checkpoints to ONNX, each checked against PyTorch."""

    task: str = "export_onnx"
    """The verb."""
    run: RunConfig = field(default_factory=RunConfig)
    export: ExportTarget = field(default_factory=ExportTarget)

    def __post_init__(self) -> None:
        """Check the checkpoint names."""
        unknown = sorted(set(self.export.which) - {"best", "last"})
        if unknown or not self.export.which:
            raise ValueError(f"export.which takes best and last, got {self.export.which}")
        if self.export.calibrator is not None and len(self.export.which) > 1:
            raise ValueError(
                "export.calibrator belongs to one checkpoint: add export.which=[best] or export.which=[last]"
            )


@dataclass(kw_only=True)
class BuildManifestRun:
    """Build a manifest: draw the generated FER set, compose data sets in their layouts, merge or curate manifests."""

    task: str = "build_manifest"
    """The verb."""
    run: RunConfig = field(default_factory=RunConfig)
    build: BuildConfig = field(default_factory=BuildConfig)


@dataclass(kw_only=True)
class AuditManifestRun:
    """Look for every fault a manifest can hide, and write down what was found."""

    task: str = "audit_manifest"
    """The verb."""
    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    source_filter: SourceFilterConfig = field(default_factory=SourceFilterConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)


@dataclass(kw_only=True)
class Comparison:
    """Which finished runs are compared, and how."""

    evaluations: list[str] = field(default_factory=list)
    """Evaluations instead of runs: `evaluation.json` files, their folders, folders of them, or patterns. Figures of test
    rows are labelled: the best of several on test is chosen by test."""
    runs: list[str] = field(default_factory=list)
    """Run directories, folders of them (a sweep too), or patterns such as `experiments/teachers/RN18*`; empty: all runs
    under `<run.root>/teachers`. Students are named, e.g. `experiments/students`; with teachers of the same rows they stand in one
    table."""
    split_by_rows: bool = False
    """Runs or evaluations that were judged on different rows get a table for each set of rows; otherwise they are
    refused."""
    baseline: str | None = None
    """A run directory, part of its name, a recipe's name, or part of an option's value: differences to it are taken seed
    by seed."""
    output_dir: str | None = None
    """Folder of leaderboard.md, .csv, .html and .json; unset: the folder that all compared runs or evaluations have in
    common."""

    def __post_init__(self) -> None:
        """Check that one kind of thing is compared."""
        if self.evaluations and self.runs:
            raise ValueError("compare.runs and compare.evaluations are tables of their own; name one of them")
        if self.evaluations and self.baseline is not None:
            raise ValueError(
                "compare.baseline takes differences of runs seed by seed; evaluate.gates compares two models on the same rows"
            )


@dataclass(kw_only=True)
class CompareRunsRun:
    """Compare finished runs over their seeds, or evaluations, within one set of rows."""

    task: str = "compare_runs"
    """The verb."""
    run: RunConfig = field(default_factory=RunConfig)
    compare: Comparison = field(default_factory=Comparison)
