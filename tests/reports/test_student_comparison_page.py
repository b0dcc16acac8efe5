"""A comparison of students in words: figures in the documents' style, what differs, what decides, the verdict."""

import csv
import io
from dataclasses import replace

import pytest

from fer_lightning.reports.student_comparison_csv import csv_text
from fer_lightning.reports.student_comparison_page import console_text, markdown_page
from fer_lightning.reports.student_comparison_text import fairness, p_text, signed, verdict_text, what_decides
from fer_lightning.runs.student_comparison import StudentComparison
from tests.runs.compared_students import NOISES, arm, comparison, judged

VAL, TEST = judged(split="val"), judged(split="test")
BOTH = comparison([VAL, TEST])


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


@pytest.mark.parametrize(
    ("number", "text"), [(0.01234, "+.0123"), (-0.5, "-.5000"), (-1.25, "-1.2500"), (10.5, "+10.5000")]
)
def test_signs(number: float, text: str) -> None:
    assert signed(number) == text


def test_p_values() -> None:
    assert [p_text(value) for value in (0.0005, 0.0123, 1.0)] == ["< .001", ".012", "1.000"]


def test_the_console_has_figures_differences_and_verdict() -> None:
    text = console_text(BOTH)
    own, change = TEST.arms["dkd"].raw.figures["macro_f1"], TEST.arms["dkd"].raw.differences
    assert change is not None
    figures = text.split("test rows ")[1]
    assert f"[{own.low:.4f}, {own.high:.4f}]".replace("0.", ".") in line_of(figures, "dkd ")
    difference = next(line for line in figures.splitlines() if line.startswith("dkd ") and " [+" in line)
    assert f"+{change['macro_f1'].difference:.4f} [+".replace("0.", ".") in difference
    assert "ce (baseline)" in figures
    assert text.index("val rows ") < text.index("test rows ")
    assert max(len(line) for line in text.split("\n\nevery arm has")[0].splitlines()) < 160


def test_fairness_names_what_is_the_same_and_what_differs() -> None:
    (same,) = fairness(BOTH)
    assert same.startswith(
        "every arm has the same seeds (1, 2, 3), epochs 30, optimizer steps 7,020, train rows 15,000,"
    )
    assert "starting weights hub timm/mobilenetv3_large_100.ra_in1k (abababab)" in same
    longer = arm("kd")
    longer = replace(longer, budget=replace(longer.budget, epochs=20, augmentation="strong"))
    told = fairness(comparison([VAL, TEST], arms=[arm("ce", distils=False), longer, arm("dkd")]))
    assert "epochs" not in told[0]
    assert told[1:] == [
        "NOT AN EQUAL BUDGET: epochs differ: ce 30; kd 20; dkd 30",
        "NOT AN EQUAL BUDGET: augmentation differ: ce fast; kd strong; dkd fast",
    ]


def test_starting_weights_of_each_seed_count() -> None:
    first, other = arm("ce", distils=False), arm("kd")
    start = replace(other.budget.init[2], kind="init_from", source="students/ce_seed3", sha256="cd" * 32)
    staged = replace(other, budget=replace(other.budget, init=[*other.budget.init[:2], start]))
    (difference,) = fairness(comparison([VAL, TEST], arms=[first, staged, arm("dkd")]))[1:]
    assert difference.startswith("NOT AN EQUAL BUDGET: starting weights differ: ce hub timm/")
    assert "init_from students/ce_seed3 (cdcdcdcd)" in difference


def test_which_split_decides_what() -> None:
    assert "test judges, and nothing was chosen or fitted on it" in what_decides(BOTH)
    assert "which flatters what it has chosen" in what_decides(comparison([VAL]))
    assert "no arm is chosen" in what_decides(comparison([TEST]))


def test_the_verdict_says_each_target() -> None:
    first, *targets = verdict_text(BOTH)
    assert first == "dkd, the best distilled arm by val macro-F1, beats ce on test; not all targets are met"
    assert [target.split(":")[0] for target in targets[:5]] == ["met", "met", "met", "NOT MET", "met"]
    assert targets[4] == "met: share of the ensemble's parameters: 8.4 % (less than 25 %)"
    assert "(calibrated)" in targets[1]
    assert targets[5].startswith("over rows and seeds, the lower limit of the macro-F1 difference is ")
    assert "flatters it" in verdict_text(comparison([VAL]))[0]
    assert verdict_text(comparison([TEST])) == [
        "no verdict: there is no distilled arm, or there are no val rows to choose it by"
    ]


