"""Watches for a collapse: back to the weights of best.pt, with a smaller margin and smaller learning rates."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch

from fer_lightning.errors import TrainingError
from fer_lightning.runs.history import EpochRecord, Rollback
from fer_lightning.training.callbacks.epoch_history import EpochHistory, best_record
from fer_lightning.training.callbacks.weight_average import WeightAverage
from fer_lightning.training.config import WatchdogConfig
from fer_lightning.training.learner import LearnerModule

log = logging.getLogger(__name__)

_LOOK_EVERY_BATCHES = 100


def fall_reason(records: Sequence[EpochRecord], config: WatchdogConfig) -> str | None:
    """Return why the last epoch is a collapse by its val figures, or None.

    Args:
        records: the history; the last one is judged against the best one before it.
        config: how far the val macro-F1 may fall.
    """
    best = best_record(records[:-1])
    if best is None:
        return None
    fall = best.val_raw.macro_f1 - records[-1].val_raw.macro_f1
    if fall <= config.drop:
        return None
    return f"val macro-F1 {records[-1].val_raw.macro_f1:.4f} is {fall:.4f} below that of epoch {best.epoch + 1}"


def _broken_reason(pl_module: LearnerModule, world_size: int) -> str | None:
    """Return what is not finite, or None; waits for the device, and is the same on every rank."""
    if not torch.tensor(pl_module.totals.over_ranks(world_size).mean_loss).isfinite():
        return "the training loss is not finite"
    if not torch.stack([parameter.isfinite().all() for parameter in pl_module.parameters()]).all():
        return "the weights are not finite"
    return None


def _check_limit(records: Sequence[EpochRecord], config: WatchdogConfig, *, epoch: int, reason: str) -> None:
    """Refuse one rollback too many."""
    past = [(record.epoch, record.rollback.reason) for record in records if record.rollback is not None]
    if len(past) < config.max_rollbacks:
        return
    told = "\n  ".join(f"epoch {index + 1}: {why}" for index, why in [*past, (epoch, reason)])
    best = best_record(records)
    kept = "" if best is None else f"best.pt is that of epoch {best.epoch + 1}, macro-F1 {best.val_raw.macro_f1:.4f}. "
    raise TrainingError(
        f"training collapsed {len(past) + 1} times, more often than watchdog.max_rollbacks={config.max_rollbacks}:\n"
        f"  {told}\n{kept}Start another run (run.tag=<name>) with a smaller optimizer.lr or loss.margin_rad, a longer "
        "optimizer.warmup_epochs or a later loss.ramp_end_epoch, or optimizer.gradient_clip_norm=1.0"
    )


class Watchdog(lightning.Callback):
    """Rolls a collapsed epoch back. Comes after the history, whose last record it marks, and before its other readers.

    Two things are a collapse: a val macro-F1 far below the best one, judged when the history has closed the epoch, and
    a loss or a weight that is not finite, looked for once an epoch, after its last batch. The latter is mended before
    the val pass, which then judges the restored weights. (Weights that are finite and yet give logits that are not end
    the run in the val pass.) Margin and learning rates fall at the end of the epoch in both
    cases. All of it is over when checkpoint_last.pt is written, which holds the factors and, in the history, the
    rollbacks: a resumed run goes on like an uninterrupted one.

    Args:
        history: of the run.
        best: the run's best.pt.
        average: rolled back too, where there is one.
    """

    def __init__(self, history: EpochHistory, best: Path, average: WeightAverage | None = None) -> None:
        self._history = history
        self._best = best
        self._average = average
        self._broken: str | None = None

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look for what is not finite: after an epoch's last batch; where there is no way back, also now and then before.

        Raises:
            TrainingError: there is no way back: no best.pt yet, the watchdog is disabled, or one rollback too many.
        """
        if not isinstance(pl_module, LearnerModule):
            return
        config, records = pl_module.recipe.watchdog, self._history.records
        way_back = config.enabled and best_record(records) is not None
        is_last = batch_idx + 1 == trainer.num_training_batches
        if not is_last and (way_back or (batch_idx + 1) % _LOOK_EVERY_BATCHES):
            return
        reason = _broken_reason(pl_module, trainer.world_size)
        if reason is None:
            return
        if not way_back:
            kept = "best.pt and checkpoint_last.pt are from before it" if records else "there is no checkpoint yet"
            also = "" if config.enabled else ", or watchdog.enabled=true to go back to the best epoch when it happens"
            raise TrainingError(
                f"training diverged in epoch {trainer.current_epoch + 1}: {reason} ({kept}). Try a smaller optimizer.lr, "
                f"optimizer.gradient_clip_norm=1.0 or trainer.precision=32-true{also}"
            )
        _check_limit(records, config, epoch=trainer.current_epoch, reason=reason)
        self._restore(pl_module)
        self._broken = reason

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Decide on the epoch that the history has just closed, and mark its record.

        Raises:
            TrainingError: one rollback too many.
        """
        if not isinstance(pl_module, LearnerModule) or not pl_module.recipe.watchdog.enabled:
            return
        config, records = pl_module.recipe.watchdog, self._history.records
        reason = self._broken or fall_reason(records, config)
        best = best_record(records[:-1])
        if reason is None or best is None:
            return
        _check_limit(records, config, epoch=trainer.current_epoch, reason=reason)
        pl_module.objective.margin_factor *= config.margin_factor
        pl_module.lr_factor *= config.lr_factor
        if self._broken is None:
            self._restore(pl_module)
        self._broken = None
        rollback = Rollback(
            reason=reason,
            to_epoch=best.epoch,
            margin_factor=pl_module.objective.margin_factor,
            lr_factor=pl_module.lr_factor,
        )
        self._history.amend(replace(records[-1], is_best=False, rollback=rollback), trainer)
        if trainer.is_global_zero:
            _say(rollback, self._history.records, config)

    def _restore(self, pl_module: LearnerModule) -> None:
        weights = torch.load(self._best, map_location="cpu", weights_only=True)["state_dict"]
        if self._average is None:
            pl_module.roll_back(weights)
        else:
            self._average.restore(pl_module, weights)


def _say(rollback: Rollback, records: Sequence[EpochRecord], config: WatchdogConfig) -> None:
    count = sum(record.rollback is not None for record in records)
    log.warning(
        "epoch %d collapsed: %s. Rolled back to best.pt of epoch %d; from here on the margin is %g and the learning rates are "
        "%g of those configured (rollback %d of at most %d)",
        records[-1].epoch + 1,
        rollback.reason,
        rollback.to_epoch + 1,
        rollback.margin_factor,
        rollback.lr_factor,
        count,
        config.max_rollbacks,
    )
