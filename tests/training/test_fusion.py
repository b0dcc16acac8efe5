"""Fusing stored logits: against loops, cross-fitted temperatures, and what the record of the result says."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from fer_lightning.functional.fusion import fuse_log_probs
from fer_lightning.runs.stored_logits import StoredLogits
from fer_lightning.training.fusion import Fusion, fuse_stored, fused_logits, scaled_teachers
from tests.training.stored import recorded, stored_logits


def teachers(count: int = 2, rows: int = 200) -> list[StoredLogits]:
    """Return logits of several teachers on the same rows, each on a scale of its own."""
    first = stored_logits(rows)
    generator = torch.Generator().manual_seed(7)
    others = []
    for number in range(1, count):
        noise = torch.randn(first.logits.shape, generator=generator)
        record = replace(first.record, checkpoint_sha256=f"{number}" * 64)
        others.append(replace(first, record=record, logits=(first.logits + 4 * noise) * 3**number))
    return [first, *others]


def fuse(stored: Sequence[StoredLogits], fusion: Fusion, **changes: object) -> StoredLogits:
    names = [f"T{number}" for number in range(len(stored))]
    given: dict[str, object] = {"names": names, "folder": Path("e/PAIR"), "sha256": "e" * 64, "calibration": None}
    return fuse_stored(stored, fusion, **given | changes)  # type: ignore[arg-type]


def test_each_teacher_is_divided_by_its_temperature_first() -> None:
    logits = torch.randn(3, 20, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 8
    weights, temperatures = (0.4, 0.4, 0.2), (1.0, 2.5, 0.5)
    scaled = logits.numpy() / np.array(temperatures)[:, None, None]
    fused = fused_logits(logits, Fusion("logit", weights, temperatures))
    assert fused.dtype == torch.float64
    np.testing.assert_allclose(fused.numpy(), np.average(scaled, axis=0, weights=weights), rtol=1e-12, atol=1e-12)
    fused = fused_logits(logits, Fusion("prob", weights, temperatures))
    mean = np.average(softmax(scaled, axis=2), axis=0, weights=weights)
    np.testing.assert_allclose(fused.numpy(), np.log(mean), rtol=1e-9)


@pytest.mark.parametrize("space", ["logit", "prob"])
def test_one_teacher_at_temperature_one_is_itself(space: str) -> None:
    logits = torch.randn(1, 20, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fused = fused_logits(logits, Fusion(space, (1.0,), (1.0,)))
    torch.testing.assert_close(fused.log_softmax(1), logits[0].log_softmax(1), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("weights", [(0.5, 0.6), (1.0, 1.0), (1.5, -0.5), (math.nan, 1.0), (math.inf, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("space", ["logit", "prob"])
def test_weights_that_are_no_shares_are_refused(space: str, weights: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="weights must"):
        fused_logits(torch.zeros(2, 3, 7), Fusion(space, weights, (1.0, 1.0)))


def test_a_fusion_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="space must be one of logit, prob, got 'mean'"):
        Fusion("mean", (1.0,), (1.0,))
    with pytest.raises(ValueError, match="1 temperatures for 2 weights"):
        Fusion("logit", (0.5, 0.5), (1.0,))
    for temperature in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="temperatures must be positive and finite"):
            Fusion("logit", (1.0,), (temperature,))
    with pytest.raises(ValueError, match="logits of 3 teachers, but 2 weights"):
        fused_logits(torch.zeros(3, 2, 7), Fusion("logit", (0.5, 0.5), (1.0, 1.0)))


def scipy_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    def nll(log_inverse: float) -> float:
        log_probs = log_softmax(logits.double().numpy() * math.exp(log_inverse), axis=1)
        return float(-log_probs[np.arange(len(labels)), labels.numpy()].mean())

    return math.exp(-minimize_scalar(nll, bounds=(-6, 6), method="bounded", options={"xatol": 1e-10}).x)


def test_no_row_is_scaled_by_a_temperature_that_has_seen_it() -> None:
    stored = teachers()
    scaled = scaled_teachers(stored, scale=True, num_folds=4)
    folds = stored[0].folds(4)
    assert scaled.at_bound == (False, False)
    for number, one in enumerate(stored):
        whole = scipy_temperature(one.logits, one.labels)
        assert scaled.temperatures[number] == pytest.approx(whole, rel=1e-5)
        for fold in range(4):
            inside = folds == fold
            other = scipy_temperature(one.logits[~inside], one.labels[~inside])
            assert other != pytest.approx(whole, rel=1e-4)
            expected = one.logits[inside].double() / other
            torch.testing.assert_close(scaled.logits[number, inside], expected, rtol=1e-5, atol=1e-9)


def test_without_scaling_logits_stay_as_they_are() -> None:
    stored = [replace(one, record=replace(one.record, split="test")) for one in teachers()]
    scaled = scaled_teachers(stored, scale=False, num_folds=5)
    assert scaled.logits.dtype == torch.float64
    assert torch.equal(scaled.logits, torch.stack([one.logits for one in stored]).double())
    assert (scaled.temperatures, scaled.at_bound) == ((1.0, 1.0), (False, False))


@pytest.mark.parametrize("split", ["train", "test"])
def test_nothing_is_fitted_on_other_rows_than_val(split: str) -> None:
    stored = [replace(one, record=replace(one.record, split=split)) for one in teachers()]
    with pytest.raises(ValueError, match=f"fitted on val only, not on {split}"):
        scaled_teachers(stored, scale=True, num_folds=5)


def test_rows_that_are_all_linked_get_the_deployed_temperatures() -> None:
    stored = [replace(one, groups=torch.zeros_like(one.groups)) for one in teachers()]
    scaled = scaled_teachers(stored, scale=True, num_folds=5)
    for number, one in enumerate(stored):
        assert torch.equal(scaled.logits[number], one.logits.double() / scaled.temperatures[number])


def test_a_teacher_that_is_always_right_is_at_the_bound() -> None:
    stored = teachers()
    sure = torch.nn.functional.one_hot(stored[0].labels, 7).float() * 5
    scaled = scaled_teachers([stored[0], replace(stored[1], logits=sure)], scale=True, num_folds=5)
    assert scaled.at_bound == (False, True)
    assert scaled.temperatures[1] == 0.01


def test_fused_logits_say_what_they_are_of() -> None:
    stored, calibration = teachers(), recorded()
    fused = fuse(stored, Fusion("prob", (0.25, 0.75), (2.0, 6.0)), calibration=calibration)
    expected = fuse_log_probs(torch.stack([stored[0].logits.double() / 2, stored[1].logits.double() / 6]), [0.25, 0.75])
    assert torch.equal(fused.logits, expected.float())
    record, first = fused.record, stored[0].record
    changed = {name for name, value in vars(record).items() if value != getattr(first, name)}
    told = {"kind", "run_dir", "checkpoint", "checkpoint_sha256", "epoch", "weights", "calibration"}
    assert changed <= told | {"logits_sha256", "rows_sha256"}
    assert (record.kind, record.dtype, record.epoch) == ("ensemble", "float32", -1)
    assert (record.run_dir, record.checkpoint, record.checkpoint_sha256) == ("e/PAIR", "ensemble.json", "e" * 64)
    assert record.weights == "prob fusion of 0.25 T0 + 0.75 T1"
    assert record.calibration == calibration
    assert fused.row_ids == stored[0].row_ids
    assert record.logits_sha256 != fuse(stored, Fusion("prob", (0.5, 0.5), (2.0, 6.0))).record.logits_sha256


def test_teachers_on_different_pictures_leave_no_common_one() -> None:
    stored = teachers()
    other = replace(stored[1].record, canonical={"size": 99}, canonical_digest="9" * 64, pictures_digest="8" * 64)
    fused = fuse([stored[0], replace(stored[1], record=other)], Fusion("logit", (0.5, 0.5), (1.0, 1.0)))
    assert (fused.record.canonical, fused.record.canonical_digest, fused.record.pictures_digest) == ({}, "", "")
    alone = fuse([stored[0], replace(stored[1], record=other)], Fusion("logit", (1.0, 0.0), (1.0, 1.0)))
    assert alone.record.canonical_digest == stored[0].record.canonical_digest  # the other one has no share
    assert alone.record.weights == "logit fusion of 1 T0"
    assert torch.equal(alone.logits, stored[0].logits)


@pytest.mark.parametrize(("seen", "told"), [((0, 0), 0), ((3, 5), 5), ((3, None), None)])
def test_rows_seen_in_training_are_those_of_the_teachers(seen: tuple[int | None, ...], told: int | None) -> None:
    stored = [
        replace(one, record=replace(one.record, rows_seen_in_training=count))
        for one, count in zip(teachers(), seen, strict=True)
    ]
    fused = fuse(stored, Fusion("logit", (0.5, 0.5), (1.0, 1.0)))
    assert fused.record.rows_seen_in_training == told


def test_logits_that_are_divided_already_are_not_divided_again() -> None:
    stored = teachers()
    scaled = scaled_teachers(stored, scale=True, num_folds=4)
    fusion = Fusion("logit", (0.5, 0.5), scaled.temperatures)
    fused = fuse(stored, fusion, teacher_logits=scaled.logits)
    assert torch.equal(fused.logits, scaled.logits.mean(0).float())
    deployed = fuse(stored, fusion)
    assert not torch.equal(fused.logits, deployed.logits)


def test_only_the_same_rows_through_the_same_view_are_fused() -> None:
    first, second = teachers()
    fusion = Fusion("logit", (0.5, 0.5), (1.0, 1.0))
    with pytest.raises(ValueError, match="on the same rows, in the same order"):
        fuse([first, replace(second, row_ids=second.row_ids[::-1])], fusion)
    with pytest.raises(ValueError, match="through the same view only"):
        fuse([first, replace(second, record=replace(second.record, view="flip"))], fusion)
    with pytest.raises(ValueError, match="logits of 1 teachers, 1 names and 2 weights"):
        fuse([first], fusion)
