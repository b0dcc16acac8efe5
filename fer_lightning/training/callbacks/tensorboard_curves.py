"""Writes curves and pictures for TensorBoard: losses, metrics raw and scaled, margin, LRs, gradient norm, throughput, rollbacks."""

from typing import Any

import lightning
from lightning.pytorch.loggers import TensorBoardLogger

from fer_lightning.reports.figures import confusion_matrix_figure, reliability_diagram_figure
from fer_lightning.runs.artifacts import Metrics
from fer_lightning.runs.history import EpochRecord
from fer_lightning.training.callbacks.epoch_history import EpochHistory, learning_rates
from fer_lightning.training.callbacks.gradient_norms import GradientNorms
from fer_lightning.training.callbacks.throughput import Throughput
from fer_lightning.training.callbacks.val_predictions import ValPredictions
from fer_lightning.training.learner import LearnerModule

_EVERY_BATCHES = 20
_SCALARS = ("accuracy", "macro_f1", "minority_f1", "nll", "ece", "brier")


class TensorBoardCurves(lightning.Callback):
    """Scalars by optimizer step; confusion matrix and reliability diagram of each epoch that is the best so far.

    Args:
        logger: that writes them; on the first rank only.
        history: of the run.
        throughput: of the same epochs.
        predictions: of the last val pass.
        norms: gradient norms, where they are measured.
    """

    def __init__(
        self,
        logger: TensorBoardLogger,
        history: EpochHistory,
        throughput: Throughput,
        predictions: ValPredictions,
        norms: GradientNorms | None = None,
    ) -> None:
        self._logger = logger
        self._history = history
        self._throughput = throughput
        self._predictions = predictions
        self._norms = norms

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log loss, learning rates and gradient norm now and then; to read them is to wait for the device."""
        if batch_idx % _EVERY_BATCHES or not isinstance(pl_module, LearnerModule):
            return
        lr_backbone, lr_head = learning_rates(trainer.optimizers[0])
        scalars = {
            "train/loss": float(pl_module.last_loss),
            "train/lr_backbone": lr_backbone,
            "train/lr_head": lr_head,
        }
        if self._norms is not None:
            scalars["train/gradient_norm"] = float(self._norms.last_norm)
        self._logger.log_metrics(scalars, step=trainer.global_step)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log the epoch that has just been recorded."""
        step = trainer.global_step
        record, timing = self._history.records[-1], self._throughput.timings[-1]
        board = self._logger.experiment
        scalars = {
            **_epoch_scalars(record),
            "train/rollbacks": sum(past.rollback is not None for past in self._history.records),
            "speed/images_per_second": timing.images_per_second,
            "speed/data_wait_share": timing.data_wait_share,
        }
        self._logger.log_metrics(scalars, step=step)
        if record.rollback is not None:
            board.add_text("train/rollback", f"epoch {record.epoch + 1}: {record.rollback.reason}", step)
        if record.is_best:
            scored = self._predictions.latest()
            probs = scored.logits.double().softmax(1)
            board.add_figure("val/confusion", confusion_matrix_figure(probs.argmax(1), scored.labels), step)
            board.add_figure("val/reliability", reliability_diagram_figure(probs, scored.labels), step)


def _epoch_scalars(record: EpochRecord) -> dict[str, float]:
    scalars = {
        "epoch": record.epoch,
        "train/epoch_loss": record.train_loss,
        "train/epoch_accuracy": record.train_accuracy,
        "train/margin_rad": record.margin_rad,
        "train/scale": record.scale,
        "train/row_coverage": record.row_coverage,
        **_scalars("val_raw", record.val_raw),
    }
    if record.calibration_temperature is not None:
        scalars["val/calibration_temperature"] = record.calibration_temperature
    if record.val_scaled is not None:
        scalars |= _scalars("val_scaled", record.val_scaled)
    if record.lesson is not None:
        lesson = {name: value for name, value in vars(record.lesson).items() if value is not None}
        scalars |= {f"lesson/{name}": value for name, value in lesson.items()}
    if record.gradient_norms is not None:
        norms = record.gradient_norms
        scalars |= {"train/gradient_norm_mean": norms.mean, "train/gradient_norm_largest": norms.largest}
        scalars["train/clipped_share"] = norms.clipped_share
    return scalars


def _scalars(prefix: str, metrics: Metrics) -> dict[str, float]:
    per_class = {f"{prefix}_f1/{name}": value for name, value in metrics.per_class_f1.items()}
    return {f"{prefix}/{name}": getattr(metrics, name) for name in _SCALARS} | per_class
