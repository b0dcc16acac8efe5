"""The student module: its loss against a recomputation, step by step, and who teaches it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor
from torch.nn import functional

from fer_lightning.data.batches.dataset import Batch
from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.functional.arcface import arcface_logits
from fer_lightning.models.classifier import ClassifierSpec
from fer_lightning.training.distillation.config import DistillationConfig, DistillationObjective, TemperatureRule
from fer_lightning.training.recipe.config import HeadKind, LossConfig, MixingConfig, OptimizerConfig
from fer_lightning.training.recipe.learning_recipe import LearningRecipe, PhaseSpan
from fer_lightning.training.recipe.student_recipe import StudentRecipe, TeacherFusion
from fer_lightning.training.student import StudentModule
from fer_lightning.training.teacher import TeacherModule
from tests.runs.ensemble_examples import write_pair
from tests.runs.examples import tiny_classifier
from tests.training.pretended import pretend

NUM_BATCHES, NUM_ROWS = 4, 20
SCALE = 30.0


def recipe_parts(head: HeadKind, **more: Any) -> dict[str, Any]:
    margin = 0.35 if head is HeadKind.cosine else 0.0
    loss = LossConfig(head=head, margin_rad=margin, ramp_start_epoch=1, ramp_end_epoch=3, label_smoothing=0.1)
    spec = ClassifierSpec(
        backbone="test_resnet", image_size=32, embedding_dim=16, dropout=0.0, scale=SCALE, head=head.value
    )
    plain = {
        "classifier": spec,
        "class_counts": [10] * 7,
        "steps_per_epoch": NUM_BATCHES,
        "phases": [PhaseSpan(first_epoch=0, num_epochs=4, lr_ratio=1.0)],
        "seed": 0,
        "loss": loss,
    }
    return plain | more


def student(
    head: HeadKind = HeadKind.cosine,
    *,
    fusion: TeacherFusion | None = None,
    ensemble_sha256: str | None = None,
    recipe: dict[str, Any] | None = None,
    **lesson: Any,
) -> StudentModule:
    torch.manual_seed(0)
    asked: dict[str, Any] = {"softlabels": "x"} | lesson
    config = DistillationConfig(**asked)
    made = StudentRecipe(
        **recipe_parts(head, **(recipe or {})),
        distillation=config,
        fusion=fusion or TeacherFusion(),
        kd_temperature=config.kd_temperature,
        ensemble_sha256=ensemble_sha256,
        num_rows=NUM_ROWS,
    )
    return StudentModule(recipe=made.to_dict(), record={"schema_version": 1}, accumulate=1)


def batch(rows: int = 8, *, epoch: int = 0, **more: Any) -> Batch:
    generator = torch.Generator().manual_seed(2)
    plain = Batch(
        torch.rand(rows, 3, 32, 32, generator=generator),
        torch.randint(0, 7, (rows,), generator=generator),
        torch.arange(rows),
        torch.zeros(rows, 0),
        epoch,
        teacher_logits=torch.randn(rows, 1, 7, generator=generator) * 5,
        negatives=torch.rand(rows, 7, generator=generator) < 0.2,
    )
    return plain._replace(**more)


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def step(module: StudentModule | TeacherModule, data: Batch, batch_idx: int = 0) -> float:
    pretend(module, epoch=data.epoch)
    return float(module.training_step(data, batch_idx).detach())


def label_loss(module: StudentModule, data: Batch, *, margin_rad: float) -> float:
    """Return the smoothed cross-entropy of training logits, with torch's own kernel."""
    scores = module.classifier.scores(module.classifier.embed(data.pictures))
    if module.classifier.scores_are_cosines:
        scores = arcface_logits(scores, data.labels, scale=SCALE, margin_rad=margin_rad)
    return float(functional.cross_entropy(scores, data.labels, label_smoothing=0.1).detach())


def inference_logits(module: StudentModule, data: Batch) -> np.ndarray[Any, np.dtype[np.float64]]:
    logits: Tensor = module.classifier(data.pictures)
    return logits.detach().double().numpy()


def kd(student_logits: Any, teacher_logits: Any, kd_temperature: float) -> Any:
    """Return Hinton's loss of each row."""
    own, theirs = (log_softmax(logits / kd_temperature, axis=1) for logits in (student_logits, teacher_logits))
    return kd_temperature**2 * (np.exp(theirs) * (theirs - own)).sum(axis=1)


