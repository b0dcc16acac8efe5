"""`sharpness.json` of `task=inspect_softlabels`: how sharp soft labels are at several KD temperatures."""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from fer_lightning.runs.artifacts import STRICT

SHARPNESS_FILE = "sharpness.json"


@dataclass(frozen=True, kw_only=True)
class SpreadFigures:
    """How a value is spread over rows."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    mean: float
    quantiles: dict[str, float]
    """Percent of the rows, e.g. `5` -> the value that so many rows lie at or below."""


@dataclass(frozen=True, kw_only=True)
class SharpnessFigures:
    """Targets softmax(logits / kd_temperature) of some rows."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kd_temperature: float
    n: int
    max_prob: SpreadFigures
    second_prob: SpreadFigures
    entropy: SpreadFigures
    """In nats."""
    entropy_share: SpreadFigures
    """Entropy as a share of log 7: 0 is one-hot, 1 uniform."""
    mean_true_prob: float | None
    """Of the labels' classes; None without labels."""


@dataclass(frozen=True, kw_only=True)
class TargetTemperature:
    """The KD temperature at which the mean entropy is what was asked for."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    target_entropy: float
    """Share of log 7."""
    kd_temperature: float
    entropy_share: float
    """Mean at this temperature."""
    reached: bool
    """False: no temperature within the bounds gives it, and this is the nearer bound."""


@dataclass(frozen=True, kw_only=True)
class PartSharpness:
    """Sharpness of one split, or of all rows."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    split: str
    """`train`, `val`, `test`, or `all`."""
    n: int
    figures: list[SharpnessFigures]
    """One for each temperature, ascending."""
    classes: dict[str, list[SharpnessFigures]]
    """Emotion of the label -> the same for its rows; without those that have none."""
    target: TargetTemperature


@dataclass(frozen=True, kw_only=True)
class SharpnessReport:
    """`sharpness.json`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    softlabels: str
    """Folder, as named by the command."""
    kind: str
    """`soft labels` or `stored logits`."""
    logits_sha256: str
    """Of the file that holds the logits."""
    n: int
    class_order: list[str]
    kd_temperatures: list[float]
    parts: list[PartSharpness]
    """Split by split; the last one is all rows where there are several splits."""
