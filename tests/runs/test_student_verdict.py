"""The verdict on students: chosen on val, judged on test, each target by its own figure."""

from dataclasses import replace

import pytest

from fer_lightning.runs.student_comparison import ArmFigures, JudgedArm, JudgedSplit, StudentTarget, StudentVerdict
from fer_lightning.runs.student_verdict import verdict_of
from tests.runs.compared_students import ENSEMBLE, STUDENT, arm, judged, with_macro_f1

ARMS = [arm("ce", distils=False), arm("kd"), arm("dkd")]
VAL = judged(split="val")
TEST = judged(split="test")


def verdict(*splits: JudgedSplit, **changes: object) -> StudentVerdict:
    given: dict[str, object] = {"baseline": "ce", "student": STUDENT, "ensemble": ENSEMBLE, **changes}
    found = verdict_of(ARMS, splits, **given)  # type: ignore[arg-type]  # by name
    assert found is not None
    return found


def with_differences(split: JudgedSplit, name: str, *, raw: dict[str, float], scaled: dict[str, float]) -> JudgedSplit:
    """Return a split in which differences, and their lower limits, are what is asked for."""
    of_arm = split.arms[name]

    def moved(figures: ArmFigures | None, values: dict[str, float]) -> ArmFigures:
        assert figures is not None
        assert figures.differences is not None
        changed = {
            figure: replace(figures.differences[figure], difference=value, low=value, low_of_rows_and_seeds=value - 0.1)
            for figure, value in values.items()
        }
        return replace(figures, differences={**figures.differences, **changed})

    changed = replace(of_arm, raw=moved(of_arm.raw, raw), scaled=moved(of_arm.scaled, scaled))
    return replace(split, arms={**split.arms, name: changed})


def retaining(split: JudgedSplit, name: str, retention: float | None) -> JudgedSplit:
    return replace(split, arms={**split.arms, name: replace(split.arms[name], retention=retention)})


GOOD = retaining(with_differences(TEST, "dkd", raw={"macro_f1": 0.02}, scaled={"nll": -0.3, "ece": -0.01}), "dkd", 0.98)


def test_val_chooses_and_test_judges() -> None:
    better_on_test = with_macro_f1(TEST, "kd", 0.99)
    assert (verdict(VAL, better_on_test).arm, verdict(VAL, better_on_test).judged_on) == ("dkd", "test")
    assert verdict(with_macro_f1(VAL, "kd", 0.99), TEST).arm == "kd"
    assert verdict(with_macro_f1(VAL, "ce", 0.999), TEST).arm == "dkd"  # the baseline is no distilled arm
    assert verdict(TEST, VAL).chosen_on == "val"  # whatever their order
    assert (verdict(VAL).chosen_on, verdict(VAL).judged_on) == ("val", "val")


def test_an_arm_that_learns_from_labels_alone_is_not_chosen() -> None:
    arms = [*ARMS[:2], replace(ARMS[2], distils=False)]
    found = verdict_of(arms, [VAL, TEST], baseline="ce", student=STUDENT, ensemble=ENSEMBLE)
    assert found is not None
    assert found.arm == "kd"
    assert verdict_of(arms[:1], [VAL, TEST], baseline="ce", student=STUDENT, ensemble=ENSEMBLE) is None
    assert verdict_of(ARMS, [TEST], baseline="ce", student=STUDENT, ensemble=ENSEMBLE) is None


def test_all_targets_met() -> None:
    found = verdict(VAL, GOOD)
    assert found.all_met
    assert found.calibrated
    assert found.macro_f1 == StudentTarget(met=True, value=0.02, limit=0.0)
    assert found.macro_f1_over_seeds == StudentTarget(met=False, value=0.02 - 0.1, limit=0.0)
    assert (found.nll.value, found.ece.value) == (-0.3, -0.01)
    assert found.retention == StudentTarget(met=True, value=0.98, limit=0.97)
    assert found.parameter_share == StudentTarget(met=True, value=4_211_000 / 50_000_000, limit=0.25)
    assert found.keeps_the_ensemble is True


@pytest.mark.parametrize(
    ("raw", "scaled", "retention", "missed"),
    [
        ({"macro_f1": 0.0}, {}, 0.98, "macro_f1"),
        ({"nll": -1.0}, {"nll": 0.0}, 0.98, "nll"),  # as deployed: calibrated
        ({"ece": -1.0}, {"ece": 0.001}, 0.98, "ece"),
        ({"nll": 1.0, "ece": 1.0}, {"macro_f1": -1.0}, 0.97, None),
        ({}, {}, 0.9699, "retention"),
    ],
)
def test_one_target_missed(
    raw: dict[str, float], scaled: dict[str, float], retention: float, missed: str | None
) -> None:
    found = verdict(VAL, retaining(with_differences(GOOD, "dkd", raw=raw, scaled=scaled), "dkd", retention))
    met = {name: getattr(found, name).met for name in ("macro_f1", "nll", "ece", "retention", "parameter_share")}
    assert met == {name: name != missed for name in met}
    assert found.all_met == (missed is None)


def test_a_student_of_a_quarter_is_too_large() -> None:
    large = replace(ENSEMBLE, num_parameters=4 * STUDENT.num_parameters)
    found = verdict(VAL, GOOD, ensemble=large)
    assert found.parameter_share == StudentTarget(met=False, value=0.25, limit=0.25)
    assert (found.keeps_the_ensemble, found.all_met) == (False, False)


@pytest.mark.parametrize("ensemble", [None, replace(ENSEMBLE, num_parameters=None)])
def test_what_is_not_known_is_not_met(ensemble: object) -> None:
    found = verdict(VAL, GOOD, ensemble=ensemble)
    assert (found.parameter_share, found.keeps_the_ensemble, found.all_met) == (None, None, False)
    without = verdict(VAL, retaining(GOOD, "dkd", None))
    assert (without.retention, without.keeps_the_ensemble, without.all_met) == (None, None, False)


def test_without_calibration_raw_figures_count() -> None:
    plain = {name: replace(of_arm, scaled=None) for name, of_arm in GOOD.arms.items()}
    found = verdict(VAL, replace(GOOD, arms=plain))
    of_arm: JudgedArm = GOOD.arms["dkd"]
    assert of_arm.raw.differences is not None
    assert not found.calibrated
    assert found.nll.value == of_arm.raw.differences["nll"].difference
