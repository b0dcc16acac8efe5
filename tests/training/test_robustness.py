"""Figures under corruptions against clean ones, on scores made for the test."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fer_lightning.errors import FerError
from fer_lightning.functional.calibration import fit_temperature
from fer_lightning.functional.paired import paired_comparison
from fer_lightning.runs.artifacts import CalibrationRecord
from fer_lightning.runs.stored_logits import StoredLogits
from fer_lightning.training.config import CalibrationConfig, CalibrationMethod
from fer_lightning.training.evaluation import judge_scores
from fer_lightning.training.robustness import (
    Comparing,
    Scaling,
    judge_clean,
    judge_corrupted,
    mean_reports,
    scaling_of,
)
from tests.training.judged_rows import stored
from tests.training.stored import recorded

HALVED = Scaling(apply=lambda logits: (logits.double() / 2).log_softmax(1), how="halved")
HOW = Comparing(scaling=HALVED, num_bins=15, num_resamples=200, confidence=0.9)


@pytest.fixture
def scores() -> tuple[Tensor, Tensor, Tensor]:
    """Clean logits, worse ones of the same rows, labels."""
    random = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 7, (300,), generator=random)
    noise = torch.randn(300, 7, generator=random)
    clean = noise + 4 * torch.nn.functional.one_hot(labels, 7)
    return clean, clean + 3 * torch.randn(300, 7, generator=random), labels


def test_changes_are_those_of_a_paired_comparison_by_group(scores: tuple[Tensor, Tensor, Tensor]) -> None:
    clean, worse, labels = scores
    groups = torch.arange(300) // 3
    before, after = stored(clean, labels, groups=groups), stored(worse, labels, groups=groups)
    report = judge_corrupted(after, before, judge_clean(before, HOW), corruption="blur", severity=3, how=HOW)
    assert (report.corruption, report.severity) == ("blur", 3)
    compared = paired_comparison(
        (clean / 2).double().log_softmax(1),
        (worse / 2).double().log_softmax(1),
        labels,
        groups=groups,
        num_resamples=200,
        confidence=0.9,
    ).differences
    for name, change in report.changes.items():
        assert change.change == pytest.approx(compared[name].difference, abs=1e-6)
        assert change.range is not None
        assert (change.range.low, change.range.high) == pytest.approx(
            (compared[name].low, compared[name].high), abs=1e-6
        )
    assert report.changes["accuracy"].change < -0.1


def test_linked_rows_and_no_resamples_have_no_range(scores: tuple[Tensor, Tensor, Tensor]) -> None:
    clean, worse, labels = scores
    for groups, how in ((torch.zeros(300, dtype=torch.int64), HOW), (None, replace(HOW, num_resamples=0))):
        before, after = stored(clean, labels, groups=groups), stored(worse, labels, groups=groups)
        report = judge_corrupted(after, before, judge_clean(before, how), corruption="blur", severity=3, how=how)
        assert all(change.range is None and change.p_value is None for change in report.changes.values())
        assert report.changes["accuracy"].change < -0.1


def test_equal_pictures_change_nothing(scores: tuple[Tensor, Tensor, Tensor]) -> None:
    rows = stored(scores[0], scores[2])
    report = judge_corrupted(rows, rows, judge_clean(rows, HOW), corruption="grey", severity=1, how=HOW)
    for change in report.changes.values():
        assert change.range is not None
        assert (change.change, change.range.low, change.range.high, change.p_value) == (0, 0, 0, 1)


def test_other_rows_are_refused(scores: tuple[Tensor, Tensor, Tensor]) -> None:
    clean, worse, labels = scores
    before, after = stored(clean, labels), stored(worse[1:], labels[1:])
    with pytest.raises(ValueError, match="blur at severity 3 is of other rows"):
        judge_corrupted(after, before, judge_clean(before, HOW), corruption="blur", severity=3, how=HOW)


def test_no_conditions_have_no_means() -> None:
    assert mean_reports([]) == []


def on_split(rows: StoredLogits, split: str) -> StoredLogits:
    return replace(rows, record=replace(rows.record, split=split))


def scaled(scaling: Scaling, logits: Tensor) -> Tensor:
    assert scaling.apply is not None
    return scaling.apply(logits)


@pytest.mark.parametrize("record", [recorded(9.0), None])
def test_val_rows_are_scaled_by_clean_rows_of_other_folds(
    scores: tuple[Tensor, Tensor, Tensor], record: CalibrationRecord | None
) -> None:
    clean, worse, labels = scores
    rows = stored(clean, labels, groups=torch.arange(300) // 3, calibration=record)
    scaling, folds = scaling_of(rows, CalibrationConfig(num_folds=4), record), rows.folds(4)
    assert scaling.how == "cross-fitted on val in 4 folds (temperature, fitted on clean pictures alone)"
    on_clean, on_worse = scaled(scaling, clean), scaled(scaling, worse)
    for fold in set(folds.tolist()):
        inside = folds == fold
        temperature = fit_temperature(clean[~inside].double(), labels[~inside]).temperature
        torch.testing.assert_close(on_clean[inside], (clean[inside].double() / temperature).log_softmax(1))
        torch.testing.assert_close(on_worse[inside], (worse[inside].double() / temperature).log_softmax(1))


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize(
    "method",
    [CalibrationMethod.temperature, CalibrationMethod.isotonic, CalibrationMethod.histogram, CalibrationMethod.none],
)
def test_clean_figures_are_those_of_an_evaluation(
    scores: tuple[Tensor, Tensor, Tensor], method: CalibrationMethod, split: str
) -> None:
    rows = on_split(stored(scores[0], scores[2], groups=torch.arange(300) // 3), split)
    config = CalibrationConfig(method=method, num_folds=3)
    record = recorded(2.0) if method is CalibrationMethod.temperature else None
    judged = judge_scores(
        rows, calibration=config, fitted=record, columns={}, num_resamples=0, confidence=0.9, target_risks=[]
    )
    scaling = scaling_of(rows, config, record)
    report = judge_clean(rows, replace(HOW, scaling=scaling))
    assert scaling.how.startswith(judged.result.scaled_how)
    assert (report.scaled is None) == (judged.result.scaled is None)
    if report.scaled is not None and judged.result.scaled is not None:
        for name in ("accuracy", "macro_f1", "minority_f1", "ece", "mean_confidence"):
            assert getattr(report.scaled, name) == pytest.approx(getattr(judged.result.scaled, name), abs=1e-9)


def test_other_rows_are_scaled_by_the_kept_calibrator(scores: tuple[Tensor, Tensor, Tensor]) -> None:
    clean, worse, labels = scores
    rows, config = on_split(stored(clean, labels), "test"), CalibrationConfig()
    scaling = scaling_of(rows, config, recorded(2.0))
    assert scaling.how == "temperature fitted on val (100 rows) applied to test"
    torch.testing.assert_close(scaled(scaling, worse), (worse.double() / 2).log_softmax(1))
    damaged = replace(recorded(2.0), parameters={"temperature": -1.0})
    with pytest.raises(FerError, match="the calibration recorded for best.pt cannot be applied"):
        scaling_of(rows, config, damaged)


def test_rows_without_an_unseen_calibrator_are_raw(scores: tuple[Tensor, Tensor, Tensor]) -> None:
    clean, _, labels = scores
    plain, record = CalibrationConfig(), recorded(2.0)
    one_fold = stored(clean, labels, groups=torch.zeros(300, dtype=torch.int64))
    of_test = on_split(stored(clean, labels), "test")
    of_other = replace(record, fitted_on_fingerprint=of_test.record.row_set_fingerprint)
    for rows, config, fitted, said in (
        (one_fold, plain, record, "all rows are linked"),
        (stored(clean, labels), CalibrationConfig(method=CalibrationMethod.none), record, "calibration=none"),
        (of_test, plain, None, "no calibration recorded for this checkpoint"),
        (of_test, plain, of_other, "was fitted on these very rows"),
    ):
        scaling = scaling_of(rows, config, fitted)
        assert scaling.apply is None
        assert said in scaling.how
        assert judge_clean(rows, replace(HOW, scaling=scaling)).scaled is None