def test_a_student_that_does_not_win_is_told() -> None:
    worse = {"ce": (1.5, 1.6, 1.4), "kd": (2.0, 2.1, 1.9)}
    first, macro_f1, *_ = verdict_text(comparison([judged(worse, split=split) for split in ("val", "test")]))
    assert "kd, the best distilled arm by val macro-F1, does not beat ce on test" in first
    assert macro_f1.startswith("NOT MET: macro-F1 higher, interval over rows above 0: -")


def test_the_page_states_what_is_needed_to_judge_it() -> None:
    page = markdown_page(BOTH)
    for said in (
        "![macro-F1, minority-F1, NLL and ECE of each arm](student_comparison.png)",
        "- student mobilenetv3_large_100, 4,211,000 parameters",
        "- ensemble T3 `e5e5e5e5`, 50,000,000 parameters",
        "- every arm has the same seeds (1, 2, 3)",
        "- over rows (95 %, 100 resamples of linked rows): ",
        "- over seeds (95 %, Student t): ",
        "- over rows and seeds (95 %, conservative): ",
        "| kd | objective=kd, kd_temperature=4 | 4, 4, 4 | 21, 22, 23 | `students/kd_seed0`, ",
        "Scaled: temperature cross-fitted on val in 5 folds.",
        "### Less ce",
    ):
        assert said in page, said
    header = [line for line in page.splitlines() if line.startswith("| arm | macro-F1 ")]
    assert len(header) == 2
    assert "present classes" not in header[0]
    assert page.count("| dkd | NLL scaled | ") == 2
    assert "\n\n\n" not in page


def test_one_seed_claims_nothing_of_others() -> None:
    alone = {name: sizes[:1] for name, sizes in NOISES.items()}
    one = comparison([judged(alone, split=split) for split in ("val", "test")])
    page = markdown_page(one)
    assert "one seed says nothing about what another one would give" in page
    assert "Student t" not in page
    assert "means over 1 seed;" in page
    assert not any(line.startswith("over rows and seeds") for line in verdict_text(one))


def test_present_classes_stand_beside_where_one_is_absent() -> None:
    few = comparison([judged(split=split, classes=(0, 2, 3, 4, 5, 6)) for split in ("val", "test")])
    assert "; no rows of Disgust)" in console_text(few)
    assert "macro-F1 of present classes" in console_text(few)
    assert "macro-F1 of present classes" in markdown_page(few)


def test_without_calibration_there_is_no_empty_column() -> None:
    raw = comparison([judged(split=split, calibrated=False) for split in ("val", "test")])
    assert "scaled" not in console_text(raw)
    assert "NLL lower (raw)" in console_text(raw)
    assert "Scaled: no calibration recorded." in markdown_page(raw)


def rows_of(told: StudentComparison) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(told))))


def test_csv_holds_every_number() -> None:
    rows = rows_of(BOTH)
    found = next(
        row
        for row in rows
        if (row["split"], row["arm"], row["kind"], row["figure"]) == ("test", "dkd", "scaled", "nll")
    )
    scaled = TEST.arms["dkd"].scaled
    assert scaled is not None
    assert scaled.differences is not None
    own, change = scaled.figures["nll"], scaled.differences["nll"]
    assert [float(found[name]) for name in ("mean", "low", "high")] == [own.mean, own.low, own.high]
    assert [float(value) for value in found["values"].split()] == own.values
    assert float(found["difference_low_of_rows_and_seeds"]) == change.low_of_rows_and_seeds
    assert float(found["p_value"]) == change.p_value
    baseline = [row for row in rows if row["arm"] == "ce"]
    assert {row["difference"] for row in baseline} == {""}
    assert sum(row["figure"] == "retention" for row in rows) == 6
    assert sum(row["arm"] == "ensemble" for row in rows) == 2 * 2 * 8
    assert len(rows) == 2 * (3 * (2 * 8 + 1) + 2 * 8)
