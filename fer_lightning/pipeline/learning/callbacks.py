"""The callbacks of a network's training, in the order they act."""

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.pipeline.config import TrainingRun
from fer_lightning.runs.artifacts import AlignmentReport
from fer_lightning.runs.run_dir import RunDirectory
from fer_lightning.training.callbacks import (
    best_and_last,
    calibration_fitting,
    early_stopping,
    epoch_history,
    gradient_norms,
    mid_epoch_checkpoint,
    provenance,
    reliability_metrics,
    run_lock,
    run_phases,
    run_progress,
    step_seed,
    stop_signals,
    tensorboard_curves,
    throughput,
    val_predictions,
    watchdog,
    weight_average,
    weight_statistics,
)
from fer_lightning.training.config import WeightStatistics
from fer_lightning.training.judging import Judge


def _weight_statistics(run: TrainingRun, directory: RunDirectory) -> list[lightning.Callback]:
    if run.trainer.weight_statistics is WeightStatistics.none:
        return []
    head_only = run.trainer.weight_statistics is WeightStatistics.head
    return [weight_statistics.WeightStatistics(directory.path / "weightstatistics.csv", head_only=head_only)]


def learner_callbacks(
    run: TrainingRun,
    directory: RunDirectory,
    judge: Judge,
    spec: CanonicalSpec,
    logger: TensorBoardLogger,
    alignment: AlignmentReport,
    signals: stop_signals.StopSignals,
) -> list[lightning.Callback]:
    """Return the callbacks in the order they act."""
    average = weight_average.WeightAverage(run.optimizer.ema_decay) if run.optimizer.ema_decay else None
    predictions = val_predictions.ValPredictions(torch.from_numpy(judge.selection.rows["val"]))
    rows, folds = judge.rows_on(spec), judge.folds()
    calibration = calibration_fitting.CalibrationFitting(predictions, rows, folds, run.calibration)
    reliability = reliability_metrics.ReliabilityMetrics(predictions, folds, run.calibration)
    norms = gradient_norms.GradientNorms(run.optimizer.gradient_clip_norm) if run.trainer.gradient_norms else None
    clock = throughput.Throughput(directory.path / "timings.json")
    history = epoch_history.EpochHistory(directory.path / "history.json", reliability, calibration, norms)
    return [
        provenance.Provenance(directory, alignment),
        run_phases.PhaseRecord(directory),
        run_lock.RunLockGuard(directory),
        signals,
        step_seed.StepSeed(run.run.seed),
        *([] if average is None else [average]),
        predictions,
        calibration,
        reliability,
        *([] if norms is None else [norms]),
        *_weight_statistics(run, directory),
        clock,
        history,
        watchdog.Watchdog(history, directory.best, average),
        *(
            [tensorboard_curves.TensorBoardCurves(logger, history, clock, predictions, norms)]
            if directory.writes
            else []
        ),
        *([run_progress.RunProgress(history, clock)] if directory.writes else []),
        *([early_stopping.EarlyStopping(history, run.stage.patience)] if run.stage.patience else []),
        mid_epoch_checkpoint.MidEpochCheckpoint(
            directory, signals, minutes=run.trainer.checkpoint_every_minutes, accumulate=run.stage.accumulate
        ),
        best_and_last.BestAndLast(directory, history, average),
    ]
