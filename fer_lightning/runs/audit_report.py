"""`audit.json` of `task=audit_manifest`."""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from fer_lightning.runs.artifacts import STRICT


@dataclass(frozen=True, kw_only=True)
class FindingCount:
    """How often an audit found something of one kind."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: str
    severity: str
    """error, warning or note."""
    what: str
    count: int


@dataclass(frozen=True, kw_only=True)
class PictureSizes:
    """Shorter sides of a source's picture files, in pixels."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    source: str
    files: int
    smallest: int
    median: float
    largest: int
    histogram: dict[str, int]
    """Range -> files."""


@dataclass(frozen=True, kw_only=True)
class SharedPictures:
    """How many pictures two sources have in common, pixel by pixel."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    source: str
    other: str
    pictures: int


@dataclass(frozen=True, kw_only=True)
class LabelComparison:
    """Labels against a model's predictions (confident learning)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    predictions: str
    rows_compared: int
    rows_without_prediction: int
    thresholds: dict[str, float | None]
    """Emotion -> mean probability over the rows labelled so."""
    confident_joint: list[list[int]]
    """Rows: label; columns: the class the model is confident of."""


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """`audit.json` of `task=audit_manifest`; nothing that depends on the clock."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    manifest: str
    manifest_sha256: str
    source_filter: str
    include_sources: list[str]
    exclude_sources: list[str]
    rows_in_manifest: int
    faulty_rows: int
    """Rows of the chosen sources that were not looked at beyond their fault."""
    rows_audited: int
    findings: list[FindingCount]
    """Each kind that was found, the most severe first."""
    findings_by_severity: dict[str, int]
    fail_on: str
    failed: bool
    """Something at least as severe as `fail_on` was found."""
    checked: list[str]
    not_checked: list[str]
    class_counts: dict[str, dict[str, dict[str, int]]]
    """source -> split -> emotion -> rows."""
    picture_sizes: list[PictureSizes]
    shared_pictures: list[SharedPictures]
    label_comparison: LabelComparison | None
