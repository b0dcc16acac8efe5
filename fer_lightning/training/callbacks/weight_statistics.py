"""Writes weightstatistics.csv: one line per epoch and tensor of the network."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from fer_lightning.files import write_text_atomically
from fer_lightning.training.learner import LearnerModule

_COLUMNS = ("epoch", "tensor", "numel", "mean", "std", "min", "max", "l2")
_HEAD = ("neck.", "head.")


def _statistics(tensors: Iterable[Tensor]) -> list[list[float]]:
    """Return mean, population standard deviation, least, largest and L2 norm of each tensor, in float64; one copy."""
    rows = []
    for tensor in tensors:
        wide = tensor.detach().double()
        rows.append(torch.stack([wide.mean(), wide.std(correction=0), *wide.aminmax(), torch.linalg.vector_norm(wide)]))
    table: list[list[float]] = torch.stack(rows).tolist()
    return table


def _csv_text(lines: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


class WeightStatistics(lightning.Callback):
    """Describes weights and BatchNorm statistics as training left them after each epoch, not their average.

    The lines travel in the checkpoint: a resumed run writes those of the epochs it builds on, each once.

    Args:
        path: the CSV file.
        head_only: neck and head only.
    """

    def __init__(self, path: Path, *, head_only: bool) -> None:
        self._path = path
        self._head_only = head_only
        self._lines = ""

    def state_dict(self) -> dict[str, Any]:
        """Return the lines so far as one text."""
        return {"lines": self._lines}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the lines of the run being resumed."""
        self._lines = state_dict["lines"]

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Add the lines of the epoch that has just ended and write the file, on the first rank."""
        if not trainer.is_global_zero or not isinstance(pl_module, LearnerModule):
            return
        tensors = {
            name: tensor
            for name, tensor in pl_module.classifier.state_dict().items()
            if tensor.is_floating_point() and (name.startswith(_HEAD) or not self._head_only)
        }
        described = zip(tensors.items(), _statistics(tensors.values()), strict=True)
        self._lines += _csv_text(
            [trainer.current_epoch, name, tensor.numel(), *figures] for (name, tensor), figures in described
        )
        write_text_atomically(self._path, _csv_text([_COLUMNS]) + self._lines)
