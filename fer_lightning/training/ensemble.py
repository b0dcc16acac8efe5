"""The ensemble as a LightningModule: predicts and is tested."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

import lightning
import torch
from torch import Tensor

from fer_lightning.data.batches.augment import to_float
from fer_lightning.data.batches.dataset import Batch
from fer_lightning.data.datamodule import FerDataModule
from fer_lightning.errors import FerError
from fer_lightning.functional.reliability import ReliabilityReport
from fer_lightning.models.fused_classifier import FusedClassifier
from fer_lightning.runs.ensemble_network import read_ensemble_network
from fer_lightning.training.ranks import of_all_ranks
from fer_lightning.training.reliability import report_logits
from fer_lightning.training.scoring import ScoredRows, gather_rows

_NUM_BINS = 15


class EnsembleModule(lightning.LightningModule):
    """Computes an ensemble's logits from pictures, by the teachers that `ensemble.json` names.

    The teachers' network is no submodule: they follow the module to its device, and to nothing else. Nothing trains or
    averages them, puts them in train mode, or saves them into a checkpoint; they are read again from their own files,
    whose digests are compared. Under autocast their backbones follow it.

    Args:
        ensemble: folder of the ensemble, or its `ensemble.json`.
        ensemble_sha256: digest that this file must have; None: any. It is among the hyperparameters, so that a checkpoint
            is not loaded beside another ensemble.

    Raises:
        FerError: the ensemble is damaged, was replaced, or is no network; a teacher is gone or was replaced.
    """

    def __init__(self, ensemble: str, ensemble_sha256: str | None = None) -> None:
        super().__init__()
        read = read_ensemble_network(Path(ensemble), option="ensemble")
        if ensemble_sha256 not in {None, read.sha256}:
            raise FerError(
                f"ensemble: {read.path} is not the one recorded: its sha256 is {read.sha256[:12]}, "
                f"recorded {str(ensemble_sha256)[:12]}"
            )
        self.save_hyperparameters({"ensemble": ensemble, "ensemble_sha256": read.sha256}, logger=False)
        self.ensemble = read.ensemble
        self.canonical = read.canonical
        """The pictures it takes."""
        self.report: ReliabilityReport | None = None
        """Figures of the last finished test."""
        self._network = [read.build().requires_grad_(False)]  # in a list: no submodule
        self._parts: list[dict[str, Tensor]] = []

    @property
    def network(self) -> FusedClassifier:
        """The teachers and their fusion, always in evaluation mode."""
        return self._network[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Take the teachers along to another device."""
        self.network._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return cast("Self", super()._apply(fn, recurse))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """Return the ensemble's logits, without gradients; log-probabilities in the `prob` space.

        Args:
            pictures: (N, 3, S, S) float RGB in [0, 1], of canonical pictures as `canonical` says.

        Returns:
            (N, 7) float32.
        """
        return cast("Tensor", self.network(pictures))

    def _scored(self, batch: Batch) -> dict[str, Tensor]:
        """Score a batch, as the loader made it or as the DataModule hands it on."""
        pictures = batch.pictures if batch.pictures.is_floating_point() else to_float(batch.pictures)
        return {"logits": self(pictures), "labels": batch.labels, "rows": batch.rows}

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return row numbers of the manifest, logits and labels."""
        return self._scored(batch)

    def on_test_epoch_start(self) -> None:
        """Forget the last test."""
        self._parts = []

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep a batch's logits on the device."""
        self._parts.append(self._scored(batch))

    def _wanted(self, tested: Tensor) -> Tensor:
        """Return the rows to judge; of a loader that was given as such, those it holds."""
        data: Any = getattr(self.trainer, "datamodule", None)
        if isinstance(data, FerDataModule):
            return data.rows("test")
        of_all = torch.cat(of_all_ranks(tested, world_size=self.trainer.world_size))
        return torch.tensor(sorted(set(of_all.tolist())))

    def on_test_epoch_end(self) -> None:
        """Bring the rows of all ranks together, each once, and log accuracy, macro-F1 and NLL.

        Raises:
            RuntimeError: they are not the test rows of the DataModule, e.g. because Lightning was left to share out among ranks
                what the DataModule has shared out (`use_distributed_sampler`).
        """
        joined: dict[str, Any] = {
            name: torch.cat([part[name] for part in self._parts]).cpu() for name in ("logits", "labels", "rows")
        }
        self._parts = []
        world_size = self.trainer.world_size
        scored = gather_rows(ScoredRows(**joined), wanted=self._wanted(joined["rows"]), world_size=world_size)
        self.report = report_logits(scored.logits, scored.labels, num_bins=_NUM_BINS)
        figures = {
            "test/accuracy": self.report.scores.accuracy,
            "test/macro_f1": self.report.scores.macro_f1,
            "test/nll": self.report.nll,
        }
        self.log_dict(figures, sync_dist=True)  # of all ranks, which have the same figures
