"""One frozen dataclass per JSON file of a run directory, read and written in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pydantic_core
from pydantic import ConfigDict, TypeAdapter, ValidationError

from fer_lightning.errors import FerError
from fer_lightning.files import write_text_atomically

Artifact = TypeVar("Artifact")
ONNX_RECORD_FILE = "onnx.json"

_adapters: dict[type[Any], TypeAdapter[Any]] = {}
STRICT = ConfigDict(extra="forbid", ser_json_inf_nan="strings")
"""Of every artifact: no unknown field, and infinities that are valid JSON."""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Figures of one set of log-probabilities against labels."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    accuracy: float
    macro_f1: float
    """Mean F1 over all 7 classes, 0 for an absent class."""
    macro_f1_present: float
    """Mean F1 over the classes that have rows."""
    minority_f1: float
    """Mean F1 of Disgust, Fear and Sad."""
    per_class_f1: dict[str, float]
    nll: float
    """Mean negative log-likelihood in nats."""
    ece: float
    """Expected calibration error, top label, equal-width bins."""
    brier: float
    """Sum over classes, mean over rows."""
    mean_confidence: float


@dataclass(frozen=True, kw_only=True)
class CalibrationRecord:
    """A calibrator and how it was obtained."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    method: str
    """One of `functional.calibrators.METHODS`."""
    parameters: dict[str, float | list[float] | list[list[float]]]
    """What the calibrator is made again from."""
    calibration_temperature: float | None
    """Of methods with one temperature and nothing else; `none` has 1."""
    at_bound: bool
    """The best parameters lie outside the search bounds; the values are those of the bound."""
    conformal_alpha: float
    """Sets of classes miss the true one in this share of rows."""
    conformal_threshold: float | None
    """Classes whose calibrated probability is at least 1 minus this are in the set; None where all rows are linked, so that
    none can be set apart from those that the calibrator has seen."""
    fitted_on_split: str
    fitted_on_rows: int
    fitted_on_fingerprint: str


@dataclass(frozen=True, kw_only=True)
class EvaluatedCheckpoint:
    """Metrics of one checkpoint on one row set: what a figure needs to be believed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    checkpoint: str
    """File name, relative to the run directory."""
    checkpoint_sha256: str
    epoch: int
    """0-based epoch after which it was saved; -1 where the file does not say."""
    weights: str
    """`trained`, or `averaged (decay .999)`: an exponential moving average of the trained ones."""
    manifest_sha256: str
    split: str
    n: int
    row_set_fingerprint: str
    canonical_digest: str
    num_bins: int
    support: dict[str, int]
    absent_classes: list[str]
    confusion: list[list[int]]
    """Rows: true class; columns: predicted class."""
    raw: Metrics
    """Uncalibrated."""
    scaled: Metrics | None
    """Calibrated; None where there is no calibration for these rows."""
    scaled_how: str
    """How the calibrated figures were obtained, e.g. cross-fitted, so that no row is judged by a fit that saw it."""
    calibration: CalibrationRecord | None
    """The calibrator to deploy."""


@dataclass(frozen=True, kw_only=True)
class ReliabilityMetrics:
    """`reliabilitymetrics.json`: best and last, each evaluated again from its file after training."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 3
    best: EvaluatedCheckpoint
    last: EvaluatedCheckpoint


@dataclass(frozen=True, kw_only=True)
class CalibrationEntry:
    """The calibrator of one checkpoint."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    checkpoint: str
    checkpoint_sha256: str
    calibration: CalibrationRecord


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """`calibration.json`: the calibrators of best and last."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 2
    best: CalibrationEntry
    last: CalibrationEntry


@dataclass(frozen=True, kw_only=True)
class StartingWeights:
    """What a run started from."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: str
    """`random`, `hub`, `file` or `init_from`."""
    source: str
    source_sha256: str | None
    loaded_share: float
    """Share of the filled parameters: of the backbone, or of the whole network for `init_from`."""
    num_parameters: int
    weights: str | None
    """Of `init_from`: what the source's weights are, `trained` or `averaged (decay .999)`; None for the other kinds."""


