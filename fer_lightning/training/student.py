"""The student as a LightningModule: it learns from labels and from its teachers' logits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fer_lightning.data.batches.dataset import Batch
from fer_lightning.functional.negative_learning import negative_learning_loss
from fer_lightning.runs.history import LessonRecord
from fer_lightning.training.distillation.live_teachers import LiveTeachers, open_live_teachers
from fer_lightning.training.distillation.own_logits import OwnLogits
from fer_lightning.training.distillation.term import DistillationTerm
from fer_lightning.training.learner import LearnerModule
from fer_lightning.training.recipe.student_recipe import StudentRecipe

_OWN_LOGITS_KEY = "fer_lightning_own_logits"


class StudentModule(LearnerModule):
    """Trains a classifier on labels and teachers at once.

        ce_weight x loss of the labels + weight x objective(student logits, teacher logits) + negative_weight x negative learning

    The loss of the labels is that of a teacher's training, with its margins, smoothing, vote targets and weights. Objective
    and negative learning see the logits of inference: scale x cosine, or those of the linear head.

    Teacher logits come with the batch, or from a live ensemble that sees the pictures as the student does, or are the
    student's own of the epoch before: as it saw the row in training, augmented and with dropout. After a rollback they
    are those of the epoch before the one that collapsed.

    Args:
        recipe: `StudentRecipe.to_dict()`.
        record: see `LearnerModule`.
        accumulate: micro-batches per optimizer step.

    Raises:
        FerError: see `open_live_teachers`.
    """

    recipe: StudentRecipe
    recipe_type = StudentRecipe
    part_names = ("ce_loss", "distillation_loss", "negative_loss")

    def __init__(self, *, recipe: dict[str, Any], record: dict[str, Any], accumulate: int) -> None:
        super().__init__(recipe=recipe, record=record, accumulate=accumulate)
        options = self.recipe.distillation
        self.distillation: DistillationTerm | None = None
        self._live: LiveTeachers | None = None
        self._own: OwnLogits | None = None
        if options.distils:
            self.distillation = DistillationTerm(
                options,
                self.recipe.fusion,
                kd_temperature=self.recipe.kd_temperature,
                partial=options.allow_missing or options.self_teaching,
            )
            if options.ensemble is not None:
                self._live = open_live_teachers(Path(options.ensemble), self.recipe.ensemble_sha256)
            if options.self_teaching:
                self._own = OwnLogits(self.recipe.num_rows)

    def loss(self, scores: Tensor, embeddings: Tensor, batch: Batch, *, batch_idx: int) -> Tensor:
        """Return the loss of a batch; see `LearnerModule.loss`."""
        options, zero = self.recipe.distillation, scores.new_zeros(())
        ce_loss: Tensor = self.objective(scores, embeddings, batch, epoch=self.current_epoch)
        loss = options.ce_weight * ce_loss
        logits = self.recipe.classifier.scale * scores if self.classifier.scores_are_cosines else scores
        distillation_loss = negative_loss = zero
        if self.distillation is not None:
            progress = self.current_epoch + batch_idx / int(self.trainer.num_training_batches)
            teacher_logits = self._teacher_logits(batch)
            distillation_loss = self.distillation(logits, teacher_logits, batch.labels, progress=progress)
            loss = loss + self.distillation.weight(progress) * distillation_loss
        if self._own is not None and not self._second_pass:
            self._own.keep(batch.rows, logits)
        if options.negative_weight:
            negative_loss = negative_learning_loss(logits, batch.negatives)
            loss = loss + options.negative_weight * negative_loss
        self.last_parts = [part.detach() for part in (ce_loss, distillation_loss, negative_loss)]
        return loss

    def _teacher_logits(self, batch: Batch) -> Tensor:
        """Return (N, M, 7) logits of M teachers, NaN in rows without."""
        if self._live is not None:
            return self._live.logits(batch.pictures)
        return batch.teacher_logits if self._own is None else self._own.of(batch.rows)

    def on_train_epoch_end(self) -> None:
        """Teach the next epoch by this one's logits. Comes after the watchdog and before `checkpoint_last.pt`."""
        if self._own is not None:
            self._own.turn(world_size=self.trainer.world_size)

    def roll_back(self, state_dict: Mapping[str, Any]) -> None:
        """Go back to earlier weights; see `LearnerModule.roll_back`."""
        super().roll_back(state_dict)
        if self._own is not None:
            self._own.forget_epoch()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the own logits, where a run is to go on from the checkpoint."""
        super().on_save_checkpoint(checkpoint)
        if self._own is not None and "optimizer_states" in checkpoint:
            checkpoint[_OWN_LOGITS_KEY] = self._own.state(world_size=self.trainer.world_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the own logits up again."""
        super().on_load_checkpoint(checkpoint)
        if self._own is not None:
            self._own.load_state(checkpoint[_OWN_LOGITS_KEY], rank=self.trainer.global_rank)

    def lesson(self, parts: list[float]) -> LessonRecord:
        """Return what the history tells of the epoch's lesson."""
        term = self.distillation
        return LessonRecord(
            **dict(zip(self.part_names, parts, strict=True)),
            distillation_weight=0.0 if term is None else term.weight(self.current_epoch + 1),
            kd_temperature=None if term is None else term.kd_temperature,
        )
