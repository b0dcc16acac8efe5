"""Stops training when the run's lock is lost."""

import lightning

from fer_lightning.runs.lock import RunLock


class RunLockGuard(lightning.Callback):
    """Checks the lock before anything of an epoch is written."""

    def __init__(self, lock: RunLock) -> None:
        self._lock = lock

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Check before the first step."""
        self._lock.check_held()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Check before the epoch's checkpoints."""
        self._lock.check_held()
