"""How several teachers become one target, and when the target counts: against numpy, in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp, softmax
from torch import Tensor

from fer_lightning.functional.distillation import dist_loss, dkd_loss, kd_loss, nkd_loss
from fer_lightning.functional.multi_level import multi_level_loss
from fer_lightning.training.distillation.config import DistillationConfig, DistillationObjective
from fer_lightning.training.distillation.config import TargetClass as Target
from fer_lightning.training.distillation.config import TeacherWeighting as Weighting
from fer_lightning.training.distillation.config import TemperatureRule as Rule
from fer_lightning.training.distillation.term import DistillationTerm
from fer_lightning.training.recipe.student_recipe import TeacherFusion

Array = NDArray[np.float64]

WEIGHTS, TEMPERATURES = [0.2, 0.5, 0.3], [2.0, 0.5, 1.3]
LABELS = torch.tensor([0, 3, 6, 1, 5])
TEACHERS = torch.randn(5, 3, 7, generator=torch.Generator().manual_seed(0)) * 4


def term(fusion: TeacherFusion | None = None, *, partial: bool = False, **options: Any) -> DistillationTerm:
    asked: dict[str, Any] = {"softlabels": "x", "kd_temperature": 3.0, **options}
    config = DistillationConfig(**asked)
    fusion = fusion or TeacherFusion(space="logit", weights=WEIGHTS, temperatures=TEMPERATURES)
    return DistillationTerm(config, fusion, kd_temperature=config.kd_temperature, partial=partial)


def scaled() -> Array:
    """Return (M, N, 7) logits, each teacher's divided by its temperature."""
    return np.stack([TEACHERS[:, m].double().numpy() / TEMPERATURES[m] for m in range(3)])


def shares(weighting: Weighting) -> Array:
    """Return (M, N) weights by the formulas of the papers, row by row."""
    made = np.empty((3, 5))
    for row, label in enumerate(LABELS.tolist()):
        log_probs = log_softmax(scaled()[:, row], axis=1)
        if weighting is Weighting.ensemble:
            made[:, row] = WEIGHTS
        elif weighting is Weighting.loss:
            made[:, row] = (1 - softmax(-log_probs[:, label])) / 2
        else:
            certainty = np.log(7) + (np.exp(log_probs) * log_probs).sum(axis=1)
            made[:, row] = certainty / certainty.sum()
    return made


@pytest.mark.parametrize("space", ["logit", "prob"])
@pytest.mark.parametrize("weighting", list(Weighting))
@pytest.mark.parametrize("ensemble_temperature", [1.0, 2.5])
def test_teachers_are_divided_weighed_and_calibrated(
    space: str, weighting: Weighting, ensemble_temperature: float
) -> None:
    fusion = TeacherFusion(
        space=space, weights=WEIGHTS, temperatures=TEMPERATURES, ensemble_temperature=ensemble_temperature
    )
    weights = shares(weighting)[..., None]
    assert weights.sum(axis=0) == pytest.approx(1.0)
    in_logits, in_probs = (weights * scaled()).sum(axis=0), logsumexp(log_softmax(scaled(), axis=2), b=weights, axis=0)
    expected = in_logits if space == "logit" else in_probs
    fused = term(fusion, teacher_weighting=weighting).fused(TEACHERS, LABELS)
    assert fused.numpy() == pytest.approx(expected / ensemble_temperature, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("space", ["logit", "prob"])
@pytest.mark.parametrize("weighting", list(Weighting))
def test_one_teacher_is_divided_by_both_temperatures(space: str, weighting: Weighting) -> None:
    fusion = TeacherFusion(space=space, weights=[1.0], temperatures=[2.0], ensemble_temperature=1.5)
    fused = term(fusion, teacher_weighting=weighting).fused(TEACHERS[:, :1], LABELS)
    assert fused.numpy() == pytest.approx(TEACHERS[:, 0].numpy() / 3.0)


def test_the_weight_rises_step_by_step_and_then_stays() -> None:
    rising = term(weight=0.8, warmup_epochs=2.5)
    assert [rising.weight(progress) for progress in (0, 0.25, 1.25, 2.5, 9)] == pytest.approx([0, 0.08, 0.4, 0.8, 0.8])
    assert term(weight=0.8).weight(0) == 0.8


def kd(student: Tensor, target: Array, kd_temperature: float) -> float:
    """Return Hinton's loss with its factor, by numpy."""
    own = log_softmax(student.detach().double().numpy() / kd_temperature, axis=1)
    theirs = log_softmax(target / kd_temperature, axis=1)
    return float(kd_temperature**2 * (np.exp(theirs) * (theirs - own)).sum(axis=1).mean())


WEIGHED: dict[str, dict[str, Any]] = {
    "dkd": {"alpha": 1.5, "beta": 2.5},
    "nkd": {"gamma": 0.7},
    "dist": {"beta": 2.5, "gamma": 0.7},
}
OBJECTIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kd": lambda own, theirs: kd_loss(own, theirs, kd_temperature=3.0),
    "dkd": lambda own, theirs: dkd_loss(own, theirs, LABELS, alpha=1.5, beta=2.5, kd_temperature=3.0),
    "nkd": lambda own, theirs: nkd_loss(own, theirs, LABELS, gamma=0.7, kd_temperature=3.0),
    "dist": lambda own, theirs: dist_loss(own, theirs, beta=2.5, gamma=0.7, kd_temperature=3.0),
    "multi_level": lambda own, theirs: multi_level_loss(own, theirs, kd_temperatures=[1.5, 2.25, 3.0, 3.75, 4.5]),
}


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_options_reach_their_objective(objective: str) -> None:
    student = torch.randn(5, 7, generator=torch.Generator().manual_seed(5))
    made = term(objective=DistillationObjective(objective), **WEIGHED.get(objective, {}))
    loss = made(student, TEACHERS, LABELS, progress=0.0)
    assert torch.equal(loss, OBJECTIVES[objective](student, made.fused(TEACHERS, LABELS)))
    assert float(loss) > 0


