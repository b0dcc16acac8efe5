"""Loss and accuracy of an epoch's batches, summed on the device."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fer_lightning.training.ranks import of_all_ranks


class EpochTotals:
    """Loss and accuracy of an epoch's batches so far: no step waits for them.

    Args:
        device: of the sums.
        num_parts: parts of the loss that are summed by themselves.
    """

    def __init__(self, device: torch.device | None = None, *, num_parts: int = 0) -> None:
        self._sums = torch.zeros(3 + num_parts, dtype=torch.float64, device=device)  # losses, batches, right, parts
        self._num_rows = 0

    def add(self, loss: Tensor, num_right: Tensor, num_rows: int, parts: Sequence[Tensor] = ()) -> None:
        """Count a batch."""
        one = torch.ones_like(loss, dtype=torch.float64)
        self._sums += torch.stack([loss.double(), one, num_right.double(), *(part.double() for part in parts)])
        self._num_rows += num_rows

    @property
    def mean_loss(self) -> float:
        """Mean loss of the batches; waits for the device."""
        return float(self._sums[0] / self._sums[1].clamp(min=1))

    @property
    def mean_parts(self) -> list[float]:
        """Mean of each part of the loss; waits for the device."""
        means: list[float] = (self._sums[3:] / self._sums[1].clamp(min=1)).tolist()
        return means

    @property
    def accuracy(self) -> float:
        """Share of rows whose highest score is their label (of mixed rows: that of their larger share)."""
        return float(self._sums[2]) / max(self._num_rows, 1)

    def state(self) -> dict[str, Any]:
        """Return plain values."""
        return {"sums": self._sums.tolist(), "rows": self._num_rows}

    def over_ranks(self, world_size: int) -> "EpochTotals":
        """Return the totals of all ranks together; every rank calls this."""
        together = EpochTotals(num_parts=len(self._sums) - 3)
        for state in of_all_ranks(self.state(), world_size=world_size):
            together._sums += torch.tensor(state["sums"], dtype=torch.float64)
            together._num_rows += state["rows"]
        return together

    @classmethod
    def of(cls, state: dict[str, Any], device: torch.device) -> "EpochTotals":
        """Return the totals of `state`."""
        totals = cls(device, num_parts=len(state["sums"]) - 3)
        totals._sums += torch.tensor(state["sums"], dtype=torch.float64).to(device)
        totals._num_rows = state["rows"]
        return totals
