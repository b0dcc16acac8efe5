"""Optimizers and the schedule by optimizer step."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fer_lightning.functional.schedules import warmup_cosine
from fer_lightning.models.classifier import ClassifierSpec
from fer_lightning.training.recipe.config import OptimizerConfig, OptimizerName
from fer_lightning.training.recipe.learning_recipe import LearningRecipe, PhaseSpan
from fer_lightning.training.recipe.optim import (
    decayed_parameters,
    make_optimizer,
    make_schedule,
    parameter_groups,
    set_rates,
)
from fer_lightning.training.teacher import TeacherModule

Rate = tuple[str, float, float]


class Net(nn.Module):
    """A backbone of three layers and a head; sizes tell parameters apart."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 3)
        self.first = nn.Linear(3, 4)
        self.second = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
        self.head = nn.Linear(5, 7)


LAYERS = {
    "stem.weight": 0,
    "stem.bias": 0,
    "first.weight": 1,
    "first.bias": 1,
    "second.0.weight": 2,
    "second.0.bias": 2,
    "second.1.weight": 2,
    "second.1.bias": 2,
}


def rates(config: OptimizerConfig) -> dict[Rate, set[str]]:
    """Return the names of the parameters of each (name, lr, weight decay)."""
    net = Net()
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    groups: list[dict[str, Any]] = parameter_groups(
        net, config, backbone_layers=LAYERS, decayed=decayed_parameters(net)
    )
    found = {
        (group["name"], group["lr"], group["weight_decay"]): {names[id(p)] for p in group["params"]} for group in groups
    }
    assert len(found) == len(groups)
    return found


def test_biases_and_normalisation_are_not_decayed() -> None:
    found = rates(OptimizerConfig(lr=1.0, weight_decay=0.1))
    assert found == {
        ("head", 1.0, 0.1): {"head.weight"},
        ("head", 1.0, 0.0): {"head.bias"},
        ("backbone", 1.0, 0.1): {"stem.weight", "first.weight", "second.0.weight"},
        ("backbone", 1.0, 0.0): {"stem.bias", "first.bias", "second.0.bias", "second.1.weight", "second.1.bias"},
    }


def test_the_backbone_has_its_own_rate() -> None:
    found = rates(OptimizerConfig(lr=1.0, backbone_lr=0.25, weight_decay=0.1))
    assert sorted(found) == [
        ("backbone", 0.25, 0.0),
        ("backbone", 0.25, 0.1),
        ("head", 1.0, 0.0),
        ("head", 1.0, 0.1),
    ]


def test_each_layer_learns_slower_than_the_next() -> None:
    found = rates(OptimizerConfig(lr=1.0, backbone_lr=0.5, layer_decay=0.5, weight_decay=0.1))
    assert found[("backbone", 0.5, 0.1)] == {"second.0.weight"}
    assert found[("backbone", 0.5, 0.0)] == {"second.0.bias", "second.1.weight", "second.1.bias"}
    assert found[("backbone", 0.25, 0.1)] == {"first.weight"}
    assert found[("backbone", 0.125, 0.0)] == {"stem.bias"}
    assert len(found) == 8


def test_a_teacher_groups_every_parameter_once() -> None:
    def groups(optimizer: OptimizerConfig) -> list[dict[str, Any]]:
        recipe = LearningRecipe(
            classifier=ClassifierSpec(backbone="test_resnet", image_size=32, embedding_dim=8, dropout=0.0, scale=30.0),
            class_counts=[1] * 7,
            steps_per_epoch=1,
            phases=[PhaseSpan(first_epoch=0, num_epochs=1, lr_ratio=1.0)],
            seed=0,
            optimizer=optimizer,
        )
        module = TeacherModule(recipe=recipe.to_dict(), record={}, accumulate=1)
        built: Optimizer = module.configure_optimizers()["optimizer"]
        grouped = [id(p) for group in built.param_groups for p in group["params"]]
        assert sorted(grouped) == sorted(id(p) for p in module.parameters())
        sizes = dict.fromkeys(("backbone", "head"), 0)
        for group in built.param_groups:
            sizes[group["name"]] += len(group["params"])
        assert sizes["backbone"] == len(list(module.classifier.backbone.parameters()))
        return built.param_groups

    assert len(groups(OptimizerConfig())) == 4
    layered = groups(OptimizerConfig(layer_decay=0.5, sam_rho=0.05))
    backbone = sorted({group["initial_lr"] for group in layered if group["name"] == "backbone"})
    assert backbone == pytest.approx([3e-4 * 0.5**power for power in (4, 3, 2, 1, 0)])


def groups_of_one(lr: float | None = None) -> list[dict[str, object]]:
    group: dict[str, object] = {"params": [nn.Parameter(torch.zeros(2))]}
    return [group if lr is None else {**group, "lr": lr}]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (OptimizerName.adamw, torch.optim.AdamW),
        (OptimizerName.adamw_safe, torch.optim.AdamW),
        (OptimizerName.sgd, torch.optim.SGD),
    ],
)
def test_each_optimizer_is_built_with_its_rate(name: OptimizerName, kind: type) -> None:
    optimizer = make_optimizer(groups_of_one(), OptimizerConfig(name=name, lr=0.01), on_gpu=False)
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == 0.01
    if name is OptimizerName.adamw_safe:
        assert (optimizer.defaults["fused"], optimizer.defaults["foreach"]) == (False, False)