def test_rows_without_logits_add_nothing() -> None:
    student = torch.randn(5, 7, generator=torch.Generator().manual_seed(1), requires_grad=True)
    teachers = TEACHERS.clone()
    teachers[[1, 4]] = torch.nan
    loss = term(partial=True)(student, teachers, LABELS, progress=0.0)
    known = [0, 2, 3]
    target = np.einsum("m,mnc->nc", WEIGHTS, scaled())[known]
    assert float(loss.detach()) == pytest.approx(kd(student[known], target, 3.0) * 3 / 5, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.isfinite().all()
    assert not gradient[[1, 4]].any()
    assert gradient[known].any(dim=1).all()


@pytest.mark.parametrize(
    "objective", [kind for kind in DistillationObjective if kind is not DistillationObjective.none]
)
def test_a_batch_without_any_logits_is_0_with_gradients_of_0(objective: DistillationObjective) -> None:
    student = torch.randn(5, 7, requires_grad=True)
    loss = term(objective=objective, partial=True)(student, torch.full((5, 1, 7), torch.nan), LABELS, progress=0.0)
    assert float(loss.detach()) == 0
    loss.backward()
    assert student.grad is not None
    assert not student.grad.any()


def test_a_learned_temperature_takes_part_in_every_batch() -> None:
    """Ranks that exchange gradients wait for those of every parameter."""
    learned = term(temperature_rule=Rule.curriculum, kd_temperature=4.0, partial=True)
    assert learned.curriculum is not None
    for teachers in (TEACHERS, torch.full((5, 3, 7), torch.nan)):
        learned.zero_grad()
        loss = learned(torch.randn(5, 7, requires_grad=True), teachers, LABELS, progress=5.0)
        loss.backward()
        gradient = learned.curriculum.theta.grad
        assert gradient is not None
        assert bool(gradient) == (teachers is TEACHERS)
    assert learned.kd_temperature == pytest.approx(4.0)


def test_the_teachers_class_can_be_set_apart() -> None:
    student = torch.randn(5, 7, generator=torch.Generator().manual_seed(3))
    options: dict[str, Any] = {"objective": DistillationObjective.dkd, "beta": 2.0}
    by_teacher = term(target_class=Target.teacher, **options)
    chosen = by_teacher.fused(TEACHERS, LABELS).argmax(1)
    assert not torch.equal(chosen, LABELS)
    by_label = term(**options)
    loss = by_teacher(student, TEACHERS, LABELS, progress=0.0)
    assert torch.equal(loss, by_label(student, TEACHERS, chosen, progress=0.0))
    assert not torch.equal(loss, by_label(student, TEACHERS, LABELS, progress=0.0))


def test_standardised_logits_hide_scale_and_shift() -> None:
    student = torch.randn(5, 7, generator=torch.Generator().manual_seed(4))
    plain = term(standardize=True)(student, TEACHERS, LABELS, progress=0.0)
    moved = term(standardize=True)(7 * student + 3, TEACHERS * 2, LABELS, progress=0.0)
    assert float(moved) == pytest.approx(float(plain), rel=1e-4)


def test_teachers_get_no_gradient_and_constants_are_no_state() -> None:
    teachers, student = TEACHERS.clone().requires_grad_(), torch.randn(5, 7, requires_grad=True)
    made = term()
    made(student, teachers, LABELS, progress=0.0).backward()
    assert teachers.grad is None or not teachers.grad.any()
    assert not made.state_dict()
    assert {str(buffer.device) for buffer in made.to("meta").buffers()} == {"meta"}
