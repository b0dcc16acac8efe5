"""The slow half of a training: network, callbacks and trainer, once the rows and the directory are sure."""

import logging
from pathlib import Path

import lightning
from lightning.pytorch.loggers import TensorBoardLogger

from fer_lightning.data.datamodule import worker_count
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.selection import Selection
from fer_lightning.errors import FerError, FinishedRunError
from fer_lightning.pipeline.config import TrainingRun
from fer_lightning.pipeline.learning.callbacks import learner_callbacks
from fer_lightning.pipeline.learning.fitting import check_precision, fit, make_trainer
from fer_lightning.pipeline.learning.parts import build_learner, canonical_of, make_data, open_store, taught_rows
from fer_lightning.runs.artifacts import AlignmentReport, ReliabilityMetrics, read_artifact, write_artifact
from fer_lightning.runs.checkpoint import read_checkpoint
from fer_lightning.runs.distillation import DISTILLATION_FILE, DistillationRecord, changes_of_lesson
from fer_lightning.runs.finished import final_files_match
from fer_lightning.runs.phases import finished_epochs
from fer_lightning.runs.provenance import describe_alignment
from fer_lightning.runs.run_dir import RunDirectory, flat_values
from fer_lightning.training.callbacks import final_reliability, onnx_export, stop_signals
from fer_lightning.training.distillation.signal import TeacherSignal
from fer_lightning.training.hparams_row import log_hparams_row
from fer_lightning.training.judging import Judge
from fer_lightning.training.learner import LearnerModule
from fer_lightning.training.quiet import hush_notices
from fer_lightning.training.recipe.starting_weights import load_starting_weights
from fer_lightning.training.scoring import pick_device

log = logging.getLogger(__name__)


def fit_learner(
    run: TrainingRun, selection: Selection, directory: RunDirectory, signal: TeacherSignal | None = None
) -> ReliabilityMetrics | None:
    """Train, or continue, a teacher or a student in its locked directory.

    Args:
        run: the typed run.
        selection: its rows.
        directory: its directory, locked.
        signal: what a student is taught by; None: a teacher is trained.

    Returns:
        The figures of best and last; None in a process that only computes, as the first one of the run judges.

    Raises:
        FerError: weights that cannot be had, a finished run, data that changed, a precision without its device.
        TrainingError: a non-finite loss, a lost lock, an ONNX file that does not follow its checkpoint.
    """
    _refuse_finished(run, directory)
    hush_notices()
    check_precision(run.trainer)
    lightning.seed_everything(run.run.seed, verbose=False)
    spec = canonical_of(run)
    targets, draws, num_batches = taught_rows(run, selection)
    learner = build_learner(run, selection, spec, num_batches=num_batches, phases=directory.phases, signal=signal)
    if signal is not None:
        _keep_lesson(directory, signal)
    alignment = _alignment(run, selection, directory, spec, learner)
    store = open_store(run, selection, spec)
    data = make_data(run, selection, store, targets=targets, draws=draws, signal=signal)
    if run.trainer.compile:
        learner.classifier.backbone.compile()
    judge = Judge(
        selection=selection,
        split="val",
        calibration=run.calibration,
        batch_size=run.stage.batch_size,
        num_workers=worker_count(run.data.num_workers),
        store=store,
    )
    logger = TensorBoardLogger(directory.path, name="", version="", default_hp_metric=False)
    final = final_reliability.FinalReliability(directory, judge, pick_device(run.trainer.accelerator))
    signals = stop_signals.StopSignals()
    callbacks = learner_callbacks(run, directory, judge, spec, logger, alignment, signals)
    if directory.writes:
        callbacks += [final, *([onnx_export.OnnxExport(directory)] if run.trainer.onnx else [])]
    trainer = make_trainer(run, callbacks, logger)
    fit(trainer, learner, data, directory, signals)
    if not directory.writes:
        return None
    if final.metrics is None:
        raise RuntimeError("training ended without its final evaluation")
    best = final.metrics.best
    scaled = {} if best.scaled is None else {"final/ece_scaled": best.scaled.ece, "final/nll_scaled": best.scaled.nll}
    figures = {"final/macro_f1": best.raw.macro_f1, "final/accuracy": best.raw.accuracy, "final/nll": best.raw.nll}
    log_hparams_row(logger, flat_values(run), {**figures, "final/ece": best.raw.ece, **scaled})
    logger.finalize("success")
    return final.metrics


def _keep_lesson(directory: RunDirectory, signal: TeacherSignal) -> None:
    """Write who teaches a new run; a resumed one must be taught by the same.

    Raises:
        FerError: it is not.
    """
    file = directory.path / DISTILLATION_FILE
    if not directory.resuming:
        if directory.writes:
            write_artifact(file, signal.record)
        return
    changes = changes_of_lesson(read_artifact(file, DistillationRecord), signal.record)
    if changes:
        raise FerError(
            f"{directory.path} was taught by something else before it was interrupted: {'; '.join(changes)}. Bring that back, or "
            "train another student with run.tag=<name>"
        )


def _refuse_finished(run: TrainingRun, directory: RunDirectory) -> None:
    """A run that is over is not resumed: a zero-step run that exits 0 would look like training."""
    if not directory.resuming:
        return
    trained = finished_epochs(directory.path, directory.phases[-1])
    if trained is not None and final_files_match(directory.path, onnx=run.trainer.onnx):
        amount = f"all {trained} of {run.stage.epochs} epochs"
        if trained < run.stage.epochs:
            best = read_artifact(directory.path / "reliabilitymetrics.json", ReliabilityMetrics).best.epoch + 1
            amount = f"{trained} of {run.stage.epochs} epochs, was stopped early (best epoch {best})"
        raise FinishedRunError(
            f"{directory.path} has trained {amount} and is complete: nothing to resume. "
            f"Evaluate it with task=evaluate, give it extra epochs with stage.epochs=<more than {run.stage.epochs}>, "
            "or train another with run.tag=<name>."
        )
    trained = read_checkpoint(directory.last, option="run.on_existing").epoch + 1
    log.info("resuming %s after epoch %d of %d", directory.path, trained, run.stage.epochs)


def _alignment(
    run: TrainingRun, selection: Selection, directory: RunDirectory, spec: CanonicalSpec, learner: LearnerModule
) -> AlignmentReport:
    """Load the starting weights of a new run; a resumed one has its own, and keeps the record of how it started."""
    if directory.resuming:
        weights = read_artifact(directory.alignment_report, AlignmentReport).starting_weights
    else:
        weights = load_starting_weights(learner.classifier, run.backbone, run.stage.init_from)
    pipeline = None if run.augmentation.pipeline is None else Path(run.augmentation.pipeline)
    num_parameters = sum(parameter.numel() for parameter in learner.classifier.parameters())
    return describe_alignment(
        run.name, selection, spec, weights, num_parameters=num_parameters, augmentation_pipeline=pipeline
    )
