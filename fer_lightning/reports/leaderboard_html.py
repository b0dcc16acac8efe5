"""Leaderboards as one self-contained HTML page, whose columns sort at a click."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from fer_lightning.reports.evaluation_board_page import (
    EVALUATION_LABELS,
    cost_texts,
    heading_of_evaluations,
    notes_of,
    range_text,
    seeds_text,
    seen_text,
)
from fer_lightning.reports.leaderboard_cells import NONE, bare, interval, mean_of, whole
from fer_lightning.reports.leaderboard_page import LABELS, heading_of
from fer_lightning.runs.evaluation_board import (
    EVALUATION_FIGURES,
    ComparedEvaluation,
    EvaluationBoard,
    EvaluationTable,
)
from fer_lightning.runs.leaderboard import (
    FIGURES,
    ComparedRecipe,
    Leaderboard,
    LeaderboardTable,
    LeftOut,
    OverSeeds,
)

_LOWER_IS_BETTER = {"ece", "ece_scaled", "nll", "nll_scaled"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell."""

    shown: str
    small: str = ""
    """In a second, smaller line: an interval."""
    key: float | None = None
    """What the column sorts by; None: `shown`."""
    best: bool = False
    """The best of its column."""
    alarming: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """What one column shows."""

    title: str
    words: bool = False
    """Text, to the left."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One table of the page."""

    heading: str
    label: str | None
    notes: list[str]
    columns: list[Column]
    rows: list[list[Cell]]
    files: list[list[str]]
    """Behind each row."""


def _number(shown: str, key: float | None) -> Cell:
    return Cell(shown=shown, key=math.nan if key is None else key)


def _bests(figures: Sequence[dict[str, OverSeeds | None]], names: Sequence[str]) -> dict[str, float]:
    """Return the best mean of each figure, where there is something to choose from."""
    bests = {}
    for name in names:
        means = [figure.mean for of_row in figures if (figure := of_row[name]) is not None]
        if len(means) > 1:
            bests[name] = min(means) if name in _LOWER_IS_BETTER else max(means)
    return bests


def _figure(figure: OverSeeds | None, shown: str, small: str, best: float | None) -> Cell:
    if figure is None:
        return _number(NONE, None)
    small = "" if small == NONE else small
    return Cell(shown=shown, small=small, key=figure.mean, best=figure.mean == best)


def _recipe_row(place: int, recipe: ComparedRecipe, bests: dict[str, float]) -> list[Cell]:
    figures = [
        _figure(recipe.figures[name], mean_of(recipe.figures[name]), interval(recipe.figures[name]), bests.get(name))
        for name in FIGURES
    ]
    best_epochs = [epoch + 1 for epoch in recipe.best_epochs]
    return [
        _number(str(place), place),
        Cell(shown=recipe.name),
        _number(str(len(recipe.seeds)), len(recipe.seeds)),
        *figures,
        _number(whole(best_epochs), max(best_epochs)),
        _number(whole(recipe.rollbacks), max(recipe.rollbacks)),
        _number(f"{recipe.num_parameters:,}", recipe.num_parameters),
        _number(f"{recipe.images_per_second.mean:.0f}", recipe.images_per_second.mean),
        _number(f"{recipe.minutes.mean:.2f}", recipe.minutes.mean),
    ]


def _differences(table: LeaderboardTable) -> list[str]:
    lines = []
    for recipe in table.recipes:
        against = recipe.against_baseline
        if against is not None and (figure := against.figures["macro_f1"]) is not None:
            seeds = f"{len(against.seeds)} seed{'s' * (len(against.seeds) != 1)}"
            ends = "" if figure.low is None else f" {interval(figure)}"
            lines.append(f"{recipe.name} less {table.baseline}, over {seeds}: macro-F1 {bare(figure.mean)}{ends}")
    return lines


def _of_runs(table: LeaderboardTable) -> Shown:
    bests = _bests([recipe.figures for recipe in table.recipes], FIGURES)
    titles = ["seeds", *LABELS.values(), "best epoch", "rollbacks", "parameters", "images/s", "minutes"]
    notes = ["figures of best.pt: mean ± deviation over seeds, below it the 95 % interval of the mean (Student t)"]
    return Shown(
        heading=heading_of(table),
        label=None,
        notes=notes + _differences(table),
        columns=[Column(title="#"), Column(title="recipe", words=True), *(Column(title=title) for title in titles)],
        rows=[_recipe_row(place, recipe, bests) for place, recipe in enumerate(table.recipes, start=1)],
        files=[recipe.runs for recipe in table.recipes],
    )


def _evaluation_row(place: int, model: ComparedEvaluation, bests: dict[str, float]) -> list[Cell]:
    figures = [
        _figure(
            model.figures[name],
            mean_of(model.figures[name]),
            range_text(name, model),
            None if model.seen_in_training else bests.get(name),
        )
        for name in EVALUATION_FIGURES
    ]
    parameters, minutes = cost_texts(model)
    seen = [number or 0 for number in model.rows_seen_in_training]
    return [
        _number(str(place), place),
        Cell(shown=model.name, small=", ".join(sha256[:8] for sha256 in model.checkpoint_sha256s)),
        *figures,
        Cell(shown=model.calibration or "none"),
        Cell(shown=seen_text(model), key=max(seen), alarming=model.seen_in_training),
        Cell(shown=seeds_text(model)),
        _number(parameters, model.num_parameters),
        _number(minutes, None if model.minutes is None else model.minutes.mean),
        Cell(shown=", ".join(model.manifests)),
    ]


def _of_evaluations(table: EvaluationTable) -> Shown:
    bests = _bests([model.figures for model in table.models if not model.seen_in_training], EVALUATION_FIGURES)
    columns = [Column(title="#"), Column(title="model", words=True)]
    columns += [Column(title=title) for title in EVALUATION_LABELS.values()]
    columns += [Column(title="calibrated by", words=True), Column(title="rows seen in training")]
    columns += [Column(title="seeds", words=True), Column(title="parameters"), Column(title="minutes of training")]
    columns.append(Column(title="manifest", words=True))
    return Shown(
        heading=heading_of_evaluations(table),
        label=table.label,
        notes=[note for note in notes_of(table) if note != table.label],
        columns=columns,
        rows=[_evaluation_row(place, model, bests) for place, model in enumerate(table.models, start=1)],
        files=[model.evaluations for model in table.models],
    )


def page_html(title: str, order: Sequence[str], tables: Sequence[Shown], left_out: Sequence[LeftOut]) -> str:
    """Return tables as a page; every name that comes from outside is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("leaderboard.html.j2")
    return template.render(title=title, order=order, tables=tables, left_out=left_out)


def leaderboard_html(board: Leaderboard | EvaluationBoard) -> str:
    """Return a leaderboard of either kind as HTML; every name that comes from outside is escaped."""
    if isinstance(board, Leaderboard):
        return page_html("Leaderboard", board.order, [_of_runs(table) for table in board.tables], board.left_out)
    shown = [_of_evaluations(table) for table in board.tables]
    return page_html("Leaderboard of evaluations", board.order, shown, board.left_out)
