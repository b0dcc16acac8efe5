"""The student's own logits of each row in the epoch before: what it teaches itself."""

from typing import Any

import torch
from torch import Tensor

from fer_lightning.labels import NUM_CLASSES
from fer_lightning.training.ranks import of_all_ranks


class OwnLogits:
    """One epoch's logits by row, and those of the epoch that is running.

    A row that the epoch before did not see has NaN; in the first epoch all have. Of a row that was seen more than once the
    last time counts, of several ranks the last one's. No module and no buffers: a weight average leaves it alone, and
    checkpoints hold it where a run goes on from them only.

    Reference: Kim et al., Self-Knowledge Distillation with Progressive Refinement of Targets,
    https://arxiv.org/abs/2006.12000. There the former epoch's targets are probabilities mixed with the label.

    Args:
        num_rows: of the manifest.
    """

    def __init__(self, num_rows: int) -> None:
        self._table = torch.full((num_rows, NUM_CLASSES), torch.nan)
        self._rows: list[Tensor] = []
        self._logits: list[Tensor] = []

    def of(self, rows: Tensor) -> Tensor:
        """Return the logits of the epoch before, as those of one teacher: (N, 1, 7) float32, NaN where there are none.

        Args:
            rows: (N,) int64 row numbers of the manifest; the table goes to their device and stays there.
        """
        self._table = self._table.to(rows.device)
        return self._table[rows].unsqueeze(1)

    def keep(self, rows: Tensor, logits: Tensor) -> None:
        """Keep a batch's logits for the next epoch; nothing waits for the device.

        Args:
            rows: (N,) int64 row numbers of the manifest.
            logits: (N, 7) float.
        """
        self._rows.append(rows)
        self._logits.append(logits.detach().float())

    def forget_epoch(self) -> None:
        """Drop what the running epoch has kept: its weights are no longer in use."""
        self._rows, self._logits = [], []

    def turn(self, *, world_size: int) -> None:
        """End an epoch: what all ranks have kept is the table now. One of which nothing was kept leaves the table as it was.

        Args:
            world_size: number of ranks; every rank calls this.
        """
        kept = of_all_ranks(self._kept(), world_size=world_size)
        self.forget_epoch()
        if not any(len(part["rows"]) for part in kept):
            return
        table = torch.full_like(self._table, torch.nan, device="cpu")
        for part in kept:
            table.numpy()[part["rows"].numpy()] = part["logits"].numpy()  # numpy settles which of two wins: the last
        self._table = table.to(self._table.device)

    def state(self, *, world_size: int) -> dict[str, Any]:
        """Return table and kept logits of all ranks, on the CPU; every rank calls this."""
        return {"table": self._table.cpu(), "kept": of_all_ranks(self._kept(), world_size=world_size)}

    def load_state(self, state: dict[str, Any], *, rank: int) -> None:
        """Take up what `state` returned."""
        own = state["kept"][rank]
        self._table, self._rows, self._logits = state["table"], [own["rows"]], [own["logits"]]

    def _kept(self) -> dict[str, Tensor]:
        """Return what this rank has kept in the running epoch."""
        rows, logits = torch.empty(0, dtype=torch.int64), torch.empty(0, NUM_CLASSES)
        return {
            "rows": torch.cat([rows, *(part.cpu() for part in self._rows)]),
            "logits": torch.cat([logits, *(part.cpu() for part in self._logits)]),
        }
