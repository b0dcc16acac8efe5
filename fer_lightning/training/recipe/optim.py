"""Parameter groups, optimizers of the documents, and their schedule by optimizer step."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fer_lightning.functional.schedules import warmup_cosine
from fer_lightning.training.recipe.config import OptimizerConfig, OptimizerName
from fer_lightning.training.recipe.learning_recipe import PhaseSpan


def decayed_parameters(module: nn.Module) -> set[str]:
    """Return the names of parameters that weight decay is for.

    Those are all but biases, normalisation parameters and what a part of the module names in `no_weight_decay()`, as
    timm's transformers do for their position embeddings. Ask before a strategy wraps the module: FSDP flattens what it
    shares out, and no shape is left to tell by.
    """
    exempt = set()
    for path, part in module.named_modules():
        if callable(getattr(part, "no_weight_decay", None)):
            exempt |= {f"{path}.{name}" if path else name for name in part.no_weight_decay()}
    return {name for name, parameter in module.named_parameters() if parameter.ndim > 1} - exempt


def parameter_groups(
    module: nn.Module, config: OptimizerConfig, *, backbone_layers: Mapping[str, int], decayed: Collection[str]
) -> list[dict[str, object]]:
    """Group parameters by learning rate (head, and layers of the backbone) and by whether they are decayed.

    The deepest layer of the backbone learns at `backbone_lr` (unset: `lr`), each other one at `layer_decay` times the
    next one's rate.

    Args:
        module: whose parameters are optimized.
        config: rates and decay.
        backbone_layers: depth of the backbone's parameters by their name in the module; all others belong to the head.
        decayed: names of `decayed_parameters`.

    Returns:
        Groups for a torch optimizer, each with a `name`, `head` or `backbone`; with a layer decay of 1 at most four.
    """
    deepest = max(backbone_layers.values(), default=0)
    groups: dict[tuple[str, float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        part, lr = "head", config.lr
        if name in backbone_layers:
            ratio = config.layer_decay ** (deepest - backbone_layers[name])
            part, lr = "backbone", (config.backbone_lr or config.lr) * ratio
        decay = config.weight_decay if name in decayed else 0.0
        groups.setdefault((part, lr, decay), []).append(parameter)
    return [
        {"params": parameters, "name": part, "lr": lr, "weight_decay": decay}
        for (part, lr, decay), parameters in sorted(groups.items(), key=lambda group: group[0], reverse=True)
    ]


def make_optimizer(groups: Iterable[dict[str, object]], config: OptimizerConfig, *, on_gpu: bool) -> Optimizer:
    """Build an optimizer.

    Args:
        groups: parameter groups.
        config: which optimizer, with which rates.
        on_gpu: fused kernels are used there; `adamw_safe` never uses fused or foreach kernels.
    """
    match config.name:
        case OptimizerName.adamw:
            optimizer: Optimizer = torch.optim.AdamW(groups, lr=config.lr, fused=on_gpu)
        case OptimizerName.adamw_safe:
            optimizer = torch.optim.AdamW(groups, lr=config.lr, fused=False, foreach=False)
        case OptimizerName.sgd:
            optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    # A fused step unscales fp16 gradients by itself, after they were measured and clipped; Lightning refuses to clip
    # before one, at any precision. With this mark the gradients are unscaled first.
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


def make_schedule(
    optimizer: Optimizer,
    config: OptimizerConfig,
    *,
    phases: Sequence[PhaseSpan],
    steps_per_epoch: int,
    lr_factor: Callable[[], float] = lambda: 1.0,
) -> LambdaLR:
    """Build the schedule, stepped after each optimizer step: the factor by which every group's rate is multiplied.

    The first phase warms up linearly, then falls by a cosine to `min_lr`; each later one starts a cosine of its own at
    its `lr_ratio`. `min_lr` is that of a group at `lr`; a group at half that rate ends at half of it. A phase that
    starts below `min_lr` stays where it starts. After the last phase the rate is that of its end.

    Args:
        optimizer: whose groups' rates are multiplied.
        config: rates and warm-up.
        phases: spans of epochs, in order, without gaps.
        steps_per_epoch: optimizer steps.
        lr_factor: multiplies every rate; asked at each step.
    """

    def factor(step: int) -> float:
        phase = [span for span in phases if span.first_epoch * steps_per_epoch <= step][-1]
        total_steps = steps_per_epoch * phase.num_epochs
        warmup_epochs = 0.0 if phase.first_epoch else config.warmup_epochs
        lr = warmup_cosine(
            step - phase.first_epoch * steps_per_epoch,
            base_lr=config.lr * phase.lr_ratio,
            min_lr=min(config.min_lr, config.lr * phase.lr_ratio),
            warmup_steps=min(round(warmup_epochs * steps_per_epoch), total_steps - 1),
            total_steps=total_steps,
        )
        return lr / config.lr * lr_factor()

    return LambdaLR(optimizer, factor)


def set_rates(optimizer: Optimizer, schedule: LambdaLR) -> None:
    """Give every group the rate of its next step, as `schedule` knows it now.

    A schedule sets rates after each step only: one that has changed since (a new phase, a lowered factor) would show
    one step late.
    """
    for group, base_lr, factor in zip(optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = base_lr * factor(schedule.last_epoch)
