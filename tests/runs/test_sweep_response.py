"""How figures respond to swept options: which options vary, on what scale, along which lines, with which intervals."""

import statistics

import pytest
from scipy.stats import t

from fer_lightning.runs.sweep_response import ResponsePoint, lines_along, means_over_seeds, varied_options
from tests.runs.finished_runs import metrics


def point(macro_f1: float = 0.5, **options: str) -> ResponsePoint:
    return ResponsePoint(options=options, row_set="ab", raw=metrics(macro_f1, nll=2 * macro_f1))


def test_options_with_one_value_do_not_vary() -> None:
    assert varied_options([point(a="1", b="x"), point(a="1", b="x")]) == []
    assert [option.option for option in varied_options([point(a="1", b="x"), point(a="2", b="x")])] == ["a"]


@pytest.mark.parametrize(
    ("values", "expected", "numeric", "logarithmic"),
    [
        (["4", "1", "2"], ("1", "2", "4"), True, False),
        (["1e-2", "0.001", "3e-3"], ("0.001", "3e-3", "1e-2"), True, True),
        (["0", "0.01", "1"], ("0", "0.01", "1"), True, False),
        (["-1", "10"], ("-1", "10"), True, False),
        (["focal", "arcface"], ("focal", "arcface"), False, False),
        (["null", "0.1"], ("null", "0.1"), False, False),
        (["nan", "1"], ("nan", "1"), False, False),
        (["true", "false"], ("true", "false"), False, False),
        (["[0.5,0.5]", "[1,0]"], ("[0.5,0.5]", "[1,0]"), False, False),
    ],
)
def test_scales(values: list[str], expected: tuple[str, ...], numeric: bool, logarithmic: bool) -> None:
    (option,) = varied_options([point(a=value) for value in values])
    assert (option.values, option.numeric, option.logarithmic) == (expected, numeric, logarithmic)


def test_a_number_written_in_two_ways_is_one_value() -> None:
    (option,) = varied_options([point(a="1"), point(a="1.0"), point(a="2")])
    assert [float(value) for value in option.values] == [1.0, 2.0]
    assert [option.place(one) for one in (point(a="1"), point(a="1.0"), point(a="2"))] == [1.0, 1.0, 2.0]


def test_lines_hold_the_other_options_and_go_along_one() -> None:
    points = [point(a=a, b=b) for a in ("2", "1") for b in ("y", "x")]
    along, other = varied_options(points)
    lines = lines_along(along, [other], points)
    assert [line.label for line in lines] == ["b=y", "b=x"]
    assert [[one.options["a"] for one in line.points] for line in lines] == [["1", "2"], ["1", "2"]]
    (alone,) = lines_along(along, [], points)
    assert (alone.label, len(alone.points)) == ("", 4)


def test_means_over_seeds_have_a_t_interval() -> None:
    values = [0.5, 0.6, 0.61]
    points = [*(point(value, a="1") for value in values), point(0.7, a="2")]
    (along,) = varied_options(points)
    means = means_over_seeds(along, points, "nll")
    doubled = [2 * value for value in values]
    low, high = t.interval(0.95, 2, loc=statistics.mean(doubled), scale=statistics.stdev(doubled) / 3**0.5)
    assert [*means] == [1.0, 2.0]
    assert [means[1.0].low, means[1.0].high] == pytest.approx([low, high])
    assert (means[2.0].mean, means[2.0].low) == (1.4, None)
