"""A weight search for people: chosen weights, the figure to believe, diversity, subsets; and every point as CSV."""

import csv
import io
from collections.abc import Sequence

from fer_lightning.reports.leaderboard_cells import NONE, bare, cell, weights_text
from fer_lightning.reports.tables import text_table
from fer_lightning.runs.document_order import document_place
from fer_lightning.runs.ensemble import SEARCH_FILE, FusionFigures, SubsetBest, WeightSearchReport

_MOST_ON_CONSOLE = 20
_HEADER = ("macro-F1", "minority", "ECE scaled", "accuracy", "NLL scaled")
_SUMMARY = ("macro_f1", "minority_f1", "accuracy", "nll", "ece", "brier")
_SCALED = ("calibration_temperature", "temperature_at_bound", "nll_scaled", "ece_scaled", "brier_scaled")


def _cells(point: FusionFigures) -> list[str]:
    values = (point.macro_f1, point.minority_f1, point.ece_scaled, point.accuracy, point.nll_scaled)
    return [bare(value) for value in values]


def _chosen(report: WeightSearchReport) -> str:
    rows = [[f"chosen ({report.chosen.space})", *_cells(report.chosen)]]
    if report.cross_validated is not None:
        rows.append(["cross-validated", *_cells(report.cross_validated)])
    table = text_table([f"{report.search}, {report.num_points} points", *_HEADER], rows)
    note = f"chosen and judged on the same {report.n} val rows, which flatters it"
    if report.cross_validated is not None:
        note += f"; cross-validated: weights and temperature from the other of {report.num_folds} folds, the figure to believe"
    return f"{table}\n{note}"


def _weights(report: WeightSearchReport) -> str:
    intervals = {entry.teacher: entry for entry in report.weight_intervals}
    rows = []
    for name, weight in zip(report.teachers, report.chosen.weights, strict=True):
        entry = intervals.get(name)
        ends = NONE if entry is None else f"[{bare(entry.interval.low)}, {bare(entry.interval.high)}]"
        rows.append([name, f"{weight:.4g}", ends, NONE if entry is None else f"{100 * entry.chosen_share:.0f} %"])
    return text_table(["teacher", "weight", f"{100 * report.confidence:g} % interval", "has any"], rows)


def _diversity(report: WeightSearchReport) -> str:
    rows = [
        [
            " and ".join(pair.teachers),
            bare(pair.disagreement),
            cell(pair.error_correlation),
            bare(pair.both_wrong),
            bare(pair.one_right),
            cell(pair.cohen_kappa),
        ]
        for pair in report.diversity
    ]
    table = text_table(["pair", "disagree", "errors correlate", "both wrong", "one right", "kappa"], rows)
    return f"{table}\nat least one teacher is right on {bare(report.oracle_accuracy)} of the rows"


def _subset_row(best: SubsetBest) -> list[str]:
    weights = dict(zip(best.teachers, best.point.weights, strict=True))
    if best.source is None:
        name = weights_text(weights)  # with those of weight 0, which tell the pair or triple
    else:
        name = f"{best.source} (n={best.n}): {weights_text({one: weight for one, weight in weights.items() if weight})}"
    return [f"{name}, {best.point.space}", *_cells(best.point)]


def _place(point: FusionFigures) -> tuple[float, ...]:
    return document_place(
        macro_f1=point.macro_f1, minority_f1=point.minority_f1, ece=point.ece_scaled, accuracy=point.accuracy
    )


def _missed(report: WeightSearchReport) -> list[str]:
    """Say that a search which does not try every point has passed by a better one, as the grids of pairs and triples show."""
    by_nll = report.aim == "nll" and report.search in {"optimise", "greedy"}
    some = [best for best in report.subsets if best.source is None]
    best = min(some, key=lambda one: _place(one.point), default=None)
    if by_nll or best is None or _place(best.point)[0] >= _place(report.chosen)[0]:
        return []
    figures = f"macro-F1 {bare(best.point.macro_f1)} against {bare(report.chosen.macro_f1)} of the chosen weights"
    return [
        f"{report.search} has missed a better point: {_subset_row(best)[0]}, {figures}; ensemble.search=grid tries all"
    ]


def search_text(report: WeightSearchReport) -> str:
    """Return a search for the console; of many pairs and triples the best ones."""
    parts = [_chosen(report), _weights(report), _diversity(report)]
    if report.subsets:
        some = [best for best in report.subsets if best.source is None]
        if len(some) > _MOST_ON_CONSOLE:
            some = sorted(some, key=lambda one: _place(one.point))[:_MOST_ON_CONSOLE]
        of_sources = [best for best in report.subsets if best.source is not None]
        table = text_table(["best of some", *_HEADER], [_subset_row(best) for best in [*some, *of_sources]])
        more = len(report.subsets) - len(some) - len(of_sources)
        notes = ["chosen by these very rows, which flatters them", *_missed(report)]
        notes += [f"and {more} more pairs and triples in {SEARCH_FILE}"] * (more > 0)
        parts.append("\n".join([table, *notes]))
    return "\n\n".join(parts)


def summary_csv(points: Sequence[FusionFigures], names: Sequence[str]) -> str:
    """Return every point of a search as CSV, in the order given.

    Args:
        points: best first.
        names: of the teachers, in the order of the weights.
    """
    classes = list(points[0].per_class_f1)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        [
            "place",
            "space",
            *(f"weight_{name}" for name in names),
            *_SUMMARY,
            *_SCALED,
            *(f"f1_{name}" for name in classes),
        ]
    )
    for place, point in enumerate(points, start=1):
        figures = [getattr(point, name) for name in (*_SUMMARY, *_SCALED)]
        writer.writerow([place, point.space, *point.weights, *figures, *(point.per_class_f1[name] for name in classes)])
    return file.getvalue()
