"""The console tables of an evaluation."""

from dataclasses import replace

import torch

from fer_lightning.labels import EMOTIONS
from fer_lightning.reports.evaluation_text import (
    calibration_line,
    class_table,
    conformal_text,
    evaluation_text,
    headline_table,
    manifests_text,
    slices_text,
)
from fer_lightning.runs.evaluation import ConformalFigures, Range, SliceFigures, SliceGap
from fer_lightning.training.config import CalibrationMethod
from tests.reports.evaluations import evaluated
from tests.runs.examples import calibration_record


def cells(table: str) -> dict[str, list[str]]:
    """First column -> the others, split at two spaces."""
    lines = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table.splitlines()]
    return {line[0]: line[1:] for line in lines}


def test_the_headline_has_figures_with_their_intervals() -> None:
    evaluation, _ = evaluated()
    assert evaluation.scaled is not None
    ranges = {"accuracy": Range(low=0.842, high=0.8774), "ece": Range(low=0.0, high=0.31)}
    shown = replace(
        evaluation,
        raw=replace(evaluation.raw, accuracy=0.86006, ece=0.05, nll=1.23456, brier=float("inf"), mce=1.0),
        raw_ranges=ranges,
        scaled=replace(evaluation.scaled, coverage_at_risk={"0.05": 0.1234, "0.3": 1.0}),
        scaled_ranges=None,
    )
    found = cells(headline_table(shown))
    assert found["n=400"] == ["raw", "calibrated"]
    assert found["accuracy"] == [".8601 [.842, .877]", f"{evaluation.scaled.accuracy:.4f}"[1:]]
    assert found["ECE"][0] == ".0500 [.000, .310]"
    assert (found["NLL"][0], found["Brier"][0], found["MCE"][0]) == ("1.2346", "inf", "1.0000")
    assert found["coverage at error 0.05"][1] == "12.3 %"
    assert found["coverage at error 0.3"][1] == "100.0 %"


def test_the_headline_without_calibration_votes_or_absent_classes_is_shorter() -> None:
    evaluation, _ = evaluated(method=CalibrationMethod.none, num_resamples=0)
    found = cells(headline_table(evaluation))
    assert found["n=400"] == ["raw"]
    assert not any(name.startswith("ECE, soft labels") for name in found)
    assert "macro-F1, present classes" not in found
    assert all("[" not in value for values in found.values() for value in values)
    votes = torch.ones(400, 7, dtype=torch.float64)
    votes[30:] = 0
    labels = torch.arange(400) % 6
    with_votes, _ = evaluated(votes=votes, labels=labels, num_resamples=0)
    found = cells(headline_table(with_votes))
    assert len(found["ECE, soft labels (30 rows)"]) == len(found["macro-F1, present classes"]) == 2


