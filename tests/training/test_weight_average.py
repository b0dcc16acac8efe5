"""The averaged weights: their formula, where they are judged and saved, and what a resumed run finds."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fer_lightning.data.batches.dataset import Batch
from fer_lightning.models.classifier import ClassifierSpec
from fer_lightning.training.callbacks.weight_average import WeightAverage
from fer_lightning.training.recipe.config import LossConfig, OptimizerConfig
from fer_lightning.training.recipe.learning_recipe import LearningRecipe, PhaseSpan
from fer_lightning.training.teacher import TeacherModule

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]

DECAY = 0.3
STEPS = 4


def teacher() -> TeacherModule:
    torch.manual_seed(0)
    recipe = LearningRecipe(
        classifier=ClassifierSpec(backbone="test_resnet", image_size=32, embedding_dim=8, dropout=0.0, scale=30.0),
        class_counts=[10] * 7,
        steps_per_epoch=STEPS,
        phases=[PhaseSpan(first_epoch=0, num_epochs=1, lr_ratio=1.0)],
        seed=0,
        loss=LossConfig(ramp_start_epoch=-1, ramp_end_epoch=-1),
        optimizer=OptimizerConfig(lr=0.01, warmup_epochs=0, ema_decay=DECAY),
    )
    return TeacherModule(recipe=recipe.to_dict(), record={"schema_version": 2}, accumulate=2)


def loader(count: int, epoch: int) -> DataLoader[Batch]:
    generator = torch.Generator().manual_seed(1)
    batches = [
        Batch(
            torch.rand(6, 3, 32, 32, generator=generator),
            torch.randint(0, 7, (6,), generator=generator),
            torch.arange(6),
            torch.zeros(6, 0),
            epoch,
        )
        for _ in range(count)
    ]
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def copy(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


class Record(lightning.Callback):
    """Copies weights where they matter; it comes after the average in the list."""

    def __init__(self, average: WeightAverage, folder: Path) -> None:
        self._average = average
        self._folder = folder
        self.before: dict[str, Tensor] = {}
        self.steps: list[dict[str, Tensor]] = []
        self.judged: dict[str, Tensor] = {}
        self.after_judging: dict[str, Tensor] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.before = copy(pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx % 2:
            self.steps.append(copy(pl_module))

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        self.judged = copy(pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.after_judging = copy(pl_module)
        trainer.save_checkpoint(self._folder / "full.pt", weights_only=False)
        with self._average.in_place(pl_module):
            trainer.save_checkpoint(self._folder / "deployed.pt", weights_only=True)
        self.after_saving = copy(pl_module)


def fit(module: TeacherModule, average: WeightAverage, folder: Path) -> Record:
    record = Record(average, folder)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=2,
        callbacks=[average, record],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, loader(2 * STEPS, 0), loader(2, -1))
    return record


def expected_average(record: Record) -> dict[str, Tensor]:
    average = {name: value.double() for name, value in record.before.items()}
    for n, weights in enumerate(record.steps):
        decay = min(DECAY, (1 + n) / (10 + n))
        average = {name: decay * average[name] + (1 - decay) * weights[name].double() for name in average}
    return average


def test_the_average_is_judged_and_saved_and_the_weights_go_on(tmp_path: Path) -> None:
    record = fit(teacher(), WeightAverage(DECAY), tmp_path)
    assert len(record.steps) == STEPS
    full = torch.load(tmp_path / "full.pt", weights_only=True)
    deployed = torch.load(tmp_path / "deployed.pt", weights_only=True)
    for name, value in expected_average(record).items():
        judged, last = record.judged[name], record.steps[-1][name]
        if judged.is_floating_point():
            assert torch.allclose(judged.double(), value, atol=1e-6), name
        else:
            assert torch.equal(judged, last), name
        assert torch.equal(record.after_judging[name], last), name
        assert torch.equal(record.after_saving[name], last), name
        assert torch.equal(full["state_dict"][name], judged), name
        assert torch.equal(full["current_model_state"][name], last), name
        assert torch.equal(deployed["state_dict"][name], judged), name
    assert not torch.equal(record.judged["classifier.head.directions"], record.steps[-1]["classifier.head.directions"])


def test_restoring_sets_weights_and_average_and_clears_the_optimizer(tmp_path: Path) -> None:
    module, average = teacher(), WeightAverage(DECAY)
    start = copy(module)

    class RollBack(lightning.Callback):
        def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
            assert isinstance(pl_module, TeacherModule)
            assert trainer.optimizers[0].state
            pl_module.lr_factor = 0.5
            average.restore(pl_module, start)
            assert not trainer.optimizers[0].state
            assert all(parameter.grad is None for parameter in pl_module.parameters())
            assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.5 * 1e-5)

    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=2,
        callbacks=[average, RollBack()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, loader(2 * STEPS, 0), loader(2, -1))
    trainer.save_checkpoint(tmp_path / "full.pt", weights_only=False)
    full = torch.load(tmp_path / "full.pt", weights_only=True)
    for name, value in start.items():
        assert torch.equal(full["state_dict"][name], value), name
        assert torch.equal(full["current_model_state"][name], value), name


def test_there_is_no_average_before_training() -> None:
    with pytest.raises(RuntimeError, match="before training starts"):
        WeightAverage(DECAY).on_validation_epoch_start(
            cast("lightning.Trainer", SimpleNamespace()), cast("lightning.LightningModule", teacher())
        )
