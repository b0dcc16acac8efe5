"""What any run reached on which rows, and which runs of a folder are the best on theirs."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.runs.artifacts import EvaluatedCheckpoint, ReliabilityMetrics, read_artifact
from fer_lightning.runs.document_order import document_place
from fer_lightning.runs.ensemble import ENSEMBLE_FILE, ENSEMBLE_METRICS_FILE, EnsembleMetrics
from fer_lightning.runs.evaluation import Evaluation
from fer_lightning.runs.run_folders import KINDS, RunFolder
from fer_lightning.runs.softlabels import HASH_FILE, SOFTLABELS_FILE

RANKED_AS = {"ensembles": "ensembles", "softlabels": "ensembles", "teachers": "teachers", "students": "students"}
"""Kind -> what it is ranked among: soft labels hold an ensemble's figures, and stand beside ensembles."""
NAMES = ("macro_f1", "minority_f1", "ece", "ece_scaled", "accuracy", "nll", "nll_scaled")
"""Of figures, in the order of tables."""
SPLITS = ("val", "test", "train")
"""In the order of tables: rows that choose, rows that judge, rows that have been seen."""

_METRICS_FILE, _EVALUATION_FILE = "reliabilitymetrics.json", "evaluation.json"


@dataclass(frozen=True, order=True)
class Rows:
    """What figures must share to be compared."""

    split: str
    row_set_fingerprint: str
    n: int
    num_bins: int
    """Of ECE."""
    view: str
    """Of evaluations; `single` for all others, which are told apart by nothing else."""


@dataclass(frozen=True)
class RunFigures:
    """What a run reached."""

    rows: Rows
    figures: dict[str, float | None]
    """By `NAMES`; None where there is no calibration."""
    space: str | None = None
    """Of ensembles and soft labels."""
    weights: dict[str, float] | None = None
    """Of ensembles and soft labels: teacher -> share."""


@dataclass(frozen=True)
class Judged:
    """A run with its figures."""

    run: RunFolder
    reached: RunFigures


@dataclass(frozen=True)
class RankedGroup:
    """Runs judged on the same rows, best first."""

    among: str
    """What is ranked: a value of `RANKED_AS`, or a kind that is not ranked otherwise."""
    rows: Rows
    ece: str
    """`ece_scaled` where every run of the group has it, else `ece`: which one decides."""
    members: tuple[Judged, ...]

    def is_best(self, judged: Judged) -> bool:
        """Return whether no other run of the group is better; several are where they tie in everything that decides."""
        return place_of(judged, self.ece) == place_of(self.members[0], self.ece)

    def is_best_of_kind(self, judged: Judged) -> bool:
        """Return whether no other run of its kind is better."""
        first = next(item for item in self.members if item.run.kind == judged.run.kind)
        return place_of(judged, self.ece) == place_of(first, self.ece)

    def drop(self, judged: Judged) -> float:
        """Return how far its macro-F1 lies below the best."""
        return _number(self.members[0], "macro_f1") - _number(judged, "macro_f1")


def _number(judged: Judged, name: str) -> float:
    value = judged.reached.figures[name]
    return math.nan if value is None else value


def place_of(judged: Judged, ece: str) -> tuple[float, float, float, float]:
    """Return what decides, smaller first: macro-F1, minority-F1, ECE (lower is better), accuracy."""
    macro_f1, minority_f1, accuracy = (_number(judged, name) for name in ("macro_f1", "minority_f1", "accuracy"))
    return document_place(macro_f1=macro_f1, minority_f1=minority_f1, ece=_number(judged, ece), accuracy=accuracy)


def _of_checkpoint(result: EvaluatedCheckpoint, where: Path, view: str = "single") -> RunFigures:
    raw, scaled = result.raw, result.scaled
    figures = {name: None if scaled is None else getattr(scaled, name.removesuffix("_scaled")) for name in NAMES}
    figures |= {name: getattr(raw, name) for name in NAMES if not name.endswith("_scaled")}
    infinite = [name for name, value in figures.items() if value is not None and math.isnan(value)]
    if infinite:
        raise FerError(f"{where}: {', '.join(infinite)} on {result.split} is not a number")
    rows = Rows(result.split, result.row_set_fingerprint, result.n, result.num_bins, view)
    return RunFigures(rows, figures)


