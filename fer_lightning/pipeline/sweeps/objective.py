"""What a job of a sweep has made: its folders, and the figure that a search over jobs maximises."""

from collections.abc import Sequence
from pathlib import Path

from fer_lightning.pipeline.config import TrainingRun
from fer_lightning.pipeline.teachers.two_stage_config import TrainTwoStageRun
from fer_lightning.runs.artifacts import ReliabilityMetrics, read_artifact
from fer_lightning.runs.ensemble import ENSEMBLE_METRICS_FILE, EnsembleMetrics

VERBS_WITH_OBJECTIVE = ("train_teacher", "distill_student", "train_two_stage", "fuse_ensemble")


def directories_of(run: object) -> list[Path]:
    """Return where the runs of a training job are, or would be, the last stage last; none for other verbs."""
    if not isinstance(run, TrainingRun):
        return []
    if not isinstance(run, TrainTwoStageRun):
        return [run.directory]
    stage_a = run.stage_a_run().directory
    return [stage_a, run.stage_b_run(stage_a.as_posix()).directory]


def objective_of(task: str, directories: Sequence[Path]) -> float | None:
    """Return what a search over jobs maximises, as the finished job has recorded it: macro-F1 on val, uncalibrated.

    Of teachers and students it is that of best.pt, of two stages that of Stage B's best.pt, of an ensemble its own.

    Args:
        task: the verb.
        directories: of the job's runs or its ensemble, the last stage last.

    Returns:
        The figure; None for verbs without one.

    Raises:
        FerError: the record is missing or damaged.
    """
    if task not in VERBS_WITH_OBJECTIVE:
        return None
    if task == "fuse_ensemble":
        return read_artifact(directories[-1] / ENSEMBLE_METRICS_FILE, EnsembleMetrics).evaluated[0].raw.macro_f1
    return read_artifact(directories[-1] / "reliabilitymetrics.json", ReliabilityMetrics).best.raw.macro_f1
