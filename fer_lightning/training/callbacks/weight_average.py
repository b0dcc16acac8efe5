"""Keeps an exponential moving average of the weights, which is what is judged, saved and deployed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn

from fer_lightning.training.learner import LearnerModule


class WeightAverage(WeightAveraging):
    """Moves the average by the current weights after each optimizer step: average <- d average + (1 - d) weights.

    After n earlier steps d = min(decay, (1 + n) / (10 + n)), so that the random start is soon forgotten. Every tensor
    of the module is averaged: weights, BatchNorm statistics, class centers; counts are copied. The average has the
    precision of the weights, float32 also under autocast, and stays on the training device. Checkpoints hold it as
    `state_dict`; what only a resumed run needs, the current weights, is `current_model_state`.

    Args:
        decay: in (0, 1).
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self._current: list[Tensor] = []

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Start the average at the starting weights."""
        self._device = trainer.strategy.root_device  # the module itself is moved there only later
        super().setup(trainer, pl_module, stage)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the average, if this batch completed an optimizer step; nothing waits for the device."""
        num_before = self._latest_update_step
        if trainer.global_step == num_before:
            return
        decay = min(self._decay, (1 + num_before) / (10 + num_before))
        pairs = list(zip(_tensors(self._average), _tensors(pl_module), strict=True))
        moving = [(average, weights) for average, weights in pairs if average.is_floating_point()]
        averages = [average for average, _ in moving]
        torch._foreach_lerp_(averages, [weights.to(average.dtype) for average, weights in moving], 1 - decay)
        for count, current in ((a, w) for a, w in pairs if not a.is_floating_point()):
            count.copy_(current)
        self._latest_update_step = trainer.global_step

    def on_validation_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Judge the average."""
        self._put_in_place(pl_module)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Go on from the current weights."""
        self._take_out(pl_module)

    @contextmanager
    def in_place(self, pl_module: lightning.LightningModule) -> Iterator[None]:
        """Give the module the averaged weights for a while."""
        self._put_in_place(pl_module)
        yield
        self._take_out(pl_module)

    def restore(self, pl_module: LearnerModule, state_dict: Mapping[str, Any]) -> None:
        """Roll current weights and average back to the same earlier weights.

        Args:
            pl_module: the module.
            state_dict: of the module, from a checkpoint of this run.
        """
        pl_module.roll_back(state_dict)
        self._average.load_state_dict(state_dict)

    @property
    def _average(self) -> nn.Module:
        if self._average_model is None:
            raise RuntimeError("there is no weight average before training starts")
        return self._average_model.module

    @torch.no_grad()
    def _put_in_place(self, pl_module: nn.Module) -> None:
        self._current = [tensor.clone() for tensor in _tensors(pl_module)]
        _copy(list(_tensors(self._average)), pl_module)

    @torch.no_grad()
    def _take_out(self, pl_module: nn.Module) -> None:
        _copy(self._current, pl_module)
        self._current = []


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())


def _copy(values: list[Tensor], module: nn.Module) -> None:
    for tensor, value in zip(_tensors(module), values, strict=True):
        tensor.copy_(value)
