"""Students judged from stored logits: figures of evaluate, calibrators that see no row they are judged by, refusals."""

from dataclasses import replace

import pytest
import torch

from fer_lightning.errors import FerError
from fer_lightning.functional.paired import paired_comparison
from fer_lightning.functional.reliability import reliability_report
from fer_lightning.functional.seed_comparison import compare_over_seeds
from fer_lightning.labels import EMOTIONS
from fer_lightning.runs.artifacts import read_artifact, write_artifact
from fer_lightning.runs.student_comparison import STUDENT_COMPARISON_FILE, StudentComparison
from fer_lightning.training.calibration import calibrate, calibrated_stored
from fer_lightning.training.config import CalibrationConfig
from fer_lightning.training.student_comparison import judge_arms
from tests.runs.compared_students import NOISES, comparison, judged, students


@pytest.mark.parametrize("split", ["val", "test"])
def test_figures_are_those_of_evaluate(split: str) -> None:
    arms, ensemble = students(split=split)
    found = judge_arms(arms, ensemble, baseline="ce", num_bins=10, num_resamples=20)
    assert list(found.arms) == list(NOISES)
    for name, models in arms.items():
        for seed, stored in enumerate(models):
            calibrated = calibrated_stored(stored, CalibrationConfig(num_bins=10), stored.record.calibration)
            assert calibrated.log_probs is not None
            of_arm = found.arms[name]
            for figures, log_probs in (
                (of_arm.raw, stored.logits.double().log_softmax(1)),
                (of_arm.scaled, calibrated.log_probs),
            ):
                report = reliability_report(log_probs, stored.labels, num_bins=10)
                assert figures is not None
                own = {figure: row.values[seed] for figure, row in figures.figures.items()}
                assert own["macro_f1"] == pytest.approx(report.scores.macro_f1, abs=1e-12)
                assert own["macro_f1_present"] == pytest.approx(report.scores.macro_f1_present, abs=1e-12)
                assert (own["nll"], own["ece"]) == pytest.approx((report.nll, report.ece), abs=1e-12)
    assert found.ensemble is not None
    assert found.ensemble.scaled is not None
    assert found.ensemble.scaled["nll"] < found.ensemble.raw["nll"]
    retention = found.arms["kd"].raw.figures["macro_f1"].mean / found.ensemble.raw["macro_f1"]
    assert found.arms["kd"].retention == pytest.approx(retention)


def test_val_is_cross_fitted_and_test_is_not() -> None:
    for split, how in (
        ("val", "temperature cross-fitted on val in 5 folds"),
        ("test", "temperature fitted on val (100 rows)"),
    ):
        found = judged(split=split, num_resamples=5)
        assert all(
            len(of_arm.scaled_how) == 1 and of_arm.scaled_how[0].startswith(how) for of_arm in found.arms.values()
        )
    arms, _ = students()
    stored = arms["ce"][0]
    assert stored.record.calibration is not None
    kept = judge_arms(arms, None, baseline="ce", num_resamples=5).arms["ce"].scaled
    expected = reliability_report(calibrate(stored.logits, stored.record.calibration), stored.labels)
    assert kept is not None
    assert kept.figures["nll"].values[0] == pytest.approx(expected.nll, abs=1e-12)


def test_differences_are_those_of_compare_over_seeds_by_linked_rows() -> None:
    arms, ensemble = students()
    found = judge_arms(arms, ensemble, baseline="ce", num_resamples=200, confidence=0.9)
    a, b = ([stored.logits.double().log_softmax(1) for stored in arms[name]] for name in ("ce", "dkd"))
    first = arms["ce"][0]
    expected = compare_over_seeds(a, b, first.labels, groups=first.groups, num_resamples=200, confidence=0.9)
    differences = found.arms["dkd"].raw.differences
    assert differences is not None
    assert found.arms["ce"].raw.differences is None
    for name, row in expected.differences.items():
        change = differences[name]
        assert (change.difference, change.low, change.high) == (row.difference, row.low, row.high)
        assert (change.p_value, tuple(change.values)) == (row.p_value, row.per_seed)
        assert (change.deviation, change.low_of_seeds) == (row.over_seeds.deviation, row.over_seeds.low)
        assert change.high_of_rows_and_seeds == row.high_of_rows_and_seeds
    assert (found.n, found.num_groups, found.confidence, found.num_resamples) == (300, 150, 0.9, 200)
    assert differences["macro_f1_present"] == differences["macro_f1"]


