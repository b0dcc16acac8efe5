"""A trainer that is none: what a module asks of one while single steps of it are tried."""

from types import SimpleNamespace
from typing import cast

import lightning

from fer_lightning.training.learner import LearnerModule


def pretend(module: LearnerModule, *, epoch: int, batches: int = 4) -> None:
    """Let a module believe that it is trained on one device."""
    trainer = SimpleNamespace(
        current_epoch=epoch,
        num_training_batches=batches,
        barebones=False,
        world_size=1,
        global_rank=0,
        optimizers=[],
        lr_scheduler_configs=[],
    )
    module._trainer = cast("lightning.Trainer", trainer)
