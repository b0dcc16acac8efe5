"""Figures of a weight search: one kind for each number of teachers, one panel for each space."""

from dataclasses import replace
from pathlib import Path

import pytest

from fer_lightning.reports.ensemble_figures import diversity_figure, weights_figure, write_search_figures
from fer_lightning.reports.weight_search_text import search_text, summary_csv
from fer_lightning.runs.ensemble import FusionFigures, PairDiversity, SubsetBest, WeightInterval, WeightSearchReport
from fer_lightning.runs.evaluation import Range
from tests.runs.examples import example

NAMES = ["RN18", "B3", "CNXT", "VIT"]


def points(num_teachers: int, space: str = "logit") -> list[FusionFigures]:
    """Return the corners and the middle of the simplex; the middle is the best."""
    corners = [[float(place == number) for place in range(num_teachers)] for number in range(num_teachers)]
    all_weights = [*corners, [1 / num_teachers] * num_teachers]
    return [
        replace(example(FusionFigures), space=space, weights=weights, macro_f1=0.5 + max(weights) * -0.1)
        for weights in all_weights
    ]


def report(num_teachers: int) -> WeightSearchReport:
    names = NAMES[:num_teachers]
    pair = replace(example(PairDiversity), teachers=names[:2], error_correlation=None, disagreement=0.25)
    chosen = points(num_teachers)[-1]
    plain: WeightSearchReport = example(WeightSearchReport)
    return replace(
        plain,
        search="grid",
        teachers=names,
        chosen=chosen,
        cross_validated=replace(chosen, macro_f1=0.41),
        num_points=15,
        num_folds=5,
        n=51,
        weight_intervals=[
            WeightInterval(teacher=names[0], weight=0.5, interval=Range(low=0.25, high=0.75), chosen_share=0.98)
        ],
        confidence=0.95,
        diversity=[pair],
        oracle_accuracy=0.875,
        subsets=[SubsetBest(teachers=names, source="web", n=7, point=chosen)],
    )


@pytest.mark.parametrize(("num_teachers", "panels"), [(2, 4), (3, 4), (4, 2)])
def test_every_number_of_teachers_has_a_figure(num_teachers: int, panels: int) -> None:
    both = points(num_teachers) + points(num_teachers, "prob")
    figure = weights_figure(both, NAMES[:num_teachers])
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["logit", "prob"]
    assert len(figure.axes) == panels  # a second scale, or a colour bar, beside each


def test_the_best_point_of_a_triangle_is_circled_where_it_lies() -> None:
    axes = weights_figure(points(3), NAMES[:3]).axes[0]
    assert axes.collections[1].get_offsets().tolist() == [pytest.approx([0.5, 3**0.5 / 6])]  # type: ignore[union-attr]


def test_a_correlation_that_is_not_known_stays_empty(tmp_path: Path) -> None:
    figure = diversity_figure(report(2))
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes[:2]]
    assert texts == [["0.250", "0.250"], []]
    write_search_figures(tmp_path, points(2), report(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diversity.png", "weights.png"]


def test_the_text_sets_the_believable_figure_beside_the_optimistic_one() -> None:
    text = search_text(report(3))
    chosen, believed = (line for line in text.splitlines() if line.startswith(("chosen (", "cross-validated ")))
    assert ".4667" in chosen
    assert ".4100" in believed
    assert "[.2500, .7500]" in text
    assert "98 %" in text
    assert "at least one teacher is right on .8750 of the rows" in text
    assert "web (n=7): 0.3333 RN18 + 0.3333 B3 + 0.3333 CNXT, logit" in text
    alone = search_text(replace(report(3), cross_validated=None, subsets=[], weight_intervals=[]))
    assert "cross-validated" not in alone
    assert "best of some" not in alone


def test_a_better_point_that_the_search_has_missed_is_told() -> None:
    found = report(3)
    best = SubsetBest(teachers=NAMES[:3], source=None, n=51, point=replace(found.chosen, macro_f1=0.99))
    missed = replace(found, search="simplex", aim="nll", subsets=[best])
    said = "simplex has missed a better point: 0.3333 RN18 + 0.3333 B3 + 0.3333 CNXT, logit, macro-F1 .9900 against .4667 of"
    assert said in search_text(missed)
    assert "missed" not in search_text(replace(missed, subsets=[replace(best, point=found.chosen)]))
    assert "missed" not in search_text(replace(missed, subsets=[replace(best, source="web")]))
    assert "missed" not in search_text(replace(missed, search="optimise"))
    assert "optimise has missed" in search_text(replace(missed, search="optimise", aim="macro_f1"))


def test_of_many_pairs_and_triples_the_console_shows_the_best() -> None:
    found = report(3)
    some = [
        SubsetBest(
            teachers=NAMES[:2], source=None, n=51, point=replace(found.chosen, macro_f1=place / 100, weights=[1, 0])
        )
        for place in range(30)
    ]
    text = search_text(replace(found, subsets=[*some, *found.subsets]))
    shown = [line.split()[6] for line in text.splitlines() if line.startswith("1 RN18 + 0 B3, logit")]
    assert shown == [f".{place}00" for place in range(29, 9, -1)]
    assert "and 10 more pairs and triples in weight_search.json" in text


def test_the_summary_has_a_line_for_each_point_in_the_order_given() -> None:
    lines = summary_csv(points(2), NAMES[:2]).splitlines()
    assert lines[0].startswith("place,space,weight_RN18,weight_B3,macro_f1,")
    assert [line.split(",")[:4] for line in lines[1:]] == [
        ["1", "logit", "1.0", "0.0"],
        ["2", "logit", "0.0", "1.0"],
        ["3", "logit", "0.5", "0.5"],
    ]
