"""`leaderboard.json` of ensembles: fused on the same val rows, ranked by these, best first."""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from fer_lightning.runs.artifacts import STRICT
from fer_lightning.runs.ensemble import TeacherComparison
from fer_lightning.runs.leaderboard import LeftOut

ENSEMBLE_FIGURES = ("macro_f1", "minority_f1", "accuracy", "ece", "ece_scaled", "nll", "nll_scaled", "brier")
"""In the order of tables; `scaled` is calibrated."""
NOT_CHOSEN_BY = "test: not used for the choice"
Figures = dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class ComparedTeacher:
    """One teacher alone, on the rows of a table."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    checkpoint_sha256: str
    val: Figures
    test: Figures | None


@dataclass(frozen=True, kw_only=True)
class ComparedEnsemble:
    """One ensemble."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    path: str
    """Its folder, relative to the file's own."""
    space: str
    weights: dict[str, float]
    """Teacher's name -> share."""
    weights_how: str
    teachers_scaled: bool
    """Whether each teacher's logits are divided by a temperature of its own first."""
    calibration: str | None
    calibration_temperature: float | None
    temperature_at_bound: bool
    """Of the ensemble's calibration or of a teacher's temperature."""
    val: Figures
    test: Figures | None
    """None where it was not judged on the test rows of its table."""
    best_teacher: str
    against_best_teacher: list[TeacherComparison]


@dataclass(frozen=True, kw_only=True)
class EnsembleTable:
    """Ensembles that were fused on the same val rows, best first."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    split: str
    view: str
    n: int
    row_set_fingerprint: str
    num_bins: int
    """Of ECE."""
    test_rows: int
    """0 where none was judged on test."""
    test_fingerprint: str | None
    label: str | None
    """What has to be said of the test figures wherever they are quoted."""
    ensembles: list[ComparedEnsemble]
    teachers: list[ComparedTeacher]
    """Each of them alone, best first."""


@dataclass(frozen=True, kw_only=True)
class EnsembleBoard:
    """All tables of a comparison of ensembles."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    order: list[str]
    """What decides, the first one first."""
    tables: list[EnsembleTable]
    left_out: list[LeftOut]
