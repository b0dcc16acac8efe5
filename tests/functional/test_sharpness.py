"""Sharpness of soft targets against scipy and numpy, and the temperature of an entropy against a search by halving."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch import Tensor

from fer_lightning.functional.sharpness import QUANTILES, Spread, kd_temperature_for_entropy, sharpness


def some_logits(num_rows: int = 500, *, scale: float = 6.0) -> Tensor:
    return scale * torch.randn(num_rows, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def mean_entropy_share(logits: Tensor, kd_temperature: float) -> float:
    probs = scipy.special.softmax(logits.numpy() / kd_temperature, axis=1)
    return float(scipy.stats.entropy(probs, axis=1).mean() / np.log(logits.shape[1]))


@pytest.mark.parametrize("kd_temperature", [0.5, 1.0, 4.0, 50.0])
def test_every_figure_is_that_of_scipy_and_numpy(kd_temperature: float) -> None:
    logits = some_logits()
    labels = torch.arange(500) % 7
    found = sharpness(logits, kd_temperature=kd_temperature, labels=labels)
    probs = scipy.special.softmax(logits.numpy() / kd_temperature, axis=1)
    entropies = scipy.stats.entropy(probs, axis=1)
    ordered = np.sort(probs, axis=1)
    expected = {
        "max_prob": ordered[:, -1],
        "second_prob": ordered[:, -2],
        "entropy": entropies,
        "entropy_share": entropies / np.log(7),
    }
    for name, values in expected.items():
        spread: Spread = getattr(found, name)
        assert spread.mean == pytest.approx(values.mean(), abs=1e-12)
        np.testing.assert_allclose(spread.quantiles, np.quantile(values, QUANTILES), atol=1e-12)
    assert found.mean_true_prob == pytest.approx(probs[np.arange(500), labels.numpy()].mean(), abs=1e-12)
    assert (found.n, found.kd_temperature) == (500, kd_temperature)


def test_hand_worked_rows() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]], dtype=torch.float64))
    found = sharpness(logits, kd_temperature=1.0)
    assert (found.max_prob.mean, *found.max_prob.quantiles) == pytest.approx((0.5,) * 8)
    assert found.second_prob.mean == pytest.approx(0.25)
    assert found.entropy.mean == pytest.approx(1.5 * math.log(2))
    assert found.mean_true_prob is None


def test_extreme_and_equal_logits() -> None:
    one_hot = sharpness(torch.tensor([[400.0, 0.0, -400.0]]), kd_temperature=1.0)
    figures = (one_hot.max_prob.mean, one_hot.entropy.mean, one_hot.second_prob.mean)
    assert figures == pytest.approx((1.0, 0.0, 0.0), abs=1e-100)
    uniform = sharpness(torch.full((3, 7), 12.5), kd_temperature=4.0)
    assert uniform.entropy_share.mean == pytest.approx(1.0, abs=1e-12)
    assert uniform.max_prob.quantiles == pytest.approx((1 / 7,) * 7)


def test_half_precision_is_widened_not_computed_in() -> None:
    half = some_logits(50).half()
    assert sharpness(half, kd_temperature=3.0) == sharpness(half.double(), kd_temperature=3.0)


def test_the_entropy_of_every_row_grows_with_the_temperature() -> None:
    logits = some_logits(200)
    temperatures = np.geomspace(0.05, 200, 60)
    entropies = np.stack(
        [scipy.stats.entropy(scipy.special.softmax(logits.numpy() / t, axis=1), axis=1) for t in temperatures]
    )
    assert (np.diff(entropies, axis=0) >= -1e-13).all()
    step = 1e-5  # and by how much: dH/dT = Var_p[z] / T^3
    probs = scipy.special.softmax(logits.numpy() / 3, axis=1)
    variance = (probs * logits.numpy() ** 2).sum(1) - (probs * logits.numpy()).sum(1) ** 2
    above, below = (
        scipy.stats.entropy(scipy.special.softmax(logits.numpy() / t, axis=1), axis=1) for t in (3 + step, 3 - step)
    )
    np.testing.assert_allclose((above - below) / (2 * step), variance / 27, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("target", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("scale", [0.3, 6.0, 60.0])
def test_the_temperature_is_that_of_a_search_by_halving(target: float, scale: float) -> None:
    logits = some_logits(300, scale=scale)
    found = kd_temperature_for_entropy(logits, target_entropy=target)
    low, high = 1e-2, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_entropy_share(logits, middle) < target else (low, middle)
    assert found.reached
    assert found.kd_temperature == pytest.approx(low, rel=1e-9)
    assert found.entropy_share == pytest.approx(target, abs=1e-10)
    assert sharpness(logits, kd_temperature=found.kd_temperature).entropy_share.mean == pytest.approx(target, abs=1e-10)


def test_an_entropy_out_of_reach_is_said_to_be() -> None:
    logits = some_logits(100)
    soft = kd_temperature_for_entropy(logits, target_entropy=0.9, bounds=(0.5, 2.0))
    assert (soft.kd_temperature, soft.reached) == (2.0, False)
    assert soft.entropy_share == pytest.approx(mean_entropy_share(logits, 2.0), abs=1e-12)
    tied = kd_temperature_for_entropy(torch.zeros(4, 7), target_entropy=0.5)  # uniform at any temperature
    assert (tied.kd_temperature, tied.reached) == (1e-2, False)
    assert tied.entropy_share == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("logits", "options", "message"),
    [
        (torch.zeros(0, 7), {"kd_temperature": 1.0}, "N >= 1"),
        (torch.zeros(3, 1), {"kd_temperature": 1.0}, "C >= 2"),
        (torch.zeros(3, 7), {"kd_temperature": 0.0}, "positive"),
        (torch.zeros(3, 7), {"kd_temperature": math.inf}, "positive and finite"),
        (torch.full((3, 7), math.inf), {"kd_temperature": 1.0}, "not finite in 3 of 3 rows"),
        (torch.zeros(3, 7), {"kd_temperature": 1.0, "labels": torch.tensor([0, 7, 1])}, "0..6"),
    ],
)
def test_what_is_no_table_of_logits_is_refused(logits: Tensor, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sharpness(logits, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_entropy": 1.0}, r"\(0, 1\)"),
        ({"target_entropy": 0.5, "bounds": (2.0, 1.0)}, "low < high"),
        ({"target_entropy": 0.5, "bounds": (0.0, 1.0)}, "low < high"),
    ],
)
def test_what_is_no_target_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kd_temperature_for_entropy(some_logits(5), **options)  # type: ignore[arg-type]