@pytest.mark.parametrize(("head", "margin_rad"), [(HeadKind.cosine, 0.175), (HeadKind.linear, 0.0)])
@pytest.mark.parametrize(("batch_idx", "rise"), [(0, 2 / 3), (1, 2.25 / 3), (3, 2.75 / 3)])
def test_the_loss_is_the_sum_of_its_weighted_parts(
    head: HeadKind, margin_rad: float, batch_idx: int, rise: float
) -> None:
    """The margin is part of the label loss only; the weight of the objective rises over 3 epochs, step by step."""
    module = student(
        head, ce_weight=0.7, weight=0.4, warmup_epochs=3.0, kd_temperature=3.0, negative_weight=0.25
    ).eval()
    data = batch(epoch=2)
    logits = inference_logits(module, data)
    probs = softmax(logits, axis=1)
    assert data.teacher_logits.shape == (8, 1, 7)
    distillation_loss = kd(logits, data.teacher_logits[:, 0].double().numpy(), 3.0).mean()
    negative_loss = -(data.negatives.numpy() * np.log(1 - probs)).sum(axis=1).mean()
    ce_loss = label_loss(module, data, margin_rad=margin_rad)
    expected = 0.7 * ce_loss + 0.4 * rise * distillation_loss + 0.25 * negative_loss
    assert step(module, data, batch_idx) == pytest.approx(expected, rel=1e-4)
    assert module.totals.mean_parts == pytest.approx([ce_loss, distillation_loss, negative_loss], rel=1e-4)
    lesson = module.lesson(module.totals.mean_parts)
    assert lesson.distillation_weight == pytest.approx(0.4)
    assert lesson.ce_loss == pytest.approx(ce_loss, rel=1e-4)
    assert lesson.kd_temperature == 3.0


def test_labels_or_the_teacher_can_be_left_out() -> None:
    data = batch(epoch=3)
    only_teacher = student(ce_weight=0.0, weight=1.0).eval()
    target = data.teacher_logits[:, 0].double().numpy()
    expected = kd(inference_logits(only_teacher, data), target, 2.0).mean()
    assert step(only_teacher, data) == pytest.approx(expected, rel=1e-4)
    only_labels = student(objective=DistillationObjective.none, softlabels=None, ce_weight=1.0).eval()
    assert only_labels.distillation is None
    assert step(only_labels, data) == pytest.approx(label_loss(only_labels, data, margin_rad=0.35), rel=1e-5)
    assert only_labels.lesson([1.0, 0.0, 0.0]).kd_temperature is None


def test_rows_without_teacher_logits_learn_from_their_labels() -> None:
    module = student(allow_missing=True, ce_weight=1.0, weight=1.0).eval()
    data = batch()
    data.teacher_logits[[0, 5]] = torch.nan
    rows = kd(inference_logits(module, data), data.teacher_logits[:, 0].double().numpy(), 2.0)
    expected = label_loss(module, data, margin_rad=0.0) + np.nansum(rows) / 8
    pretend(module, epoch=0)
    loss = module.training_step(data, 0)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    backward(loss)
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert len(gradients) == len(list(module.parameters()))


def test_no_gradient_reaches_the_teacher() -> None:
    module = student()
    logits = batch().teacher_logits.requires_grad_()
    pretend(module, epoch=0)
    backward(module.training_step(batch(teacher_logits=logits), 0))
    assert logits.grad is None or not logits.grad.any()


@pytest.mark.parametrize("head", list(HeadKind))
def test_without_a_teacher_it_is_a_teacher(head: HeadKind) -> None:
    """Also to the bit in its random start: whoever distils must not draw before the network is made."""
    taught = student(head, objective=DistillationObjective.none, softlabels=None, ce_weight=1.0)
    torch.manual_seed(0)
    plain = TeacherModule(
        recipe=LearningRecipe(**recipe_parts(head)).to_dict(), record={"schema_version": 1}, accumulate=1
    )
    assert taught.state_dict().keys() == plain.state_dict().keys()
    for name, value in taught.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name
    for module in (taught, plain):
        assert step(module, batch(epoch=3)) == step(plain, batch(epoch=3))


def test_the_learned_temperature_rises_and_is_a_weight_of_the_run() -> None:
    module = student(
        temperature_rule=TemperatureRule.curriculum,
        kd_temperature=4.0,
        curriculum_epochs=1,
        recipe={"optimizer": OptimizerConfig(lr=0.1, backbone_lr=1e-9, weight_decay=0.5)},
    ).eval()
    pretend(module, epoch=1)
    optimizer = module.configure_optimizers()["optimizer"]
    (group,) = (group for group in optimizer.param_groups if any(p.ndim == 0 for p in group["params"]))
    assert (group["name"], group["weight_decay"]) == ("head", 0.0)
    # The student does not move: what the temperature does is seen alone.
    for other in optimizer.param_groups:
        other["params"] = [p for p in other["params"] if p.ndim == 0]
    losses, temperatures = [], []
    for _ in range(5):
        optimizer.zero_grad()
        backward(module.training_step(batch(epoch=1), 0))
        losses.append(float(module.last_loss))
        temperatures.append(module.lesson([0.0] * 3).kd_temperature)
        optimizer.step()
    assert temperatures[0] == pytest.approx(4.0)
    assert np.all(np.diff(np.array(losses)) > 0), "it makes the student's task harder"
    assert np.all(np.diff(np.array(temperatures)) > 0)
    assert "distillation.curriculum.theta" in module.state_dict()
    again = student(temperature_rule=TemperatureRule.curriculum, kd_temperature=4.0)
    again.load_state_dict(module.state_dict())
    assert again.lesson([0.0] * 3).kd_temperature == module.lesson([0.0] * 3).kd_temperature


