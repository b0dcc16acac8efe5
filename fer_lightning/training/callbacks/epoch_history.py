"""Keeps the run's history: one record per epoch, on disk and in the checkpoint."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
from pydantic import TypeAdapter
from torch.optim import Optimizer

from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.history import EpochRecord, History
from fer_lightning.training.callbacks.calibration_fitting import CalibrationFitting
from fer_lightning.training.callbacks.gradient_norms import GradientNorms
from fer_lightning.training.callbacks.reliability_metrics import ReliabilityMetrics
from fer_lightning.training.learner import LearnerModule
from fer_lightning.training.reliability import to_metrics

MONITOR = "val_raw.macro_f1"

_RECORDS = TypeAdapter(list[EpochRecord])


def best_record(records: Sequence[EpochRecord]) -> EpochRecord | None:
    """Return the record of the epoch that best.pt holds, None before the first."""
    return next((record for record in reversed(records) if record.is_best), None)


def learning_rates(optimizer: Optimizer) -> tuple[float, float]:
    """Return the largest rates of the backbone's and of the head's parameter groups."""
    backbone, head = (
        max(float(group["lr"]) for group in optimizer.param_groups if group["name"] == part)
        for part in ("backbone", "head")
    )
    return backbone, head


class EpochHistory(lightning.Callback):
    """`history.json`. Its records travel in the checkpoint: a resumed run goes on with the same history and best score.

    Args:
        path: the file.
        reliability: figures of the val pass.
        calibration: fit of the val pass.
        norms: gradient norms, where they are measured.
    """

    def __init__(
        self,
        path: Path,
        reliability: ReliabilityMetrics,
        calibration: CalibrationFitting,
        norms: GradientNorms | None = None,
    ) -> None:
        self._path = path
        self._reliability = reliability
        self._calibration = calibration
        self._norms = norms
        self.records: list[EpochRecord] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the records as plain values."""
        return {"records": [asdict(record) for record in self.records]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the records of the run being resumed."""
        self.records = _RECORDS.validate_python(state_dict["records"])

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Append the record of the epoch that has just ended and write the file."""
        raw, fit = self._reliability.raw, self._calibration.record
        if raw is None or fit is None or not isinstance(pl_module, LearnerModule):
            raise RuntimeError("a history needs a LearnerModule and a val pass in every epoch")
        best, scaled, epoch = best_record(self.records), self._reliability.scaled, trainer.current_epoch
        totals, ramp = pl_module.totals.over_ranks(trainer.world_size), pl_module.ramp()
        lr_backbone, lr_head = learning_rates(trainer.optimizers[0])
        closed = EpochRecord(
            epoch=epoch,
            phase=pl_module.freezing.phase(epoch),
            optimizer_steps=trainer.global_step,
            train_loss=totals.mean_loss,
            train_accuracy=totals.accuracy,
            margin_rad=ramp.margin_rad,
            scale=ramp.scale,
            lr_backbone=lr_backbone,
            lr_head=lr_head,
            row_coverage=trainer.train_dataloader.sampler.coverage(epoch),  # type: ignore[union-attr]
            lesson=pl_module.lesson(totals.mean_parts),
            gradient_norms=None if self._norms is None else self._norms.latest,
            calibration_temperature=fit.calibration_temperature,
            at_bound=fit.at_bound,
            val_raw=to_metrics(raw),
            val_scaled=None if scaled is None else to_metrics(scaled),
            is_best=best is None or raw.scores.macro_f1 > best.val_raw.macro_f1,
            rollback=None,
        )
        self.records.append(closed)
        self._write(trainer)

    def amend(self, record: EpochRecord, trainer: lightning.Trainer) -> None:
        """Put another record in the place of the last one, and write the file again."""
        self.records[-1] = record
        self._write(trainer)

    def _write(self, trainer: lightning.Trainer) -> None:
        if trainer.is_global_zero:
            write_artifact(self._path, History(monitor=MONITOR, epochs=self.records))
