"""A classifier in training as a LightningModule: one recipe, taught batch by batch, by whatever loss a subclass adds."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import lightning
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from fer_lightning.data.batches.dataset import Batch
from fer_lightning.models.classifier import Classifier
from fer_lightning.runs.checkpoint_file import CHECKPOINT_KEY
from fer_lightning.runs.history import LessonRecord
from fer_lightning.training.callbacks.step_seed import seed_step
from fer_lightning.training.epoch_totals import EpochTotals
from fer_lightning.training.ranks import of_all_ranks
from fer_lightning.training.recipe.freezing import Freezing
from fer_lightning.training.recipe.learning_recipe import LearningRecipe
from fer_lightning.training.recipe.mixer import Mixer
from fer_lightning.training.recipe.objective import Objective, Ramp
from fer_lightning.training.recipe.optim import (
    decayed_parameters,
    make_optimizer,
    make_schedule,
    parameter_groups,
    set_rates,
)
from fer_lightning.training.recipe.sharpness_aware import SharpnessAware, still_running_statistics

_STATE_KEY = "fer_lightning_training_state"


class LearnerModule(lightning.LightningModule):
    """Trains a classifier by a recipe; a subclass says what the loss of a batch is.

    Epochs before the ramp use margin 0 on the same head: plain logits. The hyperparameters are plain values, so that
    checkpoints load with `weights_only=True`.

    Args:
        recipe: `to_dict()` of a recipe of the class's own `recipe_type`.
        record: what every checkpoint carries beside its weights, see `runs.checkpoint.checkpoint_record`.
        accumulate: micro-batches per optimizer step.
    """

    recipe_type: type[LearningRecipe] = LearningRecipe
    part_names: tuple[str, ...] = ()
    """Parts of the loss that the history tells of by themselves."""

    def __init__(self, *, recipe: dict[str, Any], record: dict[str, Any], accumulate: int) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.recipe = self.recipe_type.from_dict(recipe)
        self.classifier = Classifier(self.recipe.classifier)
        self.objective = Objective(
            self.recipe.loss,
            class_counts=self.recipe.class_counts,
            class_weights=self.recipe.class_weights,
            weights_from_epoch=self.recipe.weights_from_epoch,
            embedding_dim=self.recipe.classifier.embedding_dim,
        )
        self.freezing = Freezing(self.recipe.stage, self.classifier, self.recipe.phases)
        self.lr_factor = 1.0
        """The watchdog lowers it."""
        self.totals = EpochTotals(num_parts=len(self.part_names))
        self.last_parts: list[Tensor] = []
        """Parts of the last batch's loss, on the device; `loss` sets them."""
        self.last_loss = torch.zeros(())
        """Loss of the last batch, undivided, on the device."""
        self._mixer = Mixer(self.recipe.mixing, seed=self.recipe.seed, num_epochs=self.recipe.num_epochs)
        self._record = record
        self._accumulate = accumulate
        self._decayed = decayed_parameters(self)
        self._step_batches: list[tuple[Batch, int]] = []
        self._second_pass = False

    @property
    def ascending(self) -> bool:
        """Whether the gradient being computed is SAM's first one, which leads to the worst weights nearby: no update."""
        return self.recipe.optimizer.sam_rho > 0 and not self._second_pass

    def ramp(self) -> Ramp:
        """Return margin and scale of the current epoch."""
        return self.objective.ramp(self.current_epoch)

    def on_train_start(self) -> None:
        """Bring the totals of an epoch that goes on to the device."""
        self.totals = EpochTotals.of(self.totals.state(), self.device)
        self._settle()

    def on_train_epoch_start(self) -> None:
        """Start the epoch's totals on the device."""
        self.totals = EpochTotals(self.device, num_parts=len(self.part_names))
        self._settle()

    def _settle(self) -> None:
        """Freeze and set the learning rates as the epoch asks."""
        self.freezing.apply(self.current_epoch, by_gradient=self.trainer.world_size > 1)
        self._set_rates()

    def _set_rates(self) -> None:
        for optimizer, config in zip(self.trainer.optimizers, self.trainer.lr_scheduler_configs, strict=True):
            set_rates(optimizer, cast("LambdaLR", config.scheduler))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch.

        Raises:
            RuntimeError: the batch was drawn for another epoch.
        """
        if batch.epoch != self.current_epoch:
            raise RuntimeError(f"epoch {self.current_epoch} was handed a batch of epoch {batch.epoch}")
        rank = self.trainer.global_rank
        if self._second_pass:
            seed_step(self.recipe.seed, epoch=self.current_epoch, batch_idx=batch_idx, rank=rank)
        elif self.ascending:
            self._keep_for_second_pass(batch, batch_idx)
        mixed = self._mixer.mix(batch, batch_idx=batch_idx, rank=rank)
        embeddings = self.classifier.embed(mixed.pictures)
        scores = self.classifier.scores(embeddings)
        loss = self.loss(scores, embeddings, mixed, batch_idx=batch_idx)
        if not self._second_pass:
            self.last_loss = loss.detach()
            num_right = (scores.detach().argmax(1) == _main_labels(mixed)).sum()
            self.totals.add(self.last_loss, num_right, len(mixed.labels), self.last_parts)
        return loss * self._tail_correction(batch_idx)

    def loss(self, scores: Tensor, embeddings: Tensor, batch: Batch, *, batch_idx: int) -> Tensor:
        """Return the loss of a batch.

        Args:
            scores: (N, 7) cosines of a cosine head, logits of a linear one.
            embeddings: (N, D) what the head saw.
            batch: its pictures mixed and their colours changed.
            batch_idx: its place in the epoch.
        """
        raise NotImplementedError

    def lesson(self, parts: list[float]) -> LessonRecord | None:
        """Return what the history tells of distillation; None for a network that learns from labels only.

        Args:
            parts: means over the epoch, by `part_names`.
        """
        return None

    def _keep_for_second_pass(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx % self._accumulate == 0:
            self._step_batches = []
        self._step_batches.append((batch, batch_idx))

    @contextmanager
    def second_gradient(self) -> Iterator[None]:
        """Compute SAM's second gradient on the same pictures, with the same dropout; nothing is counted twice.

        Lightning's closure knows the step's last micro-batch only: the gradients of the others are computed here.
        """
        self._second_pass = True
        with still_running_statistics(self.classifier):
            for batch, batch_idx in self._step_batches[:-1]:
                with self.trainer.precision_plugin.train_step_context():
                    loss = self.training_step(batch, batch_idx)
                self.backward(loss / self._accumulate)
            yield
        self._second_pass = False
        self._step_batches = []

    def _tail_correction(self, batch_idx: int) -> float:
        """Lightning divides by `accumulate` even where an epoch's last step holds fewer micro-batches; undo that."""
        num_batches = int(self.trainer.num_training_batches)
        tail = num_batches % self._accumulate
        return self._accumulate / tail if tail and batch_idx >= num_batches - tail else 1.0

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Take frozen parameters out of the step, before gradients are clipped."""
        self.freezing.drop_gradients()

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradient that the step follows."""
        if not self.ascending:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def roll_back(self, state_dict: Mapping[str, Any]) -> None:
        """Go back to earlier weights, with a fresh optimizer state; the schedule goes on from where it is.

        Args:
            state_dict: of this module, from a checkpoint of this run.
        """
        self.load_state_dict(state_dict)
        self._step_batches = []
        for optimizer in self.trainer.optimizers:
            optimizer.zero_grad()  # also those of a step that is not complete
            optimizer.state.clear()
        self._set_rates()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return logits, labels and rows for the callbacks that judge them."""
        return {"logits": self.classifier(batch.pictures), "labels": batch.labels, "rows": batch.rows}

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule by optimizer step."""
        config = self.recipe.optimizer
        layers = self._backbone_layers()
        groups = parameter_groups(self, config, backbone_layers=layers, decayed=self._decayed)
        optimizer = make_optimizer(groups, config, on_gpu=self.device.type == "cuda")
        if config.sam_rho:
            optimizer = SharpnessAware(optimizer, rho=config.sam_rho, second_gradient=self.second_gradient)
        schedule = make_schedule(
            optimizer,
            config,
            phases=self.recipe.phases,
            steps_per_epoch=self.recipe.steps_per_epoch,
            lr_factor=lambda: self.lr_factor,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _backbone_layers(self) -> dict[str, int]:
        """Return the depth of the backbone's parameters, or 0 for all where no layer has a rate of its own."""
        if self.recipe.optimizer.layer_decay < 1:
            layers = self.classifier.layer_of_parameters()
        else:
            layers = {name: 0 for name, _ in self.classifier.backbone.named_parameters()}
        return {f"classifier.backbone.{name}": depth for name, depth in layers.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the record that binds weights to labels, pictures and manifest, and the state of an unfinished epoch."""
        checkpoint[CHECKPOINT_KEY] = self._record
        finished: Any = self.trainer.fit_loop.epoch_progress.current
        checkpoint["epoch"] = finished.processed - 1  # Lightning would name the epoch that is not over
        checkpoint[_STATE_KEY] = {
            "totals": of_all_ranks(self.totals.state(), world_size=self.trainer.world_size),
            "margin_factor": self.objective.margin_factor,
            "lr_factor": self.lr_factor,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up an epoch that goes on (another one starts its own totals) and what the watchdog lowered."""
        state = checkpoint[_STATE_KEY]
        self.totals = EpochTotals.of(state["totals"][self.trainer.global_rank], torch.device("cpu"))
        self.objective.margin_factor, self.lr_factor = state["margin_factor"], state["lr_factor"]


def _main_labels(batch: Batch) -> Tensor:
    """Return the label of each row, or of its partner where that has the larger share of the mixed picture."""
    if not len(batch.partners):
        return batch.labels
    return torch.where(batch.shares >= 0.5, batch.labels, batch.labels[batch.partners])
