"""Judging models of an ensemble: the same figures as everywhere else, from fewer fits."""

from dataclasses import replace

import pytest
import torch

from fer_lightning.training.calibration import calibrated_stored
from fer_lightning.training.config import CalibrationConfig, CalibrationMethod
from fer_lightning.training.ensemble_judging import against_teacher, judge_on_splits
from tests.runs.stored_scores import overconfident, stored_scores


@pytest.mark.parametrize("method", [CalibrationMethod.temperature, CalibrationMethod.vector, CalibrationMethod.none])
def test_calibration_is_that_of_evaluate(method: CalibrationMethod) -> None:
    config = CalibrationConfig(method=method)
    val = stored_scores(*overconfident(400), groups=torch.arange(400) // 3)
    other = stored_scores(*overconfident(200, seed=1), split="test")
    judged = judge_on_splits([val, other], config, folds=val.folds(config.num_folds))
    on_val = calibrated_stored(val, config, None)
    on_test = calibrated_stored(other, config, on_val.record)
    for model, expected, stored in zip(judged, (on_val, on_test), (val, other), strict=True):
        log_probs = stored.logits.double().log_softmax(1) if expected.log_probs is None else expected.log_probs
        assert torch.equal(model.log_probs, log_probs)
        assert model.result.calibration == expected.record
        assert model.result.scaled_how == expected.how
        assert (model.result.scaled is None) == (method is CalibrationMethod.none)


def test_linked_val_rows_are_not_calibrated_by_what_has_seen_them() -> None:
    val = stored_scores(*overconfident(100), groups=torch.zeros(100, dtype=torch.int64))
    (judged,) = judge_on_splits([val], CalibrationConfig(), folds=val.folds(5))
    expected = calibrated_stored(val, CalibrationConfig(), None)
    assert (judged.result.scaled, judged.result.scaled_how) == (None, expected.how)
    assert judged.result.calibration == expected.record


def test_a_comparison_is_ensemble_less_teacher() -> None:
    logits, labels = overconfident(500)
    better = stored_scores(logits, labels)
    noise = torch.randn(500, 7, generator=torch.Generator().manual_seed(1))
    worse = stored_scores(logits + 8 * noise, labels)
    models = [judge_on_splits([one], CalibrationConfig(), folds=better.folds(5))[0] for one in (worse, better)]
    found = against_teacher(*models, name="B3", num_resamples=200, confidence=0.9, chosen_here=True)
    assert found is not None
    accuracy = found.figures["accuracy"]
    assert accuracy.difference == pytest.approx(models[1].result.raw.accuracy - models[0].result.raw.accuracy)
    assert accuracy.low > 0
    assert found.discordant[1] - found.discordant[0] == round(accuracy.difference * 500)
    assert (found.teacher, found.split, found.n, found.confidence, found.num_resamples) == ("B3", "val", 500, 0.9, 200)
    linked = [replace(one, stored=replace(one.stored, groups=torch.zeros(500, dtype=torch.int64))) for one in models]
    assert against_teacher(*linked, name="B3", num_resamples=200, confidence=0.9, chosen_here=True) is None
