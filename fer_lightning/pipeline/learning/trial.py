"""The slow half of `check_training`: network, loader and trainer as training has them, for a few steps each."""

import logging
from dataclasses import replace

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader

from fer_lightning.data.batches.augment import to_float
from fer_lightning.data.batches.dataset import Batch, TrainRows
from fer_lightning.data.batches.sampling import SampleKey
from fer_lightning.data.config import AugmentationConfig, AugmentationKind
from fer_lightning.data.datamodule import FerDataModule
from fer_lightning.data.pictures.store import PictureStore
from fer_lightning.data.selection import Selection
from fer_lightning.data.splits.few_rows import few_rows
from fer_lightning.pipeline.config import CheckTrainingRun, TrainTeacherRun
from fer_lightning.pipeline.learning.fitting import check_precision
from fer_lightning.pipeline.learning.parts import build_learner, canonical_of, make_data, open_store, taught_rows
from fer_lightning.runs.check_report import FirstBatch, Gradients, Overfit, Pace, TrainingCheck
from fer_lightning.runs.phases import first_phase
from fer_lightning.training.callbacks.step_seed import StepSeed
from fer_lightning.training.learner import LearnerModule
from fer_lightning.training.quiet import hush_notices, without_advice
from fer_lightning.training.recipe.config import MixingConfig
from fer_lightning.training.recipe.starting_weights import load_starting_weights
from fer_lightning.training.sanity.class_counts import count_classes
from fer_lightning.training.sanity.first_batch import FirstBatchProbe
from fer_lightning.training.sanity.gradients import GradientProbe
from fer_lightning.training.sanity.overfit import OverfitProbe
from fer_lightning.training.sanity.pace import PaceProbe
from fer_lightning.training.sanity.trial import make_trial_trainer
from fer_lightning.training.sanity.verdicts import (
    judge_classes,
    judge_first_batch,
    judge_gradients,
    judge_overfit,
    judge_pace,
    judge_starting_weights,
)

log = logging.getLogger(__name__)

_VAL_BATCHES = 3
"""Timed to tell how long an epoch takes."""


def try_learner(run: CheckTrainingRun, selection: Selection) -> TrainingCheck:
    """Measure and judge a recipe on one device; nothing is written but the pixel cache.

    Args:
        run: the typed run.
        selection: its rows.

    Raises:
        FerError: weights that cannot be had, no such device, a precision without its device.
    """
    hush_notices()
    check_precision(run.trainer)
    targets, draws, num_train_batches = taught_rows(run, selection)
    run = replace(run, trainer=replace(run.trainer, devices=1, num_nodes=1, strategy="auto", sync_batchnorm=False))
    spec = canonical_of(run)
    store = open_store(run, selection, spec)
    lightning.seed_everything(run.run.seed, verbose=False)
    data = make_data(run, selection, store, targets=targets, draws=draws)
    phases = [first_phase(run.stage.epochs)]
    learner = build_learner(run, selection, spec, num_batches=len(data.train_batches()), phases=phases)
    weights = load_starting_weights(learner.classifier, run.backbone, run.stage.init_from)
    start = {name: value.clone() for name, value in learner.classifier.state_dict().items()}
    classes = count_classes(
        selection,
        data.train_batches(),
        class_weights=learner.recipe.class_weights,
        imbalance=run.imbalance,
        loss=run.loss,
    )
    first_batch, gradients, pace = _first_steps(run, learner, data, num_train_batches=num_train_batches)
    overfit = _overfit(run, selection, store, start)
    return TrainingCheck(
        run_name=run.name,
        findings=[
            *judge_classes(classes),
            judge_starting_weights(weights),
            *judge_first_batch(first_batch, batch_size=run.stage.batch_size, image_size=run.stage.image_size),
            judge_gradients(gradients),
            judge_overfit(overfit, lr=run.optimizer.lr),
            judge_pace(pace, frozen=gradients.frozen_tensors > 0),
        ],
        classes=classes,
        first_batch=first_batch,
        gradients=gradients,
        pace=pace,
        overfit=overfit,
        starting_weights=weights,
    )


def _first_steps(
    run: TrainTeacherRun, learner: LearnerModule, data: FerDataModule, *, num_train_batches: int
) -> tuple[FirstBatch, Gradients, Pace]:
    """Train the first steps of epoch 0 as a run does."""
    log.info("checking the first batches")
    first, gradients, pace = FirstBatchProbe(), GradientProbe(), PaceProbe()
    trainer = make_trial_trainer(
        run.trainer,
        [StepSeed(run.run.seed), first, gradients, pace],
        accumulate=run.stage.accumulate,
        val_batches=_VAL_BATCHES,
        gradient_clip_norm=run.optimizer.gradient_clip_norm,
    )
    with without_advice():
        trainer.fit(learner, datamodule=data)
        trainer.validate(learner, datamodule=data, verbose=False)
    if first.measured is None:
        raise RuntimeError("training stopped before its first batch")
    num_val_batches = len(data.val_dataloader())
    measured = pace.measured(train_batches=num_train_batches, val_batches=num_val_batches, num_epochs=run.stage.epochs)
    return first.measured, gradients.measured(), measured


def _overfit(
    run: CheckTrainingRun, selection: Selection, store: PictureStore, start: dict[str, torch.Tensor]
) -> Overfit:
    """Learn a few rows by heart, from the same start, with nothing that makes it harder and all weights free."""
    plain = replace(
        run,
        backbone=replace(run.backbone, dropout=0.0, drop_path=0.0),
        stage=replace(
            run.stage, epochs=1, accumulate=1, freeze_backbone_epochs=0, freeze_blocks=0, freeze_blocks_epochs=0
        ),
        mixing=MixingConfig(),
        optimizer=replace(run.optimizer, warmup_epochs=0.0, min_lr=run.optimizer.lr),
    )
    batches = _plain_batches(plain, selection, store, num_rows=run.check.rows)
    sizes = [len(batch.labels) for batch in batches]
    log.info("learning %d rows by heart, %d steps at most", sum(sizes), run.check.steps)
    phases = [first_phase(plain.stage.epochs)]
    learner = build_learner(plain, selection, store.spec, num_batches=run.check.steps, phases=phases)
    learner.classifier.load_state_dict(start)
    probe = OverfitProbe(learner, batch_sizes=sizes, min_accuracy=run.check.min_accuracy)
    turns = [step % len(batches) for step in range(run.check.steps)]
    loader: DataLoader[Batch] = DataLoader(batches, sampler=turns, batch_size=None)  # type: ignore[arg-type]
    trainer = make_trial_trainer(
        run.trainer,
        [StepSeed(run.run.seed), probe],
        max_steps=run.check.steps,
        gradient_clip_norm=run.optimizer.gradient_clip_norm,
    )
    with without_advice():
        trainer.fit(learner, train_dataloaders=loader)
    return probe.measured()


def _plain_batches(run: TrainTeacherRun, selection: Selection, store: PictureStore, *, num_rows: int) -> list[Batch]:
    """Return a few train rows as batches of epoch 0, at least as large as the run's, without augmentation."""
    rows = few_rows(selection.manifest, selection.rows["train"], num_rows, seed=run.run.seed)
    plain = AugmentationConfig(kind=AugmentationKind.none)
    pictures = TrainRows(selection.manifest, rows, store, plain, seed=run.run.seed)
    parts = np.array_split(np.arange(len(rows)), max(len(rows) // run.stage.batch_size, 1))
    batches = [pictures[[SampleKey(position, 0, position) for position in part.tolist()]] for part in parts]
    return [batch._replace(pictures=to_float(batch.pictures)) for batch in batches]
