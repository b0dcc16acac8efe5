"""What every training does before and around its slow half: rows, starting files, run directory, what is said at the end."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.data.selection import Selection, select_rows
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS, NUM_CLASSES
from fer_lightning.pipeline.config import TrainingRun
from fer_lightning.pipeline.rows.ancestors import records_at_the_start
from fer_lightning.pipeline.rows.seen_in_training import refuse_val_rows_seen_by
from fer_lightning.reports.tables import figures_table
from fer_lightning.runs.artifacts import EvaluatedCheckpoint
from fer_lightning.runs.checkpoint_file import check_checkpoint_file
from fer_lightning.runs.ranks import check_processes
from fer_lightning.runs.run_dir import open_run_directory
from fer_lightning.training.recipe.config import ClassWeights, Sampler

if TYPE_CHECKING:
    from fer_lightning.training.distillation.signal import TeacherSignal

log = logging.getLogger(__name__)

_ROUNDING = 1e-9


def select_training_rows(run: TrainingRun) -> Selection:
    """Choose the train and val rows of a run.

    Raises:
        FerError: anything wrong with them: faults, leaks between splits, an empty split, an absent class that the
            options need.
    """
    selection = select_rows(run.data, run.source_filter, splits=("train", "val"), check_leaks=True)
    _check_splits(selection, run)
    return selection


def _check_splits(selection: Selection, run: TrainingRun) -> None:
    where = f"{selection.manifest.path} has no {{}} rows after source_filter={run.source_filter.name}"
    if not len(selection.rows["train"]):
        raise FerError(where.format("train"))
    if not len(selection.rows["val"]):
        raise FerError(
            f"{where.format('val')}, and none could be carved from {len(selection.rows['train'])} train rows; "
            f"a small set needs a larger data.val_fraction (now {run.data.val_fraction})"
        )
    for split in ("train", "val"):
        labels = set(selection.manifest.labels[selection.rows[split]].tolist())
        absent = [name for index, name in enumerate(EMOTIONS) if index not in labels]
        if absent and split == "train":
            _refuse_absent(absent, run)
        if absent:
            log.warning("no %s rows of %s: figures over 7 classes count these as 0", split, ", ".join(absent))


def _refuse_absent(absent: list[str], run: TrainingRun) -> None:
    """Refuse options that balance all classes where train has no rows of some; those who compute with counts check too."""
    imbalance, loss = run.imbalance, run.loss
    weights, sampler, least = imbalance.class_weights, imbalance.sampler, imbalance.min_per_class
    needing = [
        ("loss.ldam_margin", "loss.ldam_margin=0", loss.ldam_margin > 0),
        ("loss.tau", "loss.tau=0", loss.tau > 0),
        (
            f"imbalance.class_weights={weights.value}",
            "imbalance.class_weights=none",
            weights is not ClassWeights.none,
        ),
        (f"imbalance.min_per_class={least}", "imbalance.min_per_class=0", least > 0),
        (f"imbalance.sampler={sampler.value}", "imbalance.sampler=shuffle", sampler is not Sampler.shuffle),
    ]
    for option, way_out, is_set in needing:
        if is_set:
            raise FerError(
                f"{option} needs train rows of every class, but there are none of {', '.join(absent)}; "
                f"set {way_out} or choose rows that include them"
            )


def check_starting_files(run: TrainingRun) -> None:
    """Refuse files to start from that cannot be any, before anything slow."""
    if run.stage.init_from is not None:
        source = Path(run.stage.init_from)
        file = source / "best.pt" if source.is_dir() else source
        if not file.is_file():
            raise FerError(f"stage.init_from: no file {file}; give a finished run's directory or its best.pt")
        check_checkpoint_file(file, option="stage.init_from")
    if run.backbone.checkpoint is not None and not Path(run.backbone.checkpoint).is_file():
        raise FerError(f"backbone.checkpoint: no file {run.backbone.checkpoint}")
    if run.augmentation.pipeline is not None and not Path(run.augmentation.pipeline).is_file():
        raise FerError(f"augmentation.pipeline: no file {run.augmentation.pipeline}")


def _warn_of_what_never_starts(run: TrainingRun) -> None:
    """Say which parts of a recipe lie beyond its epochs: a short trial is not the recipe it is named after."""
    stage, loss, epochs = run.stage, run.loss, run.stage.epochs
    beyond = {
        f"class weights, from epoch imbalance.weights_from_epoch={run.imbalance.weights_from_epoch}": (
            run.imbalance.weights_from_epoch >= epochs
        ),
        f"the ArcFace margin, after epoch loss.ramp_start_epoch={loss.ramp_start_epoch}": (
            loss.margin_rad > 0 and loss.ramp_start_epoch >= epochs - 1
        ),
        f"mixing, before the last mixing.off_last_epochs={run.mixing.off_last_epochs}": (
            run.mixing.enabled and run.mixing.off_last_epochs >= epochs
        ),
        f"training of the backbone, after stage.freeze_backbone_epochs={stage.freeze_backbone_epochs}": (
            stage.freeze_backbone_epochs >= epochs
        ),
    }
    for part in (part for part, is_beyond in beyond.items() if is_beyond):
        length = "1 epoch" if epochs == 1 else f"{epochs} epochs"
        log.warning("never in the %s of this run (counted from 0): %s", length, part)


def _warn_if_nothing_was_learnt(best: EvaluatedCheckpoint, lr: float) -> None:
    """Say so where the best epoch is no better than one answer to everything."""
    largest = max(best.support, key=lambda emotion: best.support[emotion])
    share = best.support[largest] / best.n
    constant = 2 * share / (1 + share) / NUM_CLASSES  # F1 at precision `share` and recall 1; the other classes have 0
    if share < 1 and best.raw.macro_f1 <= constant + _ROUNDING:
        log.warning(
            "nothing was learnt: the best val macro-F1, %.4f, is no better than that of always answering %s, %.4f. "
            "Look at optimizer.lr=%g and the train loss of each epoch, and run task=check_training with the same options",
            best.raw.macro_f1,
            largest,
            constant,
            lr,
        )


def prepare_training(run: TrainingRun) -> Selection:
    """Choose rows and check files, before anything slow or written.

    Raises:
        FerError: anything wrong with rows or starting weights.
    """
    check_processes(devices=run.trainer.devices, num_nodes=run.trainer.num_nodes)
    check_starting_files(run)
    selection = select_training_rows(run)
    refuse_val_rows_seen_by(records_at_the_start(run), selection, run.data)  # figures on them would flatter
    return selection


def train_in_directory(run: TrainingRun, selection: Selection, signal: "TeacherSignal | None" = None) -> None:
    """Train in the run's locked directory, and say what it led to.

    Args:
        run: the typed run.
        selection: its rows.
        signal: what a student is taught by; None: a teacher is trained.

    Raises:
        FerError: weights or a directory that cannot be used.
        TrainingError: see `fit_learner`.
    """
    path = run.directory
    with open_run_directory(path, run, on_existing=run.run.on_existing, unlock_stale=run.run.unlock_stale) as directory:
        log.info("%s: %d train and %d val rows", path, len(selection.rows["train"]), len(selection.rows["val"]))
        _warn_of_what_never_starts(run)
        from fer_lightning.pipeline.learning.training import fit_learner  # torch, timm and lightning: seconds

        metrics = fit_learner(run, selection, directory, signal)
        if metrics is None:
            return
        log.info("%s", figures_table([metrics.best, metrics.last]))
        _warn_if_nothing_was_learnt(metrics.best, run.optimizer.lr)
        log.info("everything is in %s; curves: tensorboard --logdir %s", path, run.run.root)
