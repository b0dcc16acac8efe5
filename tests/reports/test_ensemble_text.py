"""Console text of ensembles: tables, the sentence about the best teacher, and alarms."""

from dataclasses import replace

import pytest

from fer_lightning.reports.ensemble_text import (
    alarms,
    comparison_text,
    figures_text,
    line_of,
    seen_in_training,
    teachers_text,
    twins,
    verdict,
)
from fer_lightning.reports.leaderboard_cells import weights_text
from tests.runs.compared_ensembles import comparison, finished


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (
            0.01,
            0.03,
            "the ensemble beats its best single teacher RN18 on test: macro-F1 +.0200 [.0100, .0300], p = .040, n=40",
        ),
        (
            -0.03,
            -0.01,
            "the ensemble is worse than its best single teacher RN18 on test: macro-F1 -.0200 [-.0300, -.0100]",
        ),
        (
            -0.01,
            0.03,
            "the ensemble does not beat its best single teacher RN18 on test: the interval holds 0 (macro-F1 +.0100",
        ),
        (0.0, 0.02, "the ensemble does not beat"),
    ],
)
def test_the_interval_of_macro_f1_decides_what_is_said(low: float, high: float, said: str) -> None:
    assert verdict(comparison(low, high)).startswith(said)


def test_an_interval_and_a_p_value_that_disagree_are_no_verdict() -> None:
    unsure = replace(comparison(0.01, 0.03).figures["macro_f1"], p_value=0.12)
    said = verdict(replace(comparison(0.01, 0.03), figures={"macro_f1": unsure}))
    assert said == (
        "nothing is certain between the ensemble and its best single teacher RN18 on test: the interval leaves 0 out, the p-value "
        "does not (macro-F1 +.0200 [.0100, .0300], p = .120, n=40)"
    )


def test_a_comparison_says_whom_the_choice_flatters() -> None:
    on_val = comparison(0.01, 0.03, split="val")
    assert "flatters the ensemble" in comparison_text(on_val, calibrated=True, searched=True)
    given = comparison_text(on_val, calibrated=True, searched=False)
    assert given.endswith(
        "val rows chose the teacher as the best one, which flatters it; the weights were not chosen by them"
    )
    on_test = comparison_text(comparison(0.01, 0.03), calibrated=True, searched=True)
    assert "flatters" not in on_test
    assert "+.0200 [.0100, .0300]" in on_test


def test_a_comparison_says_whether_its_figures_are_calibrated() -> None:
    assert comparison_text(comparison(0.01, 0.03), calibrated=True, searched=False).startswith("test, n=40, calibrated")
    assert "calibrated" not in comparison_text(comparison(0.01, 0.03), calibrated=False, searched=False)


def test_every_split_has_a_table_with_every_teacher() -> None:
    text = figures_text(finished("e", (0.7, 0.3), macro_f1=0.71, ece_scaled=None).metrics)
    on_val, on_test = text.split("\n\n")
    assert [line.split()[0] for line in on_val.splitlines()[2:]] == ["ensemble", "RN18", "B3"]
    assert on_val.startswith("val, n=51")
    assert on_test.startswith("test, n=40")
    assert on_val.splitlines()[2].split() == [
        "ensemble",
        ".5000",
        ".7100",
        ".5000",
        ".5000",
        "-",
        ".5000",
        "-",
        ".5000",
        "-",
    ]


def test_bounds_are_said_one_by_one() -> None:
    record = finished("e", at_bound=True).record
    assert [line.partition(" is")[0] for line in alarms(record)] == ["the temperature of RN18", "the temperature of B3"]
    assert alarms(finished("e").record) == []


def test_short_lines() -> None:
    assert weights_text({"RN18": 0.7, "B3": 1 / 3}) == "0.7 RN18 + 0.3333 B3"
    assert line_of("e", finished("e", macro_f1=0.71).metrics) == (
        "e: val macro-F1 .7100, minority .5000, ECE .0200, accuracy .5000"
    )
    assert seen_in_training([("B3", "val", 7)]) == [
        "B3 was trained on 7 of the val rows: their figures say nothing about other rows"
    ]
    assert teachers_text([replace(one, given=f"runs/{one.name}") for one in finished("e").record.teachers]) == (
        "RN18 is runs/RN18\nB3 is runs/B3"
    )
    assert twins([("RN18", "B3")]) == [
        "RN18 and B3 have the very same logits on val: they are one network, which counts twice"
    ]
