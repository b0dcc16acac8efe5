"""Judges the val predictions after each val pass: raw, and cross-fitted after calibration."""

import lightning
from torch import Tensor

from fer_lightning.functional.reliability import ReliabilityReport
from fer_lightning.training.callbacks.val_predictions import ValPredictions
from fer_lightning.training.config import CalibrationConfig
from fer_lightning.training.reliability import cross_fit, report_logits


class ReliabilityMetrics(lightning.Callback):
    """Accuracy, F1, NLL, ECE and Brier of the last val pass."""

    def __init__(self, predictions: ValPredictions, folds: Tensor, config: CalibrationConfig) -> None:
        self._predictions = predictions
        self._folds = folds
        self._config = config
        self.raw: ReliabilityReport | None = None
        self.scaled: ReliabilityReport | None = None

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Judge the pass that has just ended."""
        scored = self._predictions.latest()
        self.raw = report_logits(scored.logits, scored.labels, num_bins=self._config.num_bins)
        self.scaled = cross_fit(scored.logits, scored.labels, self._folds, self._config)
