"""The learning rate, step by step."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from fer_lightning.functional.schedules import warmup_cosine

RECIPE: dict[str, Any] = {"base_lr": 3e-4, "min_lr": 1e-5, "warmup_steps": 20, "total_steps": 600}


def test_hand_worked() -> None:
    recipe: dict[str, Any] = {"base_lr": 1.0, "min_lr": 0.2, "warmup_steps": 2, "total_steps": 6}
    rates = [warmup_cosine(step, **recipe) for step in range(8)]
    half = 0.8 * (1 + math.sqrt(0.5)) / 2 + 0.2
    assert rates == pytest.approx([0.5, 1.0, 1.0, half, 0.6, 1.2 - half, 0.2, 0.2], abs=1e-15)


def test_cosine_part_equals_torch() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=3e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=580, eta_min=1e-5)
    for step in range(20, 601):
        assert warmup_cosine(step, **RECIPE) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_rises_then_falls_then_stays() -> None:
    rates = [warmup_cosine(step, **RECIPE) for step in range(1000)]
    assert rates[0] == pytest.approx(3e-4 / 20)
    assert rates[19] == rates[20] == pytest.approx(3e-4, rel=1e-15)
    assert all(a < b for a, b in pairwise(rates[:20]))
    assert all(a > b for a, b in pairwise(rates[20:601]))
    assert set(rates[600:]) == {1e-5}
    assert all(isinstance(rate, float) for rate in rates)


def test_without_warmup_and_without_cosine() -> None:
    assert warmup_cosine(0, base_lr=1.0, min_lr=0.0, warmup_steps=0, total_steps=10) == 1.0
    only_warmup = [warmup_cosine(s, base_lr=1.0, min_lr=0.1, warmup_steps=2, total_steps=2) for s in range(4)]
    assert only_warmup == [0.5, 1.0, 0.1, 0.1]


@pytest.mark.parametrize(
    ("step", "change"),
    [
        (-1, {}),
        (0, {"warmup_steps": 601}),
        (0, {"warmup_steps": -1}),
        (0, {"total_steps": 0, "warmup_steps": 0}),
        (0, {"min_lr": 1.0}),
        (0, {"min_lr": -1e-5}),
        (0, {"base_lr": 0.0}),
        (0, {"base_lr": math.nan}),
        (0, {"base_lr": math.inf}),
    ],
)
def test_bad_arguments_are_refused(step: int, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="got"):
        warmup_cosine(step, **{**RECIPE, **change})