def test_one_seed_is_the_paired_comparison() -> None:
    arms, _ = students({"ce": (2.0,), "kd": (1.5,)})
    found = judge_arms(arms, None, baseline="ce", num_resamples=100).arms["kd"].raw.differences
    (a,), (b,) = ([stored.logits.double().log_softmax(1) for stored in models] for models in arms.values())
    first = arms["ce"][0]
    expected = paired_comparison(a, b, first.labels, groups=first.groups, num_resamples=100)
    assert found is not None
    for name, row in expected.differences.items():
        assert (found[name].difference, found[name].low, found[name].p_value) == (row.difference, row.low, row.p_value)
        assert (found[name].deviation, found[name].low_of_seeds, found[name].low_of_rows_and_seeds) == (None,) * 3


def test_absent_classes_are_told_and_present_ones_judged_beside() -> None:
    found = judged(classes=(0, 3, 4, 6), num_resamples=50)
    assert found.absent_classes == ["Disgust", "Fear", "Surprise"]
    assert found.ensemble is not None
    assert found.ensemble.raw["macro_f1_present"] == pytest.approx(7 / 4 * found.ensemble.raw["macro_f1"])
    of_arm = found.arms["dkd"]
    assert of_arm.raw.differences is not None
    for field in ("mean", "low", "high"):
        all_classes = getattr(of_arm.raw.figures["macro_f1"], field)
        assert getattr(of_arm.raw.figures["macro_f1_present"], field) == pytest.approx(7 / 4 * all_classes)
    change, present = (of_arm.raw.differences[name] for name in ("macro_f1", "macro_f1_present"))
    assert present.p_value == change.p_value
    assert present.difference == pytest.approx(7 / 4 * change.difference)
    assert present.low_of_rows_and_seeds == pytest.approx(7 / 4 * (change.low_of_rows_and_seeds or 0))
    assert set(found.absent_classes) < set(EMOTIONS)


def test_rows_in_another_order_are_put_in_order() -> None:
    arms, ensemble = students()
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0)).tolist()
    turned = arms["kd"][1].in_order_of([arms["kd"][1].row_ids[row] for row in order])
    mixed = {**arms, "kd": [arms["kd"][0], turned, arms["kd"][2]]}
    assert judge_arms(mixed, ensemble, baseline="ce", num_resamples=20) == judge_arms(
        arms, ensemble, baseline="ce", num_resamples=20
    )


def test_without_calibration_there_are_raw_figures_only() -> None:
    found = judged(calibrated=False, num_resamples=5)
    assert all(of_arm.scaled is None for of_arm in found.arms.values())
    assert found.arms["ce"].scaled_how == ["no calibration recorded"]
    assert found.ensemble is not None
    assert found.ensemble.scaled is None
    arms, ensemble = students()
    one = arms["kd"][2]
    arms["kd"][2] = replace(one, record=replace(one.record, calibration=None))
    partly = judge_arms(arms, ensemble, baseline="ce", num_resamples=5)
    assert [name for name, of_arm in partly.arms.items() if of_arm.scaled is None] == ["kd"]
    assert len(partly.arms["kd"].scaled_how) == 2


def test_what_cannot_be_compared_is_refused() -> None:
    arms, ensemble = students()
    with pytest.raises(FerError, match="the baseline is plain, the arms are ce, kd, dkd"):
        judge_arms(arms, ensemble, baseline="plain")
    with pytest.raises(FerError, match="needs a baseline and another arm"):
        judge_arms({"ce": arms["ce"]}, ensemble, baseline="ce")
    with pytest.raises(FerError, match="they have: ce 3, kd 2, dkd 3"):
        judge_arms({**arms, "kd": arms["kd"][:2]}, ensemble, baseline="ce")
    other = students(num_rows=200)[0]["kd"]
    with pytest.raises(FerError, match=r"^kd: the logits of .* have row_set_fingerprint"):
        judge_arms({**arms, "kd": other}, ensemble, baseline="ce")
    flipped = [replace(stored, record=replace(stored.record, view="flip")) for stored in arms["kd"]]
    with pytest.raises(FerError, match="have view flip, those of .* single"):
        judge_arms({**arms, "kd": flipped}, ensemble, baseline="ce")
    with pytest.raises(FerError, match="^ensemble: the logits of"):
        judge_arms(arms, students(split="val")[1], baseline="ce")
    linked = {
        name: [replace(stored, groups=torch.zeros(300, dtype=torch.int64)) for stored in models]
        for name, models in arms.items()
    }
    with pytest.raises(FerError, match="all 300 rows of test are linked"):
        judge_arms(linked, ensemble, baseline="ce")


def test_a_comparison_survives_its_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("comparison") / STUDENT_COMPARISON_FILE
    written = comparison([judged(split=split, num_resamples=10) for split in ("val", "test")])
    write_artifact(path, written)
    assert read_artifact(path, StudentComparison) == written
