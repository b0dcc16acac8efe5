"""Frozen parts do not move, in any way, and thaw when their epochs are over."""

from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fer_lightning.data.batches.dataset import Batch
from fer_lightning.errors import FerError
from fer_lightning.models.classifier import Classifier, ClassifierSpec
from fer_lightning.training.config import StageConfig
from fer_lightning.training.recipe.config import LossConfig, OptimizerConfig, OptimizerName
from fer_lightning.training.recipe.freezing import Freezing
from fer_lightning.training.recipe.learning_recipe import LearningRecipe, PhaseSpan
from fer_lightning.training.teacher import TeacherModule

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]

SPEC = ClassifierSpec(backbone="test_resnet", image_size=32, embedding_dim=8, dropout=0.2, scale=30.0)
PHASES = [PhaseSpan(first_epoch=0, num_epochs=4, lr_ratio=1.0), PhaseSpan(first_epoch=4, num_epochs=2, lr_ratio=0.1)]
STAGE = StageConfig(freeze_backbone_epochs=1, freeze_blocks=2, freeze_blocks_epochs=3)


def freezing(stage: StageConfig) -> tuple[Freezing, Classifier]:
    classifier = Classifier(SPEC)
    return Freezing(stage, classifier, PHASES), classifier


def learning(classifier: Classifier) -> set[int]:
    """Return the layers of the backbone that learn."""
    layers = classifier.layer_of_parameters()
    return {layers[name] for name, p in classifier.backbone.named_parameters() if p.requires_grad}


def test_phases_are_named_by_what_learns() -> None:
    frozen, _ = freezing(STAGE)
    assert [frozen.phase(epoch) for epoch in range(6)] == [
        "head",
        "late blocks",
        "late blocks",
        "all",
        "polish",
        "polish",
    ]
    assert freezing(StageConfig())[0].phase(0) == "all"


def test_layers_thaw_when_their_epochs_are_over() -> None:
    frozen, classifier = freezing(STAGE)
    expected: list[set[int]] = [set(), {2, 3, 4}, {2, 3, 4}, {0, 1, 2, 3, 4}]
    for epoch, layers in enumerate(expected):
        frozen.apply(epoch, by_gradient=False)
        assert learning(classifier) == layers
        assert all(p.requires_grad for part in (classifier.neck, classifier.head) for p in part.parameters())


def test_a_run_that_starts_in_a_later_epoch_freezes_what_belongs_to_it() -> None:
    frozen, classifier = freezing(STAGE)
    frozen.apply(2, by_gradient=False)
    assert learning(classifier) == {2, 3, 4}


def test_frozen_modules_are_in_evaluation_mode_and_thawed_ones_are_not() -> None:
    frozen, classifier = freezing(STAGE)
    layers = classifier.layer_of_parameters()

    def modes(epoch: int) -> dict[int, set[bool]]:
        frozen.apply(epoch, by_gradient=False)
        found: dict[int, set[bool]] = {}
        for name, module in classifier.backbone.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                found.setdefault(layers[f"{name}.weight"], set()).add(module.training)
        return found

    assert set.union(*modes(0).values()) == {False}
    assert modes(1) == {layer: {layer >= 2} for layer in modes(1)}
    assert set.union(*modes(3).values()) == {True}
    assert classifier.training
    assert classifier.neck.training


def test_parts_without_parameters_rest_with_the_block_around_them() -> None:
    spec = ClassifierSpec(backbone="test_vit", image_size=32, embedding_dim=8, dropout=0.2, scale=30.0)
    classifier = Classifier(spec)
    frozen = Freezing(StageConfig(freeze_blocks=2, freeze_blocks_epochs=1), classifier, PHASES)
    frozen.apply(0, by_gradient=False)
    blocks: Any = classifier.backbone.blocks
    assert not any(module.training for module in blocks[0].modules())
    assert all(module.training for module in blocks[1].modules())


