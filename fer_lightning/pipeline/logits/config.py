"""The typed runs that store logits: store_logits, import_logits."""

from dataclasses import dataclass, field
from enum import Enum

from fer_lightning.pipeline.evaluation.config import EvaluateRun

_SPLITS = ("train", "val", "test")


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
