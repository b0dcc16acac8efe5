"""Measures the gradient norm of every optimizer step before clipping, summed up per epoch without waiting for the device."""

from typing import Any

import lightning
import torch
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from fer_lightning.runs import history
from fer_lightning.training.learner import LearnerModule


class GradientNorms(lightning.Callback):
    """L2 norm over all parameters together, of the gradient that the step follows; with SAM the second one.

    Norms that are not finite are left out: they belong to steps that a loss scaler skips. The sums travel in the
    checkpoint, so that an epoch that goes on after a kill has the figures of one that was not killed.

    Args:
        clip_norm: steps above it count as clipped; None: none is.
    """

    def __init__(self, clip_norm: float | None) -> None:
        self._limit = float("inf") if clip_norm is None else clip_norm
        self._sums = torch.zeros(3, dtype=torch.float64)  # norms, steps, clipped steps
        self._largest = torch.zeros((), dtype=torch.float64)
        self.last_norm = torch.zeros(())
        """Of the last step, on the device."""
        self.latest: history.GradientNorms | None = None
        """Of the epoch that has just ended; None where no step had a finite norm."""

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of the epoch so far as plain values."""
        return {"sums": self._sums.tolist(), "largest": float(self._largest)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the sums of the run being resumed."""
        self._sums = torch.tensor(state_dict["sums"], dtype=torch.float64)
        self._largest = torch.tensor(state_dict["largest"], dtype=torch.float64)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Bring the sums of an epoch that goes on to the device."""
        self._sums, self._largest = self._sums.to(pl_module.device), self._largest.to(pl_module.device)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the epoch's sums on the device."""
        self._sums, self._largest = torch.zeros_like(self._sums), torch.zeros_like(self._largest)

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: Optimizer
    ) -> None:
        """Add a step."""
        if not isinstance(pl_module, LearnerModule) or pl_module.ascending:
            return
        pl_module.freezing.drop_gradients()  # the module does so too, but only after the callbacks
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.last_norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        is_finite = self.last_norm.isfinite()
        norm = torch.where(is_finite, self.last_norm, 0).double()
        self._sums += torch.stack([norm, is_finite.double(), (norm > self._limit).double()])
        self._largest = torch.maximum(self._largest, norm)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Read the epoch's figures, once."""
        norms, steps, clipped = self._sums.tolist()
        self.latest = None
        if steps:
            self.latest = history.GradientNorms(
                mean=norms / steps, largest=float(self._largest), clipped_share=clipped / steps
            )