@dataclass(frozen=True, kw_only=True)
class AlignmentReport:
    """`alignmentreport.json`: which rows, which pictures, which labels."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 3
    run_name: str
    manifest: str
    manifest_sha256: str
    class_order: list[str]
    source_filter: str
    include_sources: list[str]
    exclude_sources: list[str]
    rows_in_manifest: int
    rows_left_out_as_faulty: int
    allowed_leaks: dict[str, int]
    """Kind -> leaks between splits that `data.allow_leaks` let pass."""
    rows_after_filter: int
    source_counts_after_filter: dict[str, dict[str, int]]
    """source -> split -> rows, as the manifest says."""
    source_counts_left_out: dict[str, int]
    carved_val_rows: int
    train_rows: int
    val_rows: int
    test_rows: int
    train_class_counts: dict[str, int]
    row_set_fingerprints: dict[str, str]
    unknown_columns: list[str]
    canonical: dict[str, int | float | bool]
    canonical_digest: str
    augmentation_pipeline_sha256: str | None
    """SHA-256 of the list named by `augmentation.pipeline`."""
    starting_weights: StartingWeights
    num_parameters: int
    """Of the whole network: backbone, attention, neck and head."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """`environment.json`: the software and the machine."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    fer_lightning: str
    source_revision: str | None
    """Commit of the source tree, `+changes` added when it differs; None outside a checkout."""
    python: str
    platform: str
    processors: int
    torch: str
    torch_threads: int
    cuda: str | None
    cudnn: int | None
    gpus: list[str]
    packages: dict[str, str]
    """Every installed distribution and its version."""


@dataclass(frozen=True, kw_only=True)
class OnnxRecord:
    """What an ONNX file carries in its own metadata: enough to prepare pictures and to read its logits."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 3
    emotions: list[str]
    canonical: dict[str, int | float | bool]
    canonical_digest: str
    checkpoint: str
    checkpoint_sha256: str
    epoch: int
    weights: str
    """`trained`, or how they were averaged."""
    manifest_sha256: str
    calibration: CalibrationRecord | None


@dataclass(frozen=True, kw_only=True)
class OnnxParity:
    """How closely an ONNX file follows its checkpoint."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    file: str
    sha256: str
    checkpoint: str
    checkpoint_sha256: str
    batch_sizes: list[int]
    max_abs_logit_difference: float
    same_argmax: bool


@dataclass(frozen=True, kw_only=True)
class OnnxExport:
    """`onnx.json`: the exported files and their parity with PyTorch."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    files: list[OnnxParity]


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def to_json(artifact: object) -> str:
    """Return an artifact as JSON text."""
    return _adapter(type(artifact)).dump_json(artifact, indent=2).decode()


def from_json(text: str | bytes, kind: type[Artifact], *, where: str) -> Artifact:
    """Read an artifact from JSON text.

    Args:
        text: the JSON.
        kind: its dataclass.
        where: its place, for the message.

    Raises:
        FerError: not JSON, of another schema version, a field missing or unknown.
    """
    _check_version(text, kind, where=where)
    try:
        artifact: Artifact = _adapter(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise FerError(f"{where} is not a valid {kind.__name__}: {place}: {first['msg']}") from error
    return artifact


def _check_version(text: str | bytes, kind: type[Any], *, where: str) -> None:
    """Refuse another version by its number, before its fields are called unknown or missing."""
    expected = getattr(kind, "schema_version", None)
    try:
        content = pydantic_core.from_json(text)
    except ValueError:
        return  # the validation that follows says why
    if expected is not None and isinstance(content, dict) and content.get("schema_version") != expected:
        found = content.get("schema_version", "none")
        remedy = f": {kind.other_version}" if hasattr(kind, "other_version") else ""
        raise FerError(f"{where} is no {kind.__name__} of schema version {expected} but of {found}{remedy}")


def write_artifact(path: Path, artifact: object) -> None:
    """Write an artifact as JSON, atomically."""
    write_text_atomically(path, to_json(artifact) + "\n")


def read_artifact(path: Path, kind: type[Artifact]) -> Artifact:
    """Read an artifact back.

    Args:
        path: the JSON file.
        kind: its dataclass.

    Raises:
        FerError: no such file, not JSON, a field missing or unknown.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise FerError(f"no file {path}") from error
    except OSError as error:
        raise FerError(f"cannot read {path}: {error.strerror}") from error
    return from_json(text, kind, where=str(path))
