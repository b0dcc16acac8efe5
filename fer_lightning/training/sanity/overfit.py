"""Counts how fast a few rows are learnt by heart, pass by pass, and stops when they are."""

from typing import Any

import lightning
from torch import Tensor, nn

from fer_lightning.runs.check_report import Overfit
from fer_lightning.training.learner import LearnerModule


class OverfitProbe(lightning.Callback):
    """Watches passes over the same few batches.

    Args:
        learner: whose head is watched.
        batch_sizes: of the batches of a pass, in order.
        min_accuracy: a pass this accurate ends it.
    """

    def __init__(self, learner: LearnerModule, *, batch_sizes: list[int], min_accuracy: float) -> None:
        self._learner = learner
        self._batch_sizes = batch_sizes
        self._min_accuracy = min_accuracy
        self._scores: Tensor | None = None
        self._num_right = 0
        self._losses: list[float] = []
        self._accuracies: list[float] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Listen to the head."""
        self._hook = self._learner.classifier.head.register_forward_hook(self._note_scores)

    def _note_scores(self, _: nn.Module, inputs: tuple[Tensor, ...], scores: Tensor) -> None:
        self._scores = scores.detach() if self._scores is None else self._scores  # SAM passes twice

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the right answers, and stop after a pass with enough of them."""
        if self._scores is None:
            raise RuntimeError("a batch did not pass through the head")
        self._num_right += int((self._scores.argmax(1) == batch.labels).sum())
        self._scores = None
        self._losses.append(float(self._learner.last_loss))
        if (batch_idx + 1) % len(self._batch_sizes) == 0:
            self._accuracies.append(self._num_right / sum(self._batch_sizes))
            self._num_right = 0
            trainer.should_stop = self._accuracies[-1] >= self._min_accuracy

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Listen no longer."""
        self._hook.remove()

    def measured(self) -> Overfit:
        """Return the curve."""
        best = max(self._accuracies, default=0.0)
        return Overfit(
            rows=sum(self._batch_sizes),
            batch_sizes=self._batch_sizes,
            min_accuracy=self._min_accuracy,
            best_accuracy=best,
            reached_after_steps=len(self._losses) if best >= self._min_accuracy else None,
            losses=self._losses,
            accuracies=self._accuracies,
        )
