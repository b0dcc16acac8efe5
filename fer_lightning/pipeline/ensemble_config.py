"""The typed runs around stored logits and ensembles: store_logits, import_logits, fuse_ensemble."""

from dataclasses import dataclass, field
from enum import Enum

from fer_lightning.pipeline.evaluation_config import EvaluateRun

_SPLITS = ("train", "val", "test")
_SUM_TOLERANCE = 1e-6
_SOURCE_MARK = "+"


class LogitsType(Enum):
    """Type that stored logits are kept in."""

    float32 = "float32"
    float16 = "float16"


@dataclass(kw_only=True)
class StoreConfig:
    """Whose logits are stored, on which rows."""

    models: list[str] = field(default_factory=list)
    """Checkpoints, ONNX files or run directories (their best.pt); their pictures are decoded once for all."""
    splits: list[str] = field(default_factory=lambda: ["val"])
    """Splits of the manifest."""
    dtype: LogitsType = LogitsType.float32
    """`float16` takes half the space, loses digits past the third, and refuses logits beyond 65,504."""
    shard_rows: int = 4096
    """Rows that are inferred and written at a time: what is finished survives an interruption, and several processes given
    the same command share the shards among them."""

    def __post_init__(self) -> None:
        """Check names and ranges."""
        if len(set(self.models)) < len(self.models):
            raise ValueError(f"store.models names a model twice: {', '.join(self.models)}")
        if not self.splits or not set(self.splits) <= set(_SPLITS) or len(set(self.splits)) < len(self.splits):
            raise ValueError(f"store.splits takes train, val and test, each once, got {self.splits}")
        if self.shard_rows < 1:
            raise ValueError(f"store.shard_rows must be at least 1, got {self.shard_rows}")


@dataclass(kw_only=True)
class StoreLogitsRun(EvaluateRun):
    """Store the logits of one model or several, once for each file, row set, preparation of the pictures and view."""

    task: str = "store_logits"
    """The verb."""
    store: StoreConfig = field(default_factory=StoreConfig)


class ScoreKind(Enum):
    """What the numbers of a foreign file are."""

    logits = "logits"
    log_probs = "log_probs"
    probs = "probs"


class JoinBy(Enum):
    """How rows of a foreign file find those of the manifest."""

    row_id = "row_id"
    image_path = "image_path"
    position = "position"


@dataclass(kw_only=True)
class ForeignScores:
    """Scores that another program has computed for rows of a manifest."""

    file: str | None = None
    """.csv (a column per class, named after it, with or without `logit_` or `prob_` in front), .npy (N x 7), or .npz with
    `logits` (or `probs`, `log_probs`) and `row_ids` or `image_paths`, and `class_order` where there is one."""
    name: str | None = None
    """Of the model: the folder below `<run.root>/foreign`, which can be named wherever a teacher is."""
    split: str = "val"
    """Split whose rows the file holds."""
    values: ScoreKind = ScoreKind.logits
    """`probs` and `log_probs` become logits by their logarithm."""
    class_order: list[str] = field(default_factory=list)
    """Names of the 7 columns of a NumPy file, in its order; it is never guessed."""
    join: JoinBy = JoinBy.image_path
    """`position`: row i of the file is row i of the split in the manifest, which nothing can prove."""

    def __post_init__(self) -> None:
        """Check names."""
        if self.split not in _SPLITS:
            raise ValueError(f"foreign.split must be train, val or test, got {self.split!r}")
        if self.name is not None and not all(c.isalnum() or c in "-_.=" for c in self.name):
            raise ValueError(f"foreign.name may hold letters, digits and - _ . = , but is {self.name!r}")
        if self.class_order and (len(self.class_order) != 7 or len(set(self.class_order)) < 7):
            raise ValueError(f"foreign.class_order takes the 7 emotions, each once, got {self.class_order}")


@dataclass(kw_only=True)
class ImportLogitsRun(EvaluateRun):
    """Take the scores of a foreign model on rows of a manifest among the stored logits."""

    task: str = "import_logits"
    """The verb."""
    foreign: ForeignScores = field(default_factory=ForeignScores)


class FusionSpace(Enum):
    """What is averaged."""

    logit = "logit"
    prob = "prob"


class TeacherScaling(Enum):
    """What is done to each teacher's logits before they are averaged."""

    none = "none"
    temperature = "temperature"


class WeightSearch(Enum):
    """How weights are found."""

    none = "none"
    grid = "grid"
    simplex = "simplex"
    optimise = "optimise"
    greedy = "greedy"


class SearchAim(Enum):
    """What `optimise` and `greedy` improve."""

    nll = "nll"
    macro_f1 = "macro_f1"