def test_linked_rows_are_told() -> None:
    evaluation, _ = evaluated(groups=torch.arange(400) // 3, num_resamples=0)
    found = cells(headline_table(evaluation))
    assert found["n=400 in 134 linked groups"] == ["raw", "calibrated"]


def test_the_classes_are_of_the_calibrated_scores() -> None:
    evaluation, _ = evaluated()
    assert evaluation.scaled is not None
    assert evaluation.scaled_ranges is not None
    header, _, *rows = class_table(evaluation).splitlines()
    assert header.split() == ["class", "rows", "precision", "recall", "F1", "ECE"]
    assert [row.split()[0] for row in rows] == list(EMOTIONS)
    sad = rows[4].split()
    assert sad[1] == str(evaluation.result.support["Sad"])
    assert sad[2] == f"{evaluation.scaled.per_class_precision['Sad']:.4f}"[1:]
    assert sad[5] == f"{evaluation.scaled_ranges['f1_Sad'].low:.3f}"[1:].join(["[", ","])
    assert sad[-1] == f"{evaluation.scaled.per_class_ece['Sad']:.4f}"[1:]


def test_slices_with_their_gap() -> None:
    def part(value: str, accuracy: float, around: Range | None) -> SliceFigures:
        return SliceFigures(
            by="age",
            value=value,
            n=40,
            num_groups=40,
            accuracy=accuracy,
            macro_f1_present=0.25,
            nll=2.0,
            ece=0.125,
            accuracy_range=around,
        )

    parts = [part("old", 0.75, Range(low=0.5, high=1.0)), part("y" * 60, 0.5, None)]
    gap = SliceGap(
        by="age",
        best="old",
        worst="y" * 60,
        num_compared=3,
        accuracy_gap=0.25,
        accuracy_gap_range=Range(low=-0.05, high=0.4),
        p_value=0.0312,
    )
    lines = slices_text(parts, [gap]).splitlines()
    assert lines[2].split("  ")[0] == "old"
    assert lines[2].split()[1:] == ["40", ".7500", "[.500,", "1.000]", ".2500", "2.0000", ".1250"]
    assert lines[3].startswith("y" * 37 + "... ")
    assert lines[4] == "gap .2500 [-.050, .400] (the two furthest apart of 3); as large by chance alone: p = .031"
    assert lines[5] == f"  old over {'y' * 37}..."
    assert len(slices_text(parts, []).splitlines()) == 4
    bare = replace(gap, accuracy_gap_range=None, p_value=None, num_compared=2)
    assert slices_text(parts, [bare]).splitlines()[4:] == ["gap .2500", f"  old over {'y' * 37}..."]
    header, _, first, *_ = slices_text([replace(parts[0], num_groups=12), parts[1]], []).splitlines()
    assert header.split() == ["age", "rows", "groups", "accuracy", "macro-F1", "NLL", "ECE"]
    assert first.split()[1:4] == ["40", "12", ".7500"]


def test_conformal_sets_promise_and_keep() -> None:
    text = conformal_text(
        ConformalFigures(
            alpha=0.1,
            how="temperature and threshold cross-fitted in 5 folds",
            coverage=0.912,
            mean_size=2.346,
            per_class_coverage={},
            singleton_share=0.25,
            empty_share=0.0,
        )
    )
    assert "conformal sets: .9120 hold the true class (promised .9000), 2.35 classes on average" in text.replace(
        "2.34 ", "2.35 "
    )
    assert text.endswith(".2500 of one class, .0000 empty; temperature and threshold cross-fitted in 5 folds")


def test_the_whole_text_stays_below_120_columns() -> None:
    columns = {
        "a column with a name that is long, even very long": [
            f"a value that is long, even very long {row % 9}" for row in range(400)
        ]
    }
    text = evaluation_text(evaluated(columns=columns)[0])
    assert max(len(line) for line in text.splitlines()) < 120
    assert "classes and slices below: calibrated scores; [95 % intervals] of 100 resamples" in text
    assert [text.count(by) for by in ("source ", "face_side", "conformal sets", "gap .")] == [1, 1, 1, 4]
    short = evaluation_text(evaluated(5, method=CalibrationMethod.none, num_resamples=0)[0])
    assert "classes and slices below: raw scores\n" in short
    assert "intervals" not in short


def test_an_ece_above_its_interval_is_explained() -> None:
    evaluation, _ = evaluated()
    note = "an ECE above its interval: chance alone makes it that large"
    assert evaluation.scaled_ranges is not None
    low = replace(evaluation, scaled_ranges={**evaluation.scaled_ranges, "ece": Range(low=0.0, high=0.0)})
    high = {"ece": Range(low=0.0, high=1.0)}
    assert note in evaluation_text(low)
    assert note not in evaluation_text(replace(evaluation, raw_ranges=high, scaled_ranges=high))


def test_several_manifests_have_a_line_each() -> None:
    first, _ = evaluated()
    second, _ = evaluated(method=CalibrationMethod.none, num_resamples=0)
    second = replace(second, manifest="datasets/" + "deep/" * 20 + "other.csv", requested_rows=410)
    assert first.scaled is not None
    header, _, *lines = manifests_text([first, second]).splitlines()
    assert header.split() == ["manifest", "rows", "scores", "accuracy", "macro-F1", "minority", "NLL", "ECE"]
    assert lines[0].split()[:3] == ["datasets/faces/manifest.csv", "400/400", "calibrated"]
    assert lines[0].split()[-1] == f"{first.scaled.ece:.4f}"[1:]
    assert lines[1].split()[1:3] == ["400/410", "raw"]
    assert lines[1].split()[0].endswith("deep/other.csv")
    assert lines[1].split()[-1] == f"{second.raw.ece:.4f}"[1:]
    assert max(map(len, lines)) < 120


def test_no_calibration_has_no_temperature() -> None:
    record = replace(calibration_record(2.5), fitted_on_rows=320, at_bound=False)
    assert calibration_line(record, kept=True) == "deployed calibration: temperature 2.5, fitted on val (320 rows)"
    none = replace(record, method="none", calibration_temperature=1.0)
    assert calibration_line(none, kept=True) == "deployed calibration: none, fitted on val (320 rows)"
