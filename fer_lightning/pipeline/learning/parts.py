"""The parts of a network's training, each from the typed run: rows taught, pictures, batches, network and recipe."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from fer_lightning.data.batches.sampling import Sampling, make_train_batches
from fer_lightning.data.batches.targets import RowTargets, read_targets
from fer_lightning.data.datamodule import FerDataModule, worker_count
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.pictures.pixel_cache import open_pictures
from fer_lightning.data.pictures.store import PictureStore
from fer_lightning.data.selection import Selection
from fer_lightning.labels import NUM_CLASSES
from fer_lightning.models.classifier import ClassifierSpec
from fer_lightning.pipeline.config import TrainingRun
from fer_lightning.runs.checkpoint import checkpoint_record
from fer_lightning.runs.phases import Phase
from fer_lightning.training.distillation.signal import TeacherSignal
from fer_lightning.training.learner import LearnerModule
from fer_lightning.training.recipe.config import RowWeights
from fer_lightning.training.recipe.imbalance import class_weights, sampling
from fer_lightning.training.recipe.learning_recipe import LearningRecipe, PhaseSpan
from fer_lightning.training.recipe.student_recipe import StudentRecipe
from fer_lightning.training.student import StudentModule
from fer_lightning.training.teacher import TeacherModule


def canonical_of(run: TrainingRun) -> CanonicalSpec:
    """Return the canonical picture of a run."""
    return CanonicalSpec(
        size=run.stage.image_size,
        clahe=run.data.clahe,
        clahe_clip_limit=run.data.clahe_clip_limit,
        clahe_tiles=run.data.clahe_tiles,
    )


def open_store(run: TrainingRun, selection: Selection, spec: CanonicalSpec) -> PictureStore:
    """Return the pictures of the train and val rows, from the pixel cache where it is used.

    Raises:
        FerError: a picture cannot be read, or the cache cannot be used.
    """
    return open_pictures(
        selection.manifest,
        np.sort(np.concatenate([selection.rows["train"], selection.rows["val"]])),
        spec,
        mode=run.data.cache,
        cache_dir=Path(run.data.cache_dir),
        verify_rows=run.data.cache_verify_rows,
    )


def taught_rows(run: TrainingRun, selection: Selection) -> tuple[RowTargets, Sampling, int]:
    """Return targets, sampler, and batches per epoch of each process.

    Raises:
        FerError: votes, weights or classes that the options need are missing.
    """
    rows, draws = selection.rows["train"], sampling(run.imbalance)
    weigh_loss = run.imbalance.row_weights is RowWeights.loss
    targets = read_targets(selection.manifest, rows, run.targets, weigh_loss=weigh_loss)
    world_size = run.trainer.devices * run.trainer.num_nodes
    batches = make_train_batches(
        selection.manifest, rows, draws, batch_size=run.stage.batch_size, seed=run.run.seed, world_size=world_size
    )
    return targets, draws, len(batches)


def make_data(
    run: TrainingRun,
    selection: Selection,
    store: PictureStore,
    *,
    targets: RowTargets,
    draws: Sampling,
    signal: TeacherSignal | None = None,
) -> FerDataModule:
    """Return the DataModule of a run; a student's brings what its teachers say of the rows."""
    return FerDataModule(
        selection,
        store,
        run.augmentation,
        batch_size=run.stage.batch_size,
        sampling=draws,
        targets=targets,
        row_logits=None if signal is None else signal.row_logits,
        negatives=None if signal is None else signal.negatives,
        seed=run.run.seed,
        num_workers=worker_count(run.data.num_workers),
    )


def _spans(phases: list[Phase]) -> list[PhaseSpan]:
    """Return the phases as trained: one that was stopped early ends where the next one starts."""
    ends = [*(phase.first_epoch for phase in phases[1:]), phases[-1].end_epoch]
    return [
        PhaseSpan(first_epoch=phase.first_epoch, num_epochs=end - phase.first_epoch, lr_ratio=phase.lr_ratio)
        for phase, end in zip(phases, ends, strict=True)
    ]


def _student_recipe(common: LearningRecipe, signal: TeacherSignal, *, num_rows: int) -> StudentRecipe:
    return StudentRecipe(
        **{item.name: getattr(common, item.name) for item in fields(common)},
        distillation=signal.config,
        fusion=signal.fusion,
        kd_temperature=signal.kd_temperature,
        ensemble_sha256=signal.ensemble_sha256,
        num_rows=num_rows,
    )


def build_learner(
    run: TrainingRun,
    selection: Selection,
    spec: CanonicalSpec,
    *,
    num_batches: int,
    phases: list[Phase],
    signal: TeacherSignal | None = None,
) -> LearnerModule:
    """Return the network with random weights from torch's generator, and its recipe.

    Args:
        run: the typed run.
        selection: its rows.
        spec: its canonical picture.
        num_batches: per epoch and process.
        phases: epochs under one schedule each.
        signal: what a student is taught by; None: a teacher is built.

    Raises:
        FerError: a network that cannot be built so, or a loss that needs rows of every class.
    """
    counts = np.bincount(selection.manifest.labels[selection.rows["train"]], minlength=NUM_CLASSES).tolist()
    classifier = ClassifierSpec(
        backbone=run.backbone.name,
        image_size=run.stage.image_size,
        embedding_dim=run.backbone.embedding_dim,
        dropout=run.backbone.dropout,
        scale=run.loss.scale,
        head=run.loss.head.value,
        sub_centers=run.loss.sub_centers,
        neck=run.backbone.neck.value,
        attention=run.backbone.attention.value,
        drop_path=run.backbone.drop_path,
    )
    common = LearningRecipe(
        classifier=classifier,
        class_counts=counts,
        steps_per_epoch=-(-num_batches // run.stage.accumulate),
        phases=_spans(phases),
        seed=run.run.seed,
        loss=run.loss,
        mixing=run.mixing,
        optimizer=run.optimizer,
        stage=run.stage,
        watchdog=run.watchdog,
        class_weights=class_weights(run.imbalance, counts),
        weights_from_epoch=run.imbalance.weights_from_epoch,
    )
    record = checkpoint_record(
        classifier, spec, manifest_sha256=selection.manifest.sha256, ema_decay=run.optimizer.ema_decay
    )
    learner: LearnerModule
    if signal is None:
        learner = TeacherModule(recipe=common.to_dict(), record=record, accumulate=run.stage.accumulate)
    else:
        recipe = _student_recipe(common, signal, num_rows=len(selection.manifest))
        learner = StudentModule(recipe=recipe.to_dict(), record=record, accumulate=run.stage.accumulate)
    if run.trainer.channels_last:
        learner.classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return learner
