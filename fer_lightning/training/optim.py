"""Optimizers of the documents, and their schedule by optimizer step."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fer_lightning.functional.schedules import warmup_cosine
from fer_lightning.training.config import OptimizerConfig, OptimizerName


def parameter_groups(module: nn.Module, *, weight_decay: float) -> list[dict[str, object]]:
    """Split trained parameters into decayed weights and undecayed biases and normalisation parameters."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
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
            return torch.optim.AdamW(groups, lr=config.lr, fused=on_gpu)
        case OptimizerName.adamw_safe:
            return torch.optim.AdamW(groups, lr=config.lr, fused=False, foreach=False)
        case OptimizerName.sgd:
            return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)


def make_schedule(optimizer: Optimizer, config: OptimizerConfig, *, steps_per_epoch: int, total_steps: int) -> LambdaLR:
    """Build the schedule: linear warm-up, then cosine to `min_lr`, stepped after each optimizer step."""
    warmup_steps = min(round(config.warmup_epochs * steps_per_epoch), total_steps - 1)

    def factor(step: int) -> float:
        lr = warmup_cosine(
            step, base_lr=config.lr, min_lr=config.min_lr, warmup_steps=warmup_steps, total_steps=total_steps
        )
        return lr / config.lr

    return LambdaLR(optimizer, factor)
