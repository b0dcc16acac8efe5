"""The ArcFace teacher as a LightningModule."""

from typing import Any

import lightning
import torch
import torch.nn.functional as F  # noqa: N812  the name torch's own documentation uses
from torch import Tensor

from fer_lightning.data.batches.dataset import Batch
from fer_lightning.functional.arcface import arcface_logits, margin_at_epoch
from fer_lightning.models.classifier import Classifier, ClassifierSpec
from fer_lightning.runs.checkpoint_file import CHECKPOINT_KEY
from fer_lightning.training.config import LossConfig, OptimizerConfig, OptimizerName
from fer_lightning.training.optim import make_optimizer, make_schedule, parameter_groups

_EPOCH_LOSS_KEY = "fer_lightning_epoch_loss"


def batch_loss(logits: Tensor, batch: Batch, *, class_weights: Tensor | None) -> Tensor:
    """Return the mean cross-entropy of a training batch.

    With targets q (one-hot at the label where the batch has none), class weights w and row weights v of mean 1 over
    the split:  sum_i v_i sum_c w_c q_ic (-log p_ic) / sum_i sum_c w_c q_ic.  So one-hot targets give the loss of their
    labels, and a batch of heavy rows weighs more than one of light rows.

    Args:
        logits: (N, 7) float.
        batch: its labels, targets and weights.
        class_weights: (7,) or None for 1.
    """
    soft, weighed = batch.targets.shape[1] > 0, len(batch.weights) > 0
    if not soft and not weighed:
        return F.cross_entropy(logits, batch.labels, weight=class_weights)
    targets = batch.targets.to(logits.dtype) if soft else batch.labels
    losses = F.cross_entropy(logits, targets, weight=class_weights, reduction="none")
    if weighed:
        losses = losses * batch.weights
    if class_weights is None:
        return losses.mean()
    masses = targets @ class_weights.to(logits.dtype) if soft else class_weights[targets]
    return losses.sum() / masses.sum()


class TeacherModule(lightning.LightningModule):
    """Trains a classifier with ArcFace on its cosine head.

    Epochs before the ramp use margin 0 on the same head: plain logits. The hyperparameters are plain values, so that
    checkpoints load with `weights_only=True`.

    Args:
        classifier: fields of a `ClassifierSpec`.
        loss: fields of a `LossConfig`.
        optimizer: fields of an `OptimizerConfig`, the name as text.
        class_weights: loss weight per class, or None.
        record: what every checkpoint carries beside its weights, see `runs.checkpoint.checkpoint_record`.
        accumulate: micro-batches per optimizer step.
        steps_per_epoch: optimizer steps of an epoch.
        num_epochs: epochs of the schedule.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        classifier: dict[str, Any],
        loss: dict[str, Any],
        optimizer: dict[str, Any],
        class_weights: list[float] | None,
        record: dict[str, Any],
        accumulate: int,
        steps_per_epoch: int,
        num_epochs: int,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.classifier = Classifier(ClassifierSpec(**classifier))
        self._loss = LossConfig(**loss)
        self._optimizer = OptimizerConfig(**{**optimizer, "name": OptimizerName(optimizer["name"])})
        self._record = record
        self._accumulate = accumulate
        self._steps_per_epoch = steps_per_epoch
        self._num_epochs = num_epochs
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.last_loss = torch.zeros(())
        """Loss of the last batch, undivided, on the device."""
        self._loss_sum = torch.zeros(())
        self._num_losses = 0

    @property
    def mean_train_loss(self) -> float:
        """Mean loss of the epoch's batches so far."""
        return float(self._loss_sum / max(self._num_losses, 1))

    def margin_rad(self) -> float:
        """Return the margin of the current epoch in radians."""
        return margin_at_epoch(
            self.current_epoch,
            ramp_start=self._loss.ramp_start_epoch,
            ramp_end=self._loss.ramp_end_epoch,
            margin_rad=self._loss.margin_rad,
        )

    def on_train_epoch_start(self) -> None:
        """Start the epoch's loss mean on the device."""
        self._loss_sum = torch.zeros((), device=self.device)
        self._num_losses = 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch.

        Raises:
            RuntimeError: the batch was drawn for another epoch.
        """
        if batch.epoch != self.current_epoch:
            raise RuntimeError(f"epoch {self.current_epoch} was handed a batch of epoch {batch.epoch}")
        cosines = self.classifier.cosines(batch.pictures)
        logits = arcface_logits(cosines, batch.labels, scale=self._loss.scale, margin_rad=self.margin_rad())
        loss = batch_loss(logits, batch, class_weights=self.class_weights)
        self.last_loss = loss.detach()
        self._loss_sum += self.last_loss
        self._num_losses += 1
        return loss * self._tail_correction(batch_idx)

    def _tail_correction(self, batch_idx: int) -> float:
        """Lightning divides by `accumulate` even where an epoch's last step holds fewer micro-batches; undo that."""
        num_batches = int(self.trainer.num_training_batches)
        tail = num_batches % self._accumulate
        return self._accumulate / tail if tail and batch_idx >= num_batches - tail else 1.0

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return logits, labels and rows for the callbacks that judge them."""
        return {"logits": self.classifier(batch.pictures), "labels": batch.labels, "rows": batch.rows}

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule by optimizer step."""
        groups = parameter_groups(self, weight_decay=self._optimizer.weight_decay)
        optimizer = make_optimizer(groups, self._optimizer, on_gpu=self.device.type == "cuda")
        schedule = make_schedule(
            optimizer,
            self._optimizer,
            steps_per_epoch=self._steps_per_epoch,
            total_steps=self._steps_per_epoch * self._num_epochs,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the record that binds weights to labels, pictures and manifest, and the state of an unfinished epoch."""
        checkpoint[CHECKPOINT_KEY] = self._record
        finished: Any = self.trainer.fit_loop.epoch_progress.current
        checkpoint["epoch"] = finished.processed - 1  # Lightning would name the epoch that is not over
        checkpoint[_EPOCH_LOSS_KEY] = {"sum": float(self._loss_sum), "batches": self._num_losses}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the loss mean of an epoch that goes on; another epoch starts its own."""
        self._loss_sum = torch.tensor(checkpoint[_EPOCH_LOSS_KEY]["sum"])
        self._num_losses = checkpoint[_EPOCH_LOSS_KEY]["batches"]

    def on_train_start(self) -> None:
        """Bring the loss mean to the device: no step waits for it."""
        self._loss_sum = self._loss_sum.to(self.device)