def test_schedule_warms_up_falls_to_the_floor_and_stays_there() -> None:
    config = OptimizerConfig(lr=1.0, min_lr=0.1, warmup_epochs=2)
    optimizer = make_optimizer(groups_of_one(), config, on_gpu=False)
    schedule = make_schedule(
        optimizer, config, phases=[PhaseSpan(first_epoch=0, num_epochs=6, lr_ratio=1.0)], steps_per_epoch=2
    )
    rates = []
    for _ in range(16):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    expected = [(step + 1) / 4 for step in range(4)]
    expected += [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 4) / 8)) for step in range(4, 12)]
    assert rates[:12] == pytest.approx(expected)
    assert rates[12:] == pytest.approx([0.1] * 4)


def test_a_warm_up_longer_than_the_run_still_leaves_a_step() -> None:
    config = OptimizerConfig(warmup_epochs=10)
    optimizer = make_optimizer(groups_of_one(), config, on_gpu=False)
    make_schedule(optimizer, config, phases=[PhaseSpan(first_epoch=0, num_epochs=2, lr_ratio=1.0)], steps_per_epoch=1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(config.lr)


def scheduled(
    config: OptimizerConfig, phases: list[PhaseSpan], *, lr: float | None = None, steps_per_epoch: int = 2
) -> tuple[Optimizer, LambdaLR]:
    optimizer = make_optimizer(groups_of_one(lr), config, on_gpu=False)
    return optimizer, make_schedule(optimizer, config, phases=phases, steps_per_epoch=steps_per_epoch)


def walk(optimizer: Optimizer, schedule: LambdaLR, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


FIRST = PhaseSpan(first_epoch=0, num_epochs=6, lr_ratio=1.0)
POLISH = [
    FIRST,
    PhaseSpan(first_epoch=6, num_epochs=2, lr_ratio=0.2),
    PhaseSpan(first_epoch=8, num_epochs=1, lr_ratio=0.3),
]


def test_each_later_phase_starts_a_cosine_of_its_own_without_warm_up() -> None:
    config = OptimizerConfig(lr=1.0, min_lr=0.1, warmup_epochs=2)
    rates = walk(*scheduled(config, POLISH), steps=20)
    assert rates[:12] == pytest.approx(walk(*scheduled(config, [FIRST]), steps=12))
    polish = [warmup_cosine(step, base_lr=0.2, min_lr=0.1, warmup_steps=0, total_steps=4) for step in range(4)]
    assert rates[12:16] == pytest.approx(polish)
    assert rates[12] == pytest.approx(0.2)
    assert rates[16:] == pytest.approx([0.3, 0.2, 0.1, 0.1])


def test_a_phase_below_the_floor_stays_where_it_starts() -> None:
    config = OptimizerConfig(lr=1.0, min_lr=0.1, warmup_epochs=0)
    phases = [
        PhaseSpan(first_epoch=0, num_epochs=1, lr_ratio=1.0),
        PhaseSpan(first_epoch=1, num_epochs=1, lr_ratio=0.05),
    ]
    assert walk(*scheduled(config, phases), steps=5)[2:] == pytest.approx([0.05] * 3)


def test_the_floor_of_a_slower_group_is_as_much_lower() -> None:
    config = OptimizerConfig(lr=1.0, min_lr=0.1, warmup_epochs=1)
    plain, slow = (walk(*scheduled(config, [FIRST], lr=lr), steps=14) for lr in (1.0, 0.25))
    assert slow == pytest.approx([rate / 4 for rate in plain])


def test_a_lowered_factor_counts_from_the_next_step_once_rates_are_set() -> None:
    factor = [1.0]
    config = OptimizerConfig(lr=1.0, min_lr=0.1, warmup_epochs=0)
    optimizer = make_optimizer(groups_of_one(), config, on_gpu=False)
    schedule = make_schedule(optimizer, config, phases=[FIRST], steps_per_epoch=2, lr_factor=lambda: factor[0])
    plain = walk(*scheduled(config, [FIRST]), steps=6)
    assert walk(optimizer, schedule, steps=3) == plain[:3]
    set_rates(optimizer, schedule)
    assert optimizer.param_groups[0]["lr"] == plain[3]
    factor[0] = 0.5
    set_rates(optimizer, schedule)
    assert walk(optimizer, schedule, steps=3) == pytest.approx([rate / 2 for rate in plain[3:]])


def test_extra_epochs_of_a_finished_run_start_at_their_own_rate() -> None:
    """The rates saved after the last step are those of the end; the first extra step must not take them."""
    config = OptimizerConfig(lr=1.0, min_lr=0.1, warmup_epochs=0)
    finished, old = scheduled(config, [FIRST])
    walk(finished, old, steps=12)
    optimizer, schedule = scheduled(config, POLISH)
    optimizer.load_state_dict(finished.state_dict())
    schedule.load_state_dict(old.state_dict())
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    set_rates(optimizer, schedule)
    assert walk(optimizer, schedule, steps=8) == walk(*scheduled(config, POLISH), steps=20)[12:]


def test_gradients_are_unscaled_before_a_fused_step() -> None:
    """Lightning asks this mark; see the comment where it is set."""
    for clip in (1.0, None):
        config = OptimizerConfig(gradient_clip_norm=clip)
        optimizer = make_optimizer(groups_of_one(), config, on_gpu=True)
        assert optimizer._step_supports_amp_scaling is False  # type: ignore[attr-defined]


def test_what_a_part_exempts_is_not_decayed() -> None:
    class Part(nn.Linear):
        def no_weight_decay(self) -> set[str]:
            return {"weight"}

    module = nn.ModuleDict({"exempt": Part(2, 2), "plain": nn.Linear(2, 2)})
    assert decayed_parameters(module) == {"plain.weight"}
    assert decayed_parameters(Part(2, 2)) == set()
