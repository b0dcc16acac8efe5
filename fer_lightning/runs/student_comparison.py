"""`student_comparison.json`: students of several objectives under one budget, on the same rows, against a baseline."""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from fer_lightning.runs.artifacts import STRICT

STUDENT_COMPARISON_FILE = "student_comparison.json"


@dataclass(frozen=True, kw_only=True)
class StartedFrom:
    """What one run started from, as its alignment report says."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: str
    """`random`, `hub`, `file` or `init_from`."""
    source: str
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class TrainingBudget:
    """What an arm was given to train with: a comparison is fair where all arms have the same."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    epochs: int
    optimizer_steps: int
    train_rows: int
    """Rows of the train split."""
    image_size: int
    batch_size: int
    augmentation: str
    """Kind."""
    init: list[StartedFrom]
    """One for each seed."""


@dataclass(frozen=True, kw_only=True)
class StudentArm:
    """Runs that differ in nothing but their seed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    distils: bool
    """Whether there is a teacher; otherwise it learned from labels alone."""
    options: dict[str, str]
    """Options of the `distillation` group that differ from the baseline's."""
    runs: list[str]
    """Run directories in the order of the seeds, relative to the folder of this file."""
    checkpoint_sha256s: list[str]
    """Of the checkpoint judged, one for each seed."""
    best_epochs: list[int]
    """0-based epoch of each."""
    kd_temperatures: list[float | None]
    """In effect at the end of each run; None without distillation."""
    budget: TrainingBudget


@dataclass(frozen=True, kw_only=True)
class ComparedStudent:
    """The student network, the same in all arms."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    backbone: str
    num_parameters: int


@dataclass(frozen=True, kw_only=True)
class ComparedEnsemble:
    """The ensemble that taught the distilled arms."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    path: str
    """Folder, relative to the folder of this file."""
    sha256: str
    """Of `ensemble.json`."""
    num_parameters: int | None
    """Of all teachers with a share; None where that is not known."""


@dataclass(frozen=True, kw_only=True)
class ArmFigure:
    """One figure of an arm: the mean over its seeds."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    mean: float
    low: float
    """Interval of the mean over other rows of the same kind, for the very networks that were trained; of ECE it may lie
    below the mean, since chance alone makes an ECE larger than it is."""
    high: float
    values: list[float]
    """Of each seed."""


@dataclass(frozen=True, kw_only=True)
class ArmDifference:
    """One figure of an arm less that of the baseline."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    difference: float
    low: float
    """Over other rows, for the very networks that were trained: paired bootstrap."""
    high: float
    p_value: float
    """Of these networks: rows swapped between the arms."""
    values: list[float]
    """Seed by seed."""
    deviation: float | None
    """Of these, ddof 1; None for one seed, or an infinite difference, and so are the limits below."""
    low_of_seeds: float | None
    """Over other seeds on the very rows judged: Student t."""
    high_of_seeds: float | None
    low_of_rows_and_seeds: float | None
    """Over other rows and other seeds: conservative."""
    high_of_rows_and_seeds: float | None


@dataclass(frozen=True, kw_only=True)
class ArmFigures:
    """Figures of an arm, by name: accuracy, balanced_accuracy, macro_f1, macro_f1_present, minority_f1, nll, brier, ece."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    figures: dict[str, ArmFigure]
    """`macro_f1_present`: mean F1 of the classes that have rows; `macro_f1` counts absent ones as 0."""
    differences: dict[str, ArmDifference] | None
    """To the baseline; None for itself."""


@dataclass(frozen=True, kw_only=True)
class JudgedArm:
    """An arm on one split."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    raw: ArmFigures
    """Uncalibrated."""
    scaled: ArmFigures | None
    """Each seed by its own calibrator; None where one of them, or of the baseline's, has none for these rows."""
    scaled_how: list[str]
    """How the calibrated figures were obtained, or why there are none; each way once."""
    retention: float | None
    """Raw macro-F1 as a share of the ensemble's; None without an ensemble, or where it has 0."""


@dataclass(frozen=True, kw_only=True)
class JudgedEnsemble:
    """The ensemble on the same rows, by the names of `ArmFigures`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    raw: dict[str, float]
    scaled: dict[str, float] | None
    scaled_how: str


@dataclass(frozen=True, kw_only=True)
class JudgedSplit:
    """All arms on the rows of one split."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    split: str
    n: int
    num_groups: int
    """Of linked rows: what resampling draws, and swaps."""
    row_set_fingerprint: str
    num_bins: int
    """Of ECE."""
    absent_classes: list[str]
    confidence: float
    num_resamples: int
    arms: dict[str, JudgedArm]
    """In the order of the comparison."""
    ensemble: JudgedEnsemble | None


@dataclass(frozen=True, kw_only=True)
class StudentTarget:
    """One thing that the best distilled student should reach."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    met: bool
    value: float
    """What is held against the limit: lower end of an interval, difference, or share."""
    limit: float


@dataclass(frozen=True, kw_only=True)
class StudentVerdict:
    """Whether distillation beat plain training. Computed by `verdict_of`, never typed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    arm: str
    """The distilled arm of the best val macro-F1."""
    baseline: str
    chosen_on: str
    """Split that chose the arm."""
    judged_on: str
    """Split of the figures: another one than `chosen_on` where there is one, else the choice flatters the arm."""
    calibrated: bool
    """Whether nll and ece are the calibrated ones, as deployed; all others are raw."""
    macro_f1: StudentTarget
    """Lower limit of the difference to the baseline, over rows, above 0."""
    macro_f1_over_seeds: StudentTarget | None
    """The same over rows and seeds: harder, and no target of its own; None for one seed."""
    nll: StudentTarget
    """Difference below 0."""
    ece: StudentTarget
    """Difference below 0."""
    retention: StudentTarget | None
    """Share of the ensemble's macro-F1; None without the ensemble's figures."""
    parameter_share: StudentTarget | None
    """Of the ensemble's parameters; None where these are not known."""
    keeps_the_ensemble: bool | None
    """`retention` and `parameter_share` together; None where one of them is."""
    all_met: bool
    """macro_f1, nll, ece and keeps_the_ensemble."""


@dataclass(frozen=True, kw_only=True)
class StudentComparison:
    """`student_comparison.json`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    name: str
    manifest: str
    manifest_sha256: str
    seeds: list[int]
    """The same in all arms."""
    baseline: str
    student: ComparedStudent
    arms: list[StudentArm]
    """The baseline first."""
    ensemble: ComparedEnsemble | None
    splits: list[JudgedSplit]
    """val first, which chooses; then test, which judges."""
    verdict: StudentVerdict | None
    """None without a distilled arm, or without val rows."""
