"""Writes curves and pictures for TensorBoard: losses, metrics raw and scaled, margin, LR, throughput."""

from typing import Any

import lightning
from lightning.pytorch.loggers import TensorBoardLogger

from fer_lightning.reports.figures import confusion_matrix_figure, reliability_diagram_figure
from fer_lightning.runs.artifacts import Metrics
from fer_lightning.training.callbacks.epoch_history import EpochHistory
from fer_lightning.training.callbacks.throughput import Throughput
from fer_lightning.training.callbacks.val_predictions import ValPredictions
from fer_lightning.training.teacher import TeacherModule

_EVERY_BATCHES = 20
_SCALARS = ("accuracy", "macro_f1", "minority_f1", "nll", "ece", "brier")


class TensorBoardCurves(lightning.Callback):
    """Scalars by optimizer step; confusion matrix and reliability diagram of each epoch that is the best so far."""

    def __init__(
        self, logger: TensorBoardLogger, history: EpochHistory, throughput: Throughput, predictions: ValPredictions
    ) -> None:
        self._logger = logger
        self._history = history
        self._throughput = throughput
        self._predictions = predictions

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log loss and learning rate now and then; a read of the loss waits for the device."""
        if batch_idx % _EVERY_BATCHES == 0 and isinstance(pl_module, TeacherModule):
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            self._logger.log_metrics(
                {"train/loss": float(pl_module.last_loss), "train/lr": lr}, step=trainer.global_step
            )

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log the epoch that has just been recorded."""
        step = trainer.global_step
        record, timing = self._history.records[-1], self._throughput.timings[-1]
        scalars: dict[str, float] = {
            "epoch": record.epoch,
            "train/epoch_loss": record.train_loss,
            "train/margin_rad": record.margin_rad,
            "train/row_coverage": record.row_coverage,
            "val/calibration_temperature": record.calibration_temperature,
            "speed/images_per_second": timing.images_per_second,
            "speed/data_wait_share": timing.data_wait_share,
            **_scalars("val_raw", record.val_raw),
        }
        if record.val_scaled is not None:
            scalars |= _scalars("val_scaled", record.val_scaled)
        self._logger.log_metrics(scalars, step=step)
        if record.is_best:
            scored = self._predictions.latest()
            probs = scored.logits.double().softmax(1)
            board = self._logger.experiment
            board.add_figure("val/confusion", confusion_matrix_figure(probs.argmax(1), scored.labels), step)
            board.add_figure("val/reliability", reliability_diagram_figure(probs, scored.labels), step)


def _scalars(prefix: str, metrics: Metrics) -> dict[str, float]:
    per_class = {f"{prefix}_f1/{name}": value for name, value in metrics.per_class_f1.items()}
    return {f"{prefix}/{name}": getattr(metrics, name) for name in _SCALARS} | per_class
