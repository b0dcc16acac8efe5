"""Ends a run whose val macro-F1 has stopped rising; best.pt stays what it is, however early its epoch."""

import logging
from collections.abc import Sequence

import lightning

from fer_lightning.runs.history import EpochRecord
from fer_lightning.training.callbacks.epoch_history import EpochHistory, best_record
from fer_lightning.training.learner import LearnerModule

log = logging.getLogger(__name__)

_FROZEN = ("head", "late blocks")


def epochs_without_gain(records: Sequence[EpochRecord], *, first_epoch: int = 0) -> int:
    """Return how many epochs the best one is ago, as patience counts them.

    Epochs in which a part of the backbone was frozen do not count: what they reach says little about what the whole
    network will. Epochs that were rolled back do.

    Args:
        records: the history.
        first_epoch: of the run's last phase; extra epochs get the whole patience again.
    """
    best = best_record(records)
    counted = [record.epoch for record in records if record.epoch >= first_epoch and record.phase not in _FROZEN]
    return sum(best is not None and epoch > best.epoch for epoch in counted)


class EarlyStopping(lightning.Callback):
    """Decides by the history alone, also at the start: a run killed after its last epoch is over when it is resumed.

    Comes after the history and whoever amends it.

    Args:
        history: of the run.
        patience: epochs without a better val macro-F1.
    """

    def __init__(self, history: EpochHistory, patience: int) -> None:
        self._history = history
        self._patience = patience

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Train no further where the resumed run had stopped."""
        self._decide(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop after the epoch that has just been recorded, where patience is at its end."""
        self._decide(trainer, pl_module)

    def _decide(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        best = best_record(self._history.records)
        if best is None or not isinstance(pl_module, LearnerModule):
            return
        first_epoch = pl_module.recipe.phases[-1].first_epoch
        if epochs_without_gain(self._history.records, first_epoch=first_epoch) < self._patience:
            return
        trainer.should_stop = True
        if trainer.is_global_zero:
            log.info(
                "stopping early after epoch %d: none since epoch %d has a val macro-F1 above its %.4f (stage.patience=%d)",
                self._history.records[-1].epoch + 1,
                best.epoch + 1,
                best.val_raw.macro_f1,
                self._patience,
            )