def own_logits(module: StudentModule) -> Tensor:
    assert module._own is not None
    return module._own.of(torch.arange(NUM_ROWS))[:, 0]


def test_it_teaches_itself_by_the_epoch_before() -> None:
    module = student(softlabels=None, self_teaching=True, ce_weight=1.0, weight=1.0).eval()
    labels_only = label_loss(module, batch(), margin_rad=0.0)
    assert step(module, batch()) == pytest.approx(labels_only, rel=1e-5)
    before = inference_logits(module, batch())
    module.on_train_epoch_end()
    with torch.no_grad():  # the next epoch's weights
        for weights in module.classifier.head.parameters():
            weights.add_(torch.randn(weights.shape) * 0.2)
    data = batch(epoch=1)
    expected = label_loss(module, data, margin_rad=0.0) + kd(inference_logits(module, data), before, 2.0).mean()
    assert step(module, data) == pytest.approx(expected, rel=1e-4)
    others = data._replace(rows=torch.tensor([0, 12, 13, 14, 15, 16, 17, 18]))  # one of them was seen
    rows = kd(inference_logits(module, data), before, 2.0)
    expected = label_loss(module, data, margin_rad=0.0) + rows[0] / 8
    assert step(module, others) == pytest.approx(expected, rel=1e-4)


def test_a_second_sam_pass_keeps_no_logits() -> None:
    module = student(softlabels=None, self_teaching=True, recipe={"optimizer": OptimizerConfig(sam_rho=0.05)}).eval()
    step(module, batch(4))
    assert module._own is not None
    first = module._own.state(world_size=1)["kept"][0]
    module._second_pass = True
    step(module, batch(4))
    kept = module._own.state(world_size=1)["kept"][0]
    assert torch.equal(kept["rows"], first["rows"])
    assert torch.equal(kept["logits"], first["logits"])


def test_a_rollback_drops_the_logits_of_the_epoch() -> None:
    module = student(softlabels=None, self_teaching=True).eval()
    step(module, batch(2))
    module.on_train_epoch_end()
    before = own_logits(module)
    assert before.isfinite().any(dim=1).tolist() == [True] * 2 + [False] * (NUM_ROWS - 2)
    step(module, batch(5, epoch=1))
    module.roll_back(module.state_dict())
    module.on_train_epoch_end()
    torch.testing.assert_close(own_logits(module), before, rtol=0, atol=0, equal_nan=True)


def live_student(folder: Path, **options: Any) -> StudentModule:
    asked: dict[str, Any] = {"softlabels": None, "ensemble": str(folder), "ce_weight": 0.0, "weight": 1.0} | options
    fusion = TeacherFusion(space="prob", weights=[0.3, 0.7], temperatures=[2.0, 0.5], ensemble_temperature=1.3)
    return student(ensemble_sha256=sha256_of(folder / "ensemble.json"), fusion=fusion, **asked)


def fused_by_hand(pictures: Tensor) -> Any:
    """Return the logits of two tiny teachers fused in the `prob` space, then calibrated."""
    with torch.no_grad():
        own = [tiny_classifier(seed).eval()(pictures).double().numpy() for seed in (0, 1)]
    return np.log(0.3 * softmax(own[0] / 2.0, axis=1) + 0.7 * softmax(own[1] / 0.5, axis=1)) / 1.3


def test_a_live_ensemble_sees_what_the_student_sees(tmp_path: Path) -> None:
    """Pictures come out of the mixer; the labels that they are mixed of have no part in KD."""
    module = live_student(
        write_pair(tmp_path, space="prob"), recipe={"mixing": MixingConfig(mixup_alpha=0.4, probability=1.0)}
    ).eval()
    data = batch(teacher_logits=torch.empty(0, 0, 0))
    mixed = module._mixer.mix(data, batch_idx=2, rank=0)
    assert not torch.equal(mixed.pictures, data.pictures)
    expected = kd(inference_logits(module, mixed), fused_by_hand(mixed.pictures), 2.0).mean()
    assert step(module, data, 2) == pytest.approx(expected, rel=1e-3)


def test_a_live_ensemble_is_no_part_of_the_student(tmp_path: Path) -> None:
    folder = write_pair(tmp_path)
    module, plain = live_student(folder).train(), student()
    assert module.state_dict().keys() == plain.state_dict().keys()
    assert {name for name, _ in module.named_parameters()} == {name for name, _ in plain.named_parameters()}
    for name, value in module.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), f"{name}: the teachers drew before the student"
    pictures = batch().pictures
    assert module._live is not None
    before = module._live.logits(pictures)
    pretend(module, epoch=0)
    backward(module.training_step(batch(), 0))
    assert torch.equal(module._live.logits(pictures), before)  # neither weights nor running statistics have moved
    assert all(parameter.grad is None for parameter in module._live.network.parameters())
    assert all(parameter.grad is not None for parameter in module.classifier.parameters())


def test_a_replaced_ensemble_is_refused(tmp_path: Path) -> None:
    folder = write_pair(tmp_path)
    with pytest.raises(FerError, match="is not the one that the student was set up with"):
        student(softlabels=None, ensemble=str(folder), ensemble_sha256="0" * 64)
