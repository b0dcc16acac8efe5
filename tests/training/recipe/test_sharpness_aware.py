"""Sharpness-aware steps against steps written by hand, alone and inside the trainer."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from fer_lightning.data.batches.dataset import Batch
from fer_lightning.models.classifier import ClassifierSpec
from fer_lightning.training.callbacks.step_seed import StepSeed, seed_step
from fer_lightning.training.config import StageConfig
from fer_lightning.training.recipe.config import LossConfig, MixingConfig, OptimizerConfig, OptimizerName
from fer_lightning.training.recipe.learning_recipe import LearningRecipe, PhaseSpan
from fer_lightning.training.recipe.sharpness_aware import SharpnessAware, still_running_statistics
from fer_lightning.training.teacher import TeacherModule

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]

RHO = 0.4


def quadratic(weights: Tensor) -> Tensor:
    return (torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64) * weights**2).sum() / 2


def test_a_step_follows_the_gradient_at_the_worst_weights_nearby() -> None:
    weights = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    frozen = nn.Parameter(torch.ones(2, dtype=torch.float64))
    before = weights.detach().clone()
    base = torch.optim.SGD([weights, frozen], lr=0.1)
    optimizer = SharpnessAware(base, rho=RHO, second_gradient=nullcontext)
    seen: list[Tensor] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        seen.append(weights.detach().clone())
        loss = quadratic(weights)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    loss = optimizer.step(closure)
    curvature = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    first = curvature * before
    worst = before + RHO * first / first.pow(2).sum().sqrt()
    assert float(loss.detach()) == float(quadratic(before))
    assert torch.equal(seen[0], before)
    assert torch.allclose(seen[1], worst, atol=1e-12)
    assert torch.allclose(weights.detach(), before - 0.1 * curvature * worst, atol=1e-12)
    assert torch.equal(frozen.detach(), torch.ones(2, dtype=torch.float64))


def test_a_gradient_of_zero_moves_nothing() -> None:
    weights = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = SharpnessAware(torch.optim.SGD([weights], lr=0.1), rho=RHO, second_gradient=nullcontext)

    def closure() -> Tensor:
        loss = quadratic(weights)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)
    assert torch.equal(weights.detach(), torch.zeros(3, dtype=torch.float64))


def test_the_second_gradient_is_computed_inside_its_context_from_nothing() -> None:
    weights = nn.Parameter(torch.ones(3, dtype=torch.float64))
    events: list[str] = []

    @contextmanager
    def second() -> Iterator[None]:
        events.append("enter" if weights.grad is None else "enter with a gradient")
        yield
        events.append("leave")

    optimizer = SharpnessAware(torch.optim.SGD([weights], lr=0.1), rho=RHO, second_gradient=second)

    def closure() -> Tensor:
        events.append("closure")
        loss = quadratic(weights)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)
    assert events == ["closure", "enter", "closure", "leave"]


def test_a_step_without_a_closure_is_an_error() -> None:
    optimizer = SharpnessAware(
        torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0), rho=1, second_gradient=nullcontext
    )
    with pytest.raises(RuntimeError, match="two gradients"):
        optimizer.step()


def test_state_and_rates_are_those_of_the_wrapped_optimizer() -> None:
    def build(weights: nn.Parameter) -> tuple[SharpnessAware, torch.optim.Optimizer, LambdaLR]:
        base = torch.optim.AdamW([{"params": [weights], "name": "head"}], lr=1.0)
        optimizer = SharpnessAware(base, rho=RHO, second_gradient=nullcontext)
        return optimizer, base, LambdaLR(optimizer, lambda step: 0.5**step)

    def train(weights: nn.Parameter, optimizer: SharpnessAware, schedule: LambdaLR) -> None:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = quadratic(weights)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)
        schedule.step()

    weights = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer, base, schedule = build(weights)
    train(weights, optimizer, schedule)
    assert base.param_groups[0]["lr"] == 0.5
    state = deepcopy(optimizer.state_dict())
    assert state["param_groups"][0]["name"] == "head"
    other = nn.Parameter(weights.detach().clone())
    resumed, resumed_base, resumed_schedule = build(other)
    resumed.load_state_dict(state)
    resumed_schedule.load_state_dict(schedule.state_dict())
    assert resumed_base.param_groups[0]["lr"] == 0.5
    for _ in range(2):
        train(weights, optimizer, schedule)
        train(other, resumed, resumed_schedule)
    assert torch.equal(weights, other)
    assert resumed_base.param_groups[0]["lr"] == 0.125
    resumed.state.clear()
    assert not resumed_base.state


def test_running_statistics_stand_still_while_batch_statistics_count() -> None:
    norm = nn.BatchNorm1d(3)
    inputs = torch.randn(16, 3) * 5 + 2
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    expected = nn.BatchNorm1d(3)(inputs)
    with still_running_statistics(nn.Sequential(norm)):
        assert torch.equal(norm(inputs), expected)
    for name, value in norm.state_dict().items():
        assert torch.equal(value, before[name]), name
    norm(inputs)
    assert int(norm.state_dict()["num_batches_tracked"]) == 1


def teacher(*, accumulate: int, clip: float | None, frozen: int = 0, rho: float = RHO) -> TeacherModule:
    torch.manual_seed(0)
    recipe = LearningRecipe(
        classifier=ClassifierSpec(backbone="test_resnet", image_size=32, embedding_dim=16, dropout=0.3, scale=30.0),
        class_counts=[10] * 7,
        steps_per_epoch=-(-5 // accumulate),
        phases=[PhaseSpan(first_epoch=0, num_epochs=2, lr_ratio=1.0)],
        seed=3,
        loss=LossConfig(ramp_start_epoch=-1, ramp_end_epoch=-1),
        mixing=MixingConfig(mixup_alpha=0.5),
        optimizer=OptimizerConfig(
            name=OptimizerName.sgd, lr=0.05, warmup_epochs=0, sam_rho=rho, gradient_clip_norm=clip, weight_decay=0.01
        ),
        stage=StageConfig(freeze_backbone_epochs=frozen),
    )
    return TeacherModule(recipe=recipe.to_dict(), record={"schema_version": 1}, accumulate=accumulate)


def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(2)
    return [
        Batch(
            torch.rand(6, 3, 32, 32, generator=generator),
            torch.randint(0, 7, (6,), generator=generator),
            torch.arange(6),
            torch.zeros(6, 0),
            0,
        )
        for _ in range(5)
    ]


class GradientKinds(lightning.Callback):
    """Notes which gradients were announced as those of an ascent."""

    def __init__(self) -> None:
        self.ascending: list[bool] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.ascending.append(pl_module.ascending)


def loader(data: list[Batch]) -> DataLoader[Batch]:
    return DataLoader(data, batch_size=None)  # type: ignore[arg-type]


def train_with_lightning(
    module: TeacherModule, *, accumulate: int, clip: float | None, precision: Any
) -> GradientKinds:
    kinds = GradientKinds()
    trainer = lightning.Trainer(
        accelerator="cpu",
        precision=precision,
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=clip,
        callbacks=[StepSeed(3), kinds],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, loader(batches()), loader(batches()[:2]))
    return kinds


def loss_of(module: TeacherModule, data: Batch, index: int) -> Tensor:
    seed_step(3, epoch=0, batch_idx=index, rank=0)
    data = data._replace(pictures=data.pictures.to(next(module.parameters()).dtype))
    mixed = module._mixer.mix(data, batch_idx=index, rank=0)
    embeddings = module.classifier.embed(mixed.pictures)
    loss: Tensor = module.objective(module.classifier.scores(embeddings), embeddings, mixed, epoch=0)
    return loss


def train_by_hand(module: TeacherModule, *, accumulate: int, clip: float | None) -> None:
    """Algorithm 1 of the paper, one tensor at a time."""
    module.train()
    optimizer = torch.optim.SGD(
        [
            {"params": [p for p in module.parameters() if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in module.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        momentum=0.9,
        nesterov=True,
        lr=0.05,
    )
    data = batches()
    for number, start in enumerate(range(0, 5, accumulate)):
        indices = list(range(start, min(start + accumulate, 5)))
        for group in optimizer.param_groups:
            half_circle = torch.pi * number / (2 * -(-5 // accumulate))
            group["lr"] = 1e-5 + (0.05 - 1e-5) * 0.5 * (1 + float(torch.tensor(half_circle).double().cos()))
        optimizer.zero_grad()
        for index in indices:
            (loss_of(module, data[index], index) / len(indices)).backward()  # type: ignore[no-untyped-call]
        statistics = {name: value.clone() for name, value in module.named_buffers()}
        weights = {name: value.detach().clone() for name, value in module.named_parameters()}
        trained = {name: p for name, p in module.named_parameters() if p.grad is not None}
        norm = sum(float(p.grad.double().pow(2).sum()) for p in trained.values() if p.grad is not None) ** 0.5
        with torch.no_grad():
            for parameter in trained.values():
                assert parameter.grad is not None
                parameter.add_(RHO / norm * parameter.grad)
        optimizer.zero_grad()
        for index in indices:
            (loss_of(module, data[index], index) / len(indices)).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(weights[name])
            for name, value in module.named_buffers():
                value.copy_(statistics[name])
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()


@pytest.mark.parametrize(("accumulate", "clip"), [(1, None), (2, None), (2, 0.5), (3, 0.5)])
def test_the_trainer_takes_the_steps_of_the_paper(accumulate: int, clip: float | None) -> None:
    module, by_hand = (teacher(accumulate=accumulate, clip=clip) for _ in range(2))
    kinds = train_with_lightning(module, accumulate=accumulate, clip=clip, precision="64-true")
    train_by_hand(by_hand.double(), accumulate=accumulate, clip=clip)
    expected = by_hand.state_dict()
    for name, value in module.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-6, rtol=1e-6), name
    assert kinds.ascending == [True, False] * -(-5 // accumulate)
    assert module.totals.state()["rows"] == 5 * 6


def test_totals_are_those_of_the_first_pass() -> None:
    module, by_hand = (teacher(accumulate=5, clip=None) for _ in range(2))
    train_with_lightning(module, accumulate=5, clip=None, precision="32-true")
    by_hand.train()
    losses = [float(loss_of(by_hand, data, index).detach()) for index, data in enumerate(batches())]
    assert module.totals.mean_loss == pytest.approx(sum(losses) / 5, rel=1e-5)
    assert float(module.last_loss) == pytest.approx(losses[-1], rel=1e-5)


def test_a_frozen_backbone_does_not_move_and_is_no_part_of_the_ascent() -> None:
    module, start = (teacher(accumulate=2, clip=None, frozen=1) for _ in range(2))
    train_with_lightning(module, accumulate=2, clip=None, precision="32-true")
    before = start.state_dict()
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("classifier.backbone."), name


def test_bf16_draws_the_same_dropout_in_both_passes() -> None:
    """With a radius that is 0 in float32 both passes give one gradient: the steps are those without SAM."""
    module = teacher(accumulate=2, clip=1.0, rho=1e-60)
    plain = teacher(accumulate=2, clip=1.0, rho=0.0)
    kinds = train_with_lightning(module, accumulate=2, clip=1.0, precision="bf16-mixed")
    plain_kinds = train_with_lightning(plain, accumulate=2, clip=1.0, precision="bf16-mixed")
    expected = plain.state_dict()
    for name, value in module.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert kinds.ascending == [True, False] * 3
    assert plain_kinds.ascending == [False] * 3
