"""Builds a leaderboard from finished runs; figures of different val rows never meet in one table."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.runs.baseline import take_differences
from fer_lightning.runs.document_order import DOCUMENT_ORDER, document_place
from fer_lightning.runs.finished_run import FinishedRun
from fer_lightning.runs.leaderboard import FIGURES, ComparedRecipe, Leaderboard, LeaderboardTable, LeftOut, OverSeeds
from fer_lightning.runs.recipes import ABSENT, group_recipes, recipe_names, telling_options

ORDER = (
    *DOCUMENT_ORDER,
    "deviation of macro_f1, lower",
    "minutes, fewer",
)
"""What decides a place, the first one first: the words of `rank_of`."""
_Rows = tuple[str, str, int, int]
"""Split, fingerprint, rows and ECE bins: what figures must share to be compared."""


def _judged_on(run: FinishedRun) -> _Rows:
    best = run.best
    return best.split, best.row_set_fingerprint, best.n, best.num_bins


def _once_per_seed(runs: Sequence[FinishedRun]) -> tuple[list[FinishedRun], list[LeftOut]]:
    """Keep one run of each seed: the same options and seed again are no further evidence."""
    kept: dict[int, FinishedRun] = {}
    repeats = [
        LeftOut(run=str(run.path), reason=f"the same options and seed as {kept[run.seed].path}, which is counted")
        for run in runs
        if kept.setdefault(run.seed, run) is not run
    ]
    return list(kept.values()), repeats


def _refuse_several_row_sets(tables: dict[_Rows, list[FinishedRun]]) -> None:
    lines = []
    for (split, fingerprint, n, bins), runs in tables.items():
        paths = ", ".join(str(run.path) for run in runs)
        lines.append(f"{split} rows {fingerprint[:8]} (n={n}, ECE of {bins} bins): {len(runs)} of the runs: {paths}")
    listed = "\n  ".join(lines)
    raise FerError(
        f"runs judged on different rows cannot be compared:\n  {listed}\n"
        f"Name runs of one set in compare.runs, or ask for a table of each with compare.split_by_rows=true."
    )


def _figure(name: str, runs: Sequence[FinishedRun]) -> OverSeeds | None:
    values = [value for run in runs if (value := run.figures[name]) is not None]
    return OverSeeds.of(values) if len(values) == len(runs) else None


def _compared(name: str, options: dict[str, str], runs: Sequence[FinishedRun], folder: Path) -> ComparedRecipe:
    first = runs[0]
    return ComparedRecipe(
        name=name,
        options=options,
        runs=[Path(os.path.relpath(run.path, folder)).as_posix() for run in runs],
        seeds=[run.seed for run in runs],
        figures={name: _figure(name, runs) for name in FIGURES},
        best_epochs=[run.best.epoch for run in runs],
        epochs=[len(run.history.epochs) for run in runs],
        rollbacks=[run.rollbacks for run in runs],
        started_from=first.alignment.starting_weights.kind,
        num_parameters=first.alignment.num_parameters,
        images_per_second=OverSeeds.of([run.images_per_second for run in runs]),
        minutes=OverSeeds.of([run.minutes for run in runs]),
        against_baseline=None,
    )


def rank_of(figures: Mapping[str, OverSeeds | None], minutes: float) -> tuple[float, ...]:
    """Return what a table is ordered by, smaller first; a deviation that is not known comes last."""
    means = {name: math.nan if figure is None else figure.mean for name, figure in figures.items()}
    ece = means["ece"] if figures["ece_scaled"] is None else means["ece_scaled"]
    macro_f1 = figures["macro_f1"]
    deviation = math.inf if macro_f1 is None or macro_f1.deviation is None else macro_f1.deviation
    place = document_place(
        macro_f1=means["macro_f1"], minority_f1=means["minority_f1"], ece=ece, accuracy=means["accuracy"]
    )
    return *place, deviation, minutes


def _table(rows: _Rows, runs: Sequence[FinishedRun], folder: Path) -> tuple[LeaderboardTable, list[LeftOut]]:
    groups = group_recipes(runs)
    options = [recipe for recipe, _ in groups]
    told = telling_options(options)
    names = recipe_names(options, told, [members[0] for _, members in groups])
    recipes, repeats = [], []
    for name, (recipe, members) in zip(names, groups, strict=True):
        kept, again = _once_per_seed(members)
        recipes.append(_compared(name, {key: recipe.get(key, ABSENT) for key in told}, kept, folder))
        repeats += again
    split, fingerprint, n, bins = rows
    table = LeaderboardTable(
        split=split,
        n=n,
        row_set_fingerprint=fingerprint,
        num_bins=bins,
        baseline=None,
        recipes=sorted(recipes, key=lambda recipe: rank_of(recipe.figures, recipe.minutes.mean)),
    )
    return table, repeats


def compare(
    runs: Sequence[FinishedRun],
    folder: Path,
    *,
    split_by_rows: bool = False,
    baseline: str | None = None,
    left_out: Sequence[LeftOut] = (),
) -> Leaderboard:
    """Compare the best checkpoints of finished runs over their seeds.

    Args:
        runs: at least one.
        folder: where the leaderboard will lie; its paths are relative to it.
        split_by_rows: one table for each set of val rows, instead of an error.
        baseline: what differences are taken to: directory of a run, part of its name, or of an option's value.
        left_out: what could not be read, for the record.

    Raises:
        FerError: runs judged on different rows; a baseline that is none of the recipes, or several.
    """
    by_rows: dict[_Rows, list[FinishedRun]] = {}
    for run in runs:
        by_rows.setdefault(_judged_on(run), []).append(run)
    if len(by_rows) > 1 and not split_by_rows:
        _refuse_several_row_sets(by_rows)
    tables, all_left_out = [], [*left_out]
    for rows, judged in by_rows.items():
        table, repeats = _table(rows, judged, folder)
        tables.append(table)
        all_left_out += repeats
    if baseline is not None:
        tables = take_differences(tables, baseline, folder)
    return Leaderboard(order=[*ORDER], tables=tables, left_out=all_left_out)