def _check_is_of_this_ensemble(path: Path, judged: Sequence[EvaluatedCheckpoint]) -> None:
    """Refuse figures of another `ensemble.json` than the one beside them.

    Raises:
        FerError: they are of another.
    """
    try:
        digest = hashlib.sha256((path / ENSEMBLE_FILE).read_bytes()).hexdigest()
    except OSError as error:
        raise FerError(f"{path}: cannot read its {ENSEMBLE_FILE}: {error.strerror}") from error
    if any(item.checkpoint == ENSEMBLE_FILE and item.checkpoint_sha256 != digest for item in judged):
        raise FerError(f"{path}: {ENSEMBLE_METRICS_FILE} is of another {ENSEMBLE_FILE} than the one beside it")


def _of_ensemble(run: RunFolder) -> RunFigures | None:
    """Read the figures on val where there are any, else on test, else on train."""
    path = run.path
    needed = (ENSEMBLE_FILE,) if run.kind == "ensembles" else (HASH_FILE, SOFTLABELS_FILE)
    missing = [name for name in needed if not (path / name).is_file()]
    if missing:
        raise FerError(f"{path}: incomplete, it has no {' and no '.join(missing)}")
    file = path / ENSEMBLE_METRICS_FILE
    if not file.exists():
        return None
    metrics = read_artifact(file, EnsembleMetrics)
    if run.kind == "ensembles":
        _check_is_of_this_ensemble(path, metrics.evaluated)
    judged = sorted((item for item in metrics.evaluated if item.split in SPLITS), key=lambda e: SPLITS.index(e.split))
    if not judged:
        raise FerError(f"{file} has no figures on val, test or train rows")
    found = _of_checkpoint(judged[0], file)
    return RunFigures(found.rows, found.figures, metrics.space, metrics.weights)


def read_figures(run: RunFolder) -> RunFigures | None:
    """Read what a run reached, as its own files say.

    Args:
        run: the run; of a teacher or student best.pt counts.

    Returns:
        The figures; None for a run that has not been judged, or of a kind without figures of its own.

    Raises:
        FerError: an incomplete or damaged run; the message says which file.
    """
    if run.kind in {"ensembles", "softlabels"}:
        return _of_ensemble(run)
    if run.kind in {"teachers", "students"}:
        file = run.path / _METRICS_FILE
        return _of_checkpoint(read_artifact(file, ReliabilityMetrics).best, file) if file.exists() else None
    if run.kind == "evaluations":
        file = run.path / _EVALUATION_FILE
        evaluation = read_artifact(file, Evaluation)
        return _of_checkpoint(evaluation.result, file, evaluation.view)
    return None


def ranked_groups(judged: Iterable[Judged]) -> list[RankedGroup]:
    """Put runs together that were judged on the same rows, best first.

    Order: macro-F1, minority-F1, ECE (lower is better; calibrated where every run of the group is), accuracy, then path.

    Args:
        judged: runs of any kinds; see `RANKED_AS` for what is ranked together.
    """
    by_rows: dict[tuple[str, Rows], list[Judged]] = {}
    for item in judged:
        among = RANKED_AS.get(item.run.kind, item.run.kind)
        by_rows.setdefault((among, item.reached.rows), []).append(item)
    groups = []
    for (among, rows), members in by_rows.items():
        calibrated = all(item.reached.figures["ece_scaled"] is not None for item in members)
        ece = "ece_scaled" if calibrated else "ece"
        ranked = sorted(members, key=lambda item: (place_of(item, ece), item.run.path))
        groups.append(RankedGroup(among, rows, ece, tuple(ranked)))

    def order(group: RankedGroup) -> tuple[int, int, Rows]:
        split = group.rows.split
        return KINDS.index(group.among), SPLITS.index(split) if split in SPLITS else len(SPLITS), group.rows

    return sorted(groups, key=order)
