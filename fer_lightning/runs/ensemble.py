"""`ensemble.json` and the files beside it: which teachers are averaged how, what that reaches, and how it was chosen."""

from dataclasses import dataclass
from typing import ClassVar, Self

from pydantic import ConfigDict

from fer_lightning.runs.artifacts import STRICT, CalibrationRecord, EvaluatedCheckpoint
from fer_lightning.runs.evaluation import Range

ENSEMBLE_FILE, ENSEMBLE_METRICS_FILE, SEARCH_FILE = "ensemble.json", "ensemble_metrics.json", "weight_search.json"
SUMMARY_FILE = "ensemble_summary.csv"


@dataclass(frozen=True, kw_only=True)
class EnsembleTeacher:
    """One teacher of an ensemble."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    """Short, unique in the ensemble."""
    given: str
    """As `ensemble.teachers` named it: a run directory, file, or folder of stored logits."""
    kind: str
    """`checkpoint`, `onnx` or `foreign`: logits of another program, which cannot be inferred here."""
    checkpoint: str
    """File name."""
    checkpoint_sha256: str
    canonical_digest: str
    """Of the pictures it expects; empty for a foreign one."""
    weight: float
    """Share in the average; all of them sum to 1."""
    calibration_temperature: float
    """Its logits are divided by this before they are averaged; 1 without `ensemble.teacher_scaling`."""
    temperature_at_bound: bool


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """`ensemble.json`: everything that is needed to compute the ensemble's logits again."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    name: str
    space: str
    """`logit` or `prob`."""
    teachers: list[EnsembleTeacher]
    class_order: list[str]
    view: str
    """Through which the rows were seen that it was chosen and calibrated on."""
    weights_how: str
    """`given`, `equal`, or the search, its aim, and the rows it went by."""
    manifest: str
    manifest_sha256: str
    val_fingerprint: str
    """Row-set fingerprint of the val rows that temperatures, calibration and (where searched) weights come from."""
    val_rows: int
    calibration: CalibrationRecord | None
    """Of the fused logits, fitted on val; None for `calibration=none`."""


@dataclass(frozen=True, kw_only=True)
class PairedFigure:
    """One figure of the ensemble less that of a teacher on the same rows."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    teacher: float
    ensemble: float
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class TeacherComparison:
    """The ensemble against one teacher on the same rows, both calibrated where they have a calibration."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    teacher: str
    split: str
    n: int
    row_set_fingerprint: str
    confidence: float
    num_resamples: int
    figures: dict[str, PairedFigure]
    """accuracy, balanced_accuracy, macro_f1, minority_f1, nll, brier, ece; differences are ensemble - teacher."""
    mcnemar_p: float
    discordant: list[int]
    """Rows that only the teacher has right, rows that only the ensemble has right."""
    chosen_here: bool
    """Whether the teacher was chosen by these very rows, which flatters it, and so were searched weights, which flatters the
    ensemble more."""


@dataclass(frozen=True, kw_only=True)
class EnsembleMetrics:
    """`ensemble_metrics.json`: figures under the names of the documents, and what they are of.

    The plain names are those of uncalibrated log-probabilities; `evaluated.scaled` holds the calibrated ones.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    name: str
    split: str
    n: int
    row_set_fingerprint: str
    accuracy: float
    macro_f1: float
    minority_f1: float
    per_class_f1: dict[str, float]
    nll: float
    ece: float
    brier: float
    weights: dict[str, float]
    """Teacher's name -> share."""
    space: str
    evaluated: list[EvaluatedCheckpoint]
    """The ensemble on each judged split: val first, for soft labels in the order of the export; the plain names are of the
    first one."""
    teachers: dict[str, list[EvaluatedCheckpoint]]
    """Each teacher alone on the same rows, split by split."""
    best_teacher: str
    """On the first judged split (val for an ensemble), by macro-F1, minority-F1, ECE, accuracy."""
    against_best_teacher: list[TeacherComparison]
    """On each judged split; empty for soft labels."""

    @classmethod
    def of(
        cls,
        *,
        name: str,
        space: str,
        weights: dict[str, float],
        evaluated: list[EvaluatedCheckpoint],
        teachers: dict[str, list[EvaluatedCheckpoint]],
        best_teacher: str,
        against_best_teacher: list[TeacherComparison],
    ) -> Self:
        """Return the figures under the names of the documents: those of the first judged split."""
        first = evaluated[0]
        return cls(
            name=name,
            split=first.split,
            n=first.n,
            row_set_fingerprint=first.row_set_fingerprint,
            accuracy=first.raw.accuracy,
            macro_f1=first.raw.macro_f1,
            minority_f1=first.raw.minority_f1,
            per_class_f1=first.raw.per_class_f1,
            nll=first.raw.nll,
            ece=first.raw.ece,
            brier=first.raw.brier,
            weights=weights,
            space=space,
            evaluated=evaluated,
            teachers=teachers,
            best_teacher=best_teacher,
            against_best_teacher=against_best_teacher,
        )


@dataclass(frozen=True, kw_only=True)
class FusionFigures:
    """Figures of one point of a search on val."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    space: str
    weights: list[float]
    accuracy: float
    macro_f1: float
    minority_f1: float
    per_class_f1: dict[str, float]
    nll: float
    ece: float
    brier: float
    calibration_temperature: float
    """Fitted on all val rows: the one to deploy."""
    temperature_at_bound: bool
    nll_scaled: float
    """Scaled figures are cross-fitted."""
    ece_scaled: float
    brier_scaled: float


@dataclass(frozen=True, kw_only=True)
class WeightInterval:
    """Where a teacher's chosen weight lies when the val rows are drawn again."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    teacher: str
    weight: float
    interval: Range
    chosen_share: float
    """Share of resamples in which it gets any weight."""


@dataclass(frozen=True, kw_only=True)
class PairDiversity:
    """How differently two teachers err on val."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    teachers: list[str]
    disagreement: float
    """Share of rows with different predictions."""
    error_correlation: float | None
    """Phi coefficient of their errors; None where one of them has no error, or nothing but errors."""
    both_wrong: float
    one_right: float
    """Share of rows that exactly one of them has right."""
    cohen_kappa: float | None
    """Agreement of predictions beyond chance."""


@dataclass(frozen=True, kw_only=True)
class SubsetBest:
    """The best weights of some of the teachers, or of the rows of one source."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    teachers: list[str]
    source: str | None
    """None: all val rows."""
    n: int
    point: FusionFigures


@dataclass(frozen=True, kw_only=True)
class WeightSearchReport:
    """`weight_search.json`: how weights were found, how sure they are, and what the choice itself flatters."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    search: str
    aim: str
    spaces: list[str]
    teachers: list[str]
    num_points: int
    num_folds: int
    row_set_fingerprint: str
    n: int
    chosen: FusionFigures
    cross_validated: FusionFigures | None
    """Each row judged by weights (and a temperature) that were chosen on the other folds: the figure to believe. Its weights
    are those of `chosen`; None where all rows are linked."""
    fold_weights: list[list[float]]
    """Weights chosen on the rows outside each fold."""
    fold_spaces: list[str]
    weight_intervals: list[WeightInterval]
    confidence: float
    num_resamples: int
    diversity: list[PairDiversity]
    oracle_accuracy: float
    """Share of rows that at least one teacher has right."""
    subsets: list[SubsetBest]
    """Pairs and triples on all val rows, then each source with all teachers: chosen by these very rows."""
