"""Fits the calibration temperature on the val rows after each val pass."""

import logging

import lightning

from fer_lightning.runs.artifacts import TemperatureRecord
from fer_lightning.training.callbacks.val_predictions import ValPredictions
from fer_lightning.training.config import CalibrationConfig
from fer_lightning.training.reliability import RowSetIdentity, fit_record

log = logging.getLogger(__name__)


class TemperatureFitting(lightning.Callback):
    """The exact minimum of the val NLL, with wide bounds; a temperature at a bound is said aloud."""

    def __init__(self, predictions: ValPredictions, rows: RowSetIdentity, config: CalibrationConfig) -> None:
        self._predictions = predictions
        self._rows = rows
        self._config = config
        self.record: TemperatureRecord | None = None
        """Fit of the last finished val pass."""

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Fit on the pass that has just ended."""
        scored = self._predictions.latest()
        self.record = fit_record(scored.logits, scored.labels, self._rows, self._config)
        if self.record.at_bound:
            log.warning(
                "the best temperature lies outside the search bounds: %g is the bound, not an optimum",
                self.record.calibration_temperature,
            )
