"""The teacher module: one head in both phases, exact accumulation, float32 head."""

from types import SimpleNamespace
from typing import cast

import lightning
import pytest
import torch
from torch.nn import functional

from fer_lightning.data.batches.dataset import Batch
from fer_lightning.functional.arcface import arcface_logits
from fer_lightning.models.classifier import ClassifierSpec
from fer_lightning.training.callbacks.step_seed import StepSeed
from fer_lightning.training.recipe.config import LossConfig
from fer_lightning.training.recipe.learning_recipe import LearningRecipe, PhaseSpan
from fer_lightning.training.teacher import TeacherModule
from tests.training.pretended import pretend


def teacher(*, accumulate: int = 1, weights: list[float] | None = None) -> TeacherModule:
    torch.manual_seed(0)
    spec = ClassifierSpec(backbone="test_resnet", image_size=32, embedding_dim=16, dropout=0.0, scale=30.0)
    recipe = LearningRecipe(
        classifier=spec,
        class_counts=[10] * 7,
        steps_per_epoch=4,
        phases=[PhaseSpan(first_epoch=0, num_epochs=4, lr_ratio=1.0)],
        seed=0,
        loss=LossConfig(ramp_start_epoch=1, ramp_end_epoch=3),
        class_weights=weights,
    )
    return TeacherModule(recipe=recipe.to_dict(), record={"schema_version": 1}, accumulate=accumulate)


def batch(rows: int = 8, *, epoch: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 7, (rows,), generator=generator)
    pictures = torch.rand(rows, 3, 32, 32, generator=generator)
    return Batch(pictures, labels, torch.arange(rows), torch.zeros(rows, 0), epoch)


def test_the_plain_phase_is_the_same_head_with_margin_zero() -> None:
    module = teacher().eval()
    pretend(module, epoch=0)
    data = batch()
    module.on_train_epoch_start()
    loss = module.training_step(data, 0)
    assert float(loss.detach()) == pytest.approx(
        float(functional.cross_entropy(module.classifier(data.pictures), data.labels).detach())
    )


def test_the_margin_ramps_by_epoch() -> None:
    module = teacher()
    margins = []
    for epoch in range(5):
        pretend(module, epoch=epoch)
        margins.append(module.ramp().margin_rad)
    assert margins == pytest.approx([0.0, 0.0, 0.175, 0.35, 0.35])


def test_class_weights_and_margin_reach_the_loss() -> None:
    weights = [1.0, 2.0, 0.5, 1.0, 0.5, 1.0, 1.0]
    module = teacher(weights=weights).eval()
    pretend(module, epoch=3)
    module.on_train_epoch_start()
    data = batch(epoch=3)
    logits = arcface_logits(
        module.classifier.scores(module.classifier.embed(data.pictures)), data.labels, scale=30.0, margin_rad=0.35
    )
    expected = functional.cross_entropy(logits, data.labels, weight=torch.tensor(weights))
    assert float(module.training_step(data, 0).detach()) == pytest.approx(float(expected.detach()))


def test_targets_reach_the_step_with_the_margin_on_the_label() -> None:
    module = teacher().eval()
    pretend(module, epoch=3)
    module.on_train_epoch_start()
    targets = torch.rand(6, 7, generator=torch.Generator().manual_seed(9)).softmax(1)
    data = batch(6, epoch=3)._replace(targets=targets)
    logits = arcface_logits(
        module.classifier.scores(module.classifier.embed(data.pictures)), data.labels, scale=30.0, margin_rad=0.35
    )
    expected = -(targets * logits.detach().log_softmax(1)).sum(1).mean()
    assert float(module.training_step(data, 0).detach()) == pytest.approx(float(expected), rel=1e-5)


def test_an_accumulated_epoch_ends_on_a_full_weight_step() -> None:
    """7 micro-batches in steps of 3: the last step holds one, which Lightning would divide by 3."""
    module = teacher(accumulate=3).eval()
    pretend(module, epoch=0, batches=7)
    module.on_train_epoch_start()
    data = batch()
    losses = [float(module.training_step(data, index).detach()) for index in range(7)]
    assert losses[:6] == pytest.approx([losses[0]] * 6)
    assert losses[6] == pytest.approx(3 * losses[0])
    assert module.totals.mean_loss == pytest.approx(losses[0])


def test_a_batch_of_another_epoch_is_refused() -> None:
    module = teacher()
    pretend(module, epoch=1)
    module.on_train_epoch_start()
    with pytest.raises(RuntimeError, match="epoch 1 was handed a batch of epoch 0"):
        module.training_step(batch(epoch=0), 0)


def test_validation_gives_logits_without_margin() -> None:
    module = teacher().eval()
    pretend(module, epoch=3)
    data = batch()
    assert torch.equal(module.validation_step(data, 0)["logits"], module.classifier(data.pictures))


def test_the_head_stays_in_float32_under_autocast() -> None:
    module = teacher().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cosines = module.classifier.scores(module.classifier.embed(batch().pictures))
    assert cosines.dtype == torch.float32
    assert float(cosines.detach().abs().max()) <= 1.0 + 1e-6


def test_hyperparameters_are_plain_values() -> None:
    module = teacher(weights=[1.0] * 7)

    def plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(plain(item) for item in value.values())
        if isinstance(value, list):
            return all(plain(item) for item in value)
        return value is None or type(value) in (bool, int, float, str)

    assert plain(dict(module.hparams))


def test_step_seed_depends_on_seed_epoch_batch_and_rank_only() -> None:
    def draw(seed: int, epoch: int, batch_idx: int, rank: int) -> float:
        trainer = cast("lightning.Trainer", SimpleNamespace(current_epoch=epoch, global_rank=rank))
        StepSeed(seed).on_train_batch_start(trainer, cast("lightning.LightningModule", None), None, batch_idx)
        return float(torch.rand(()))

    first = draw(1, 2, 3, 0)
    torch.rand(100)
    assert draw(1, 2, 3, 0) == first
    others = {draw(2, 2, 3, 0), draw(1, 3, 3, 0), draw(1, 2, 4, 0), draw(1, 2, 3, 1)}
    assert len(others | {first}) == 5
