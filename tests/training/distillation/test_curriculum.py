"""The learned temperature: where it begins, which way and how strongly it is pushed, what is saved."""

import itertools
import math

import pytest
import torch
from torch import nn

from fer_lightning.functional.distillation import dkd_loss, kd_loss
from fer_lightning.training.distillation.curriculum import CurriculumTemperature
from fer_lightning.training.recipe.optim import decayed_parameters

START, HIGHEST, EPOCHS = 4.0, 20.0, 10


def curriculum() -> CurriculumTemperature:
    return CurriculumTemperature(START, HIGHEST, EPOCHS).double()


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 12, 7, dtype=torch.float64, generator=generator) * 3
    return student, teacher


@pytest.mark.parametrize("start", [1.001, 2.0, 4.0, 19.99])
@pytest.mark.parametrize("epoch", [0, 0.5, 7, 30])
def test_begins_at_start(start: float, epoch: float) -> None:
    temperature = CurriculumTemperature(start, HIGHEST, EPOCHS)
    assert float(temperature(epoch).detach()) == pytest.approx(start, rel=1e-6)
    assert float(temperature.temperature) == pytest.approx(start, rel=1e-6)
    assert not temperature.temperature.requires_grad
    assert temperature(epoch).shape == temperature.temperature.shape == ()


@pytest.mark.parametrize(("epoch", "strength"), [(0, 0.0), (2.5, 0.1464466094), (5, 0.5), (10, 1.0), (99, 1.0)])
def test_gradient_is_reversed_and_grows_by_a_cosine(epoch: float, strength: float) -> None:
    temperature = curriculum()
    (gradient,) = torch.autograd.grad(temperature(epoch), temperature.theta)
    share = (START - 1) / (HIGHEST - 1)
    slope = (HIGHEST - 1) * share * (1 - share)  # of the sigmoid
    assert float(gradient) == pytest.approx(-strength * slope, rel=1e-6, abs=1e-12)
    assert temperature.strength(epoch) == pytest.approx(strength, abs=1e-8)


def test_strength_never_falls() -> None:
    strengths = [curriculum().strength(step / 7) for step in range(100)]
    assert strengths == sorted(strengths)
    assert strengths[0] == 0.0
    assert strengths[-1] == 1.0


@pytest.mark.parametrize("objective", ["kd", "dkd"])
def test_descent_makes_the_task_harder(objective: str) -> None:
    student, teacher = rows()
    temperature = curriculum()
    optimizer = torch.optim.SGD(temperature.parameters(), lr=0.05)

    def loss(at: torch.Tensor) -> torch.Tensor:
        if objective == "kd":
            return kd_loss(student, teacher, kd_temperature=at)
        return dkd_loss(student, teacher, torch.arange(12) % 7, alpha=1.0, beta=4.0, kd_temperature=at)

    losses = [float(loss(temperature.temperature))]
    for _ in range(5):
        optimizer.zero_grad()
        loss(temperature(EPOCHS)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss(temperature.temperature)))
    assert all(after > before for before, after in itertools.pairwise(losses))
    assert 1 < float(temperature.temperature) < HIGHEST


def test_the_student_gets_its_ordinary_gradient() -> None:
    student, teacher = rows()
    point = student.requires_grad_()
    (learned,) = torch.autograd.grad(kd_loss(point, teacher, kd_temperature=curriculum()(EPOCHS)), point)
    (constant,) = torch.autograd.grad(kd_loss(point, teacher, kd_temperature=START), point)
    torch.testing.assert_close(learned, constant, rtol=1e-6, atol=1e-9)


def test_first_epoch_leaves_the_temperature_alone() -> None:
    student, teacher = rows()
    temperature = curriculum()
    kd_loss(student, teacher, kd_temperature=temperature(0)).backward()  # type: ignore[no-untyped-call]
    assert temperature.theta.grad is not None
    assert float(temperature.theta.grad) == 0.0


def test_theta_is_saved_and_not_decayed() -> None:
    module = nn.ModuleDict({"temperature": curriculum(), "layer": nn.Linear(2, 2)})
    assert decayed_parameters(module) == {"layer.weight"}
    moved = curriculum()
    moved.theta.data.fill_(0.0)
    restored = curriculum()
    restored.load_state_dict(moved.state_dict())
    assert float(restored.temperature) == (1 + HIGHEST) / 2


@pytest.mark.parametrize(
    ("start", "highest", "epochs"),
    [(1.0, 20.0, 10), (20.0, 20.0, 10), (4.0, math.inf, 10), (math.nan, 20.0, 10), (4.0, 20.0, 0)],
)
def test_wrong_ranges_are_refused(start: float, highest: float, epochs: float) -> None:
    with pytest.raises(ValueError, match="must"):
        CurriculumTemperature(start, highest, epochs)