@dataclass(kw_only=True)
class EnsembleConfig:
    """Teachers, how they are averaged, and how their weights are found."""

    teachers: list[str] = field(default_factory=list)
    """Checkpoints, ONNX files, run directories (their best.pt), folders of stored logits, or of a foreign model."""
    names: list[str] = field(default_factory=list)
    """Short names, in the same order; unset: the first part of each run's name, e.g. RN18."""
    space: FusionSpace = FusionSpace.logit
    """`logit`: weighted mean of logits. `prob`: logarithm of the weighted mean of softmaxes."""
    spaces: list[FusionSpace] = field(default_factory=list)
    """Spaces that a search tries; empty: `space` alone."""
    weights: list[float] = field(default_factory=list)
    """One for each teacher, sum 1; empty: equal ones, or those found by the search."""
    teacher_scaling: TeacherScaling = TeacherScaling.none
    """`temperature`: each teacher's logits are divided by its own temperature first, fitted on val, so that the one
    with the largest logits does not drown the others."""
    search: WeightSearch = WeightSearch.none
    """`grid`: all weights in steps of `grid_step`. `simplex`: a coarse grid, refined around its best down to `finest_step`.
    `optimise`: continuous, towards `aim`. `greedy`: teachers added one at a time, towards `aim`. All on val."""
    aim: SearchAim = SearchAim.macro_f1
    """What `optimise` and `greedy` improve; `grid` and `simplex` go by macro-F1, minority-F1, ECE, accuracy."""
    grid_step: float = 0.1
    """Of `grid`: 66 points for three teachers."""
    finest_step: float = 0.0125
    """Of `simplex`."""
    greedy_steps: int = 50
    """Of `greedy`: teachers that are drawn, with replacement."""
    subsets: bool = True
    """A search also tells the best weights of every pair and triple."""
    num_weight_resamples: int = 200
    """Bootstrap resamples of the chosen weights' intervals; 0: none."""
    judge_test: bool = True
    """Judge the ensemble on test rows too, and compare it there with its best single teacher; nothing is chosen by them."""

    def __post_init__(self) -> None:
        """Check what can be known without the teachers."""
        self._check_teachers()
        self._check_weights()
        if self.spaces and self.search is WeightSearch.none:
            raise ValueError("ensemble.spaces are tried by a search: set ensemble.search, or ensemble.space alone")
        if len(set(self.spaces)) < len(self.spaces):
            raise ValueError("ensemble.spaces names a space twice")
        if not 0 < self.grid_step <= 0.5 or abs(round(1 / self.grid_step) * self.grid_step - 1) > _SUM_TOLERANCE:
            raise ValueError(f"ensemble.grid_step must divide 1 and lie in (0, 0.5], got {self.grid_step}")
        if not 0 < self.finest_step <= 0.25:
            raise ValueError(f"ensemble.finest_step must lie in (0, 0.25], got {self.finest_step}")
        if self.greedy_steps < 1:
            raise ValueError(f"ensemble.greedy_steps must be at least 1, got {self.greedy_steps}")
        if self.num_weight_resamples < 0 or 0 < self.num_weight_resamples < 100:
            raise ValueError(
                f"ensemble.num_weight_resamples must be 0 or at least 100, got {self.num_weight_resamples}"
            )

    def _check_teachers(self) -> None:
        if len(set(self.teachers)) < len(self.teachers):
            raise ValueError(f"ensemble.teachers names one twice: {', '.join(self.teachers)}")
        if self.names and (len(self.names) != len(self.teachers) or len(set(self.names)) < len(self.names)):
            raise ValueError(
                f"ensemble.names must name each of the {len(self.teachers)} teachers once, got {', '.join(self.names)}"
            )
        unfit = [name for name in self.names if not name or _SOURCE_MARK in name or "/" in name]
        if unfit:
            raise ValueError(f"ensemble.names must not be empty or hold + or /, got {unfit}")

    def _check_weights(self) -> None:
        if not self.weights:
            return
        if self.search is not WeightSearch.none:
            raise ValueError("ensemble.weights and ensemble.search both decide the weights; keep one of them")
        if len(self.weights) != len(self.teachers):
            raise ValueError(
                f"ensemble.weights has {len(self.weights)} numbers for {len(self.teachers)} ensemble.teachers; one each"
            )
        if any(not weight >= 0 for weight in self.weights):
            raise ValueError(f"ensemble.weights must not be negative, got {self.weights}")
        if abs(sum(self.weights) - 1) > _SUM_TOLERANCE:
            raise ValueError(
                f"ensemble.weights must sum to 1, got {self.weights}, whose sum is {sum(self.weights):.9g}: they are shares, "
                "and logits that are not divided by their sum have another scale"
            )


@dataclass(kw_only=True)
class FuseEnsembleRun(EvaluateRun):
    """Fuse the stored logits of teachers, with given weights or those that a search on val finds, and judge the result."""

    task: str = "fuse_ensemble"
    """The verb."""
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)

    def __post_init__(self) -> None:
        """Check that the options of a single model are left alone."""
        super().__post_init__()
        given = {
            "evaluate.checkpoint": self.evaluate.checkpoint,
            "evaluate.split": self.evaluate.split,
            "evaluate.calibrator": self.evaluate.calibrator,
            "evaluate.manifests": self.evaluate.manifests,
            "evaluate.gates.reference": self.evaluate.gates.reference,
        }
        for name, value in given.items():
            if value:
                raise ValueError(
                    f"{name} has no effect on task=fuse_ensemble: evaluate the ensemble's folder with task=evaluate"
                )