def test_by_gradient_the_flags_stay_and_gradients_are_dropped() -> None:
    frozen, classifier = freezing(STAGE)
    frozen.apply(1, by_gradient=True)
    assert learning(classifier) == {0, 1, 2, 3, 4}
    classifier(torch.rand(4, 3, 32, 32)).sum().backward()
    frozen.drop_gradients()
    layers = classifier.layer_of_parameters()
    for name, parameter in classifier.backbone.named_parameters():
        assert (parameter.grad is None) == (layers[name] < 2), name
    frozen.apply(3, by_gradient=True)
    frozen.drop_gradients()
    assert any(p.grad is not None for p in classifier.backbone.parameters())


def test_more_layers_than_there_are_cannot_be_frozen() -> None:
    with pytest.raises(FerError, match=r"stage.freeze_blocks=5 of the 5 layers of test_resnet leaves none to train"):
        freezing(StageConfig(freeze_blocks=5, freeze_blocks_epochs=1))


def batches(epoch: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(epoch)
    labels = torch.randint(0, 7, (6,), generator=generator)
    return [
        Batch(torch.rand(6, 3, 32, 32, generator=generator), labels, torch.arange(6), torch.zeros(6, 0), epoch)
        for _ in range(3)
    ]


class Batches(lightning.LightningDataModule):
    """Batches that know their epoch."""

    def train_dataloader(self) -> DataLoader[Batch]:
        assert self.trainer is not None
        return DataLoader(batches(self.trainer.current_epoch), batch_size=None)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(batches(-1), batch_size=None)  # type: ignore[arg-type]


class Watch(lightning.Callback):
    """Copies the state of the backbone after each epoch; validates after each batch of training."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.modes: list[set[bool]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.modes.append({module.training for module in pl_module.classifier.backbone.modules()})

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.states.append({name: value.clone() for name, value in pl_module.classifier.backbone.state_dict().items()})


@pytest.mark.parametrize("by_gradient", [False, True])
@pytest.mark.parametrize("optimizer", [OptimizerName.adamw, OptimizerName.sgd])
def test_the_trainer_moves_nothing_that_is_frozen(
    monkeypatch: pytest.MonkeyPatch, optimizer: OptimizerName, *, by_gradient: bool
) -> None:
    apply = Freezing.apply
    monkeypatch.setattr(Freezing, "apply", lambda self, epoch, **_: apply(self, epoch, by_gradient=by_gradient))
    recipe = LearningRecipe(
        classifier=SPEC,
        class_counts=[10] * 7,
        steps_per_epoch=3,
        phases=[PhaseSpan(first_epoch=0, num_epochs=3, lr_ratio=1.0)],
        seed=0,
        loss=LossConfig(ramp_start_epoch=-1, ramp_end_epoch=-1),
        optimizer=OptimizerConfig(name=optimizer, lr=0.01, warmup_epochs=0, weight_decay=0.5, gradient_clip_norm=1.0),
        stage=StageConfig(freeze_backbone_epochs=1, freeze_blocks=2, freeze_blocks_epochs=2),
    )
    module, watch = TeacherModule(recipe=recipe.to_dict(), record={}, accumulate=1), Watch()
    start = {name: value.clone() for name, value in module.classifier.backbone.state_dict().items()}
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=3,
        val_check_interval=1,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[watch],
        logger=False,
        gradient_clip_val=1.0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=Batches())
    assert watch.modes == [{False}] * 3 + [{True, False}] * 3 + [{True}] * 3
    layers = module.classifier.layer_of_parameters()
    moved: dict[int, list[bool]] = {depth: [False] * 3 for depth in range(5)}
    for name, value in start.items():  # buffers lie where the weight beside them lies
        depth = layers[name] if name in layers else layers[f"{name.rsplit('.', 1)[0]}.weight"]
        moved[depth] = [
            before or not torch.equal(value, state[name])
            for before, state in zip(moved[depth], watch.states, strict=True)
        ]
    assert moved == {depth: [False, depth >= 2, True] for depth in range(5)}
