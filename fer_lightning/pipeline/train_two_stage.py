"""Trains Stage A, then Stage B from its weights: two runs from one command, continued where they were left."""

import gc
import logging
from pathlib import Path

from fer_lightning.errors import FerError, FinishedRunError
from fer_lightning.files import sha256_of
from fer_lightning.pipeline.config import TrainTeacherRun
from fer_lightning.pipeline.learning.preparation import select_training_rows
from fer_lightning.pipeline.rows.seen_in_training import refuse_seen
from fer_lightning.pipeline.teachers.two_stage_config import TrainTwoStageRun
from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.reports.tables import text_table
from fer_lightning.runs.artifacts import AlignmentReport, ReliabilityMetrics, read_artifact
from fer_lightning.runs.phases import finished_epochs, read_phases
from fer_lightning.runs.ranks import leads
from fer_lightning.runs.run_dir import check_existing_run

log = logging.getLogger(__name__)

_FIGURES = ("accuracy", "macro_f1", "minority_f1", "nll", "ece")
_SHOWN_OF_A_FINGERPRINT = 12


def _check_directories(stage_a: TrainTeacherRun, stage_b: TrainTeacherRun) -> None:
    """Refuse, before hours of Stage A, directories that either stage could not use."""
    on_existing = stage_a.run.on_existing
    check_existing_run(stage_a.directory, stage_a, on_existing=on_existing)
    try:
        check_existing_run(stage_b.directory, stage_b, on_existing=on_existing)
    except FerError as error:
        raise FerError(
            f"Stage B, whose options are stage_b.* and source_filter_b.* of this command: {error}"
        ) from error
    if (stage_b.directory / "checkpoint_last.pt").exists():
        _check_start_of_stage_b(stage_a, stage_b)


def _check_start_of_stage_b(stage_a: TrainTeacherRun, stage_b: TrainTeacherRun) -> None:
    """A Stage B that has begun is not started again; it must have been started from Stage A as it is now."""
    path_a, path_b = stage_a.directory, stage_b.directory
    way_out = "Train another pair with run.tag=<name>."
    phases = read_phases(path_a)
    done = bool(phases) and phases[-1].end_epoch == stage_a.stage.epochs and finished_epochs(path_a, phases[-1])
    if not done:
        raise FerError(
            f"Stage B has begun in {path_b}, and Stage A in {path_a} is not finished with stage.epochs={stage_a.stage.epochs}: "
            f"what it would still learn could not reach Stage B. {way_out}"
        )
    start = read_artifact(path_b / "alignmentreport.json", AlignmentReport).starting_weights
    if start.source_sha256 != sha256_of(path_a / "best.pt"):
        raise FerError(f"Stage B in {path_b} was started from {start.source}, which has changed since. {way_out}")


def _check_rows(stage_a: TrainTeacherRun, stage_b: TrainTeacherRun) -> None:
    """Refuse, before hours of Stage A, rows that Stage B could not use: val rows that Stage A trains on above all."""
    first, second = select_training_rows(stage_a), select_training_rows(stage_b)
    try:
        allowed = {*stage_b.data.allow_leaks}
        refuse_seen(second, "val", first.manifest, first.rows["train"], stage_b.data, allowed=allowed)
    except FerError as error:
        raise FerError(f"Stage B would be judged on rows that Stage A trains on. {error}") from error


def _train(stage: str, run: TrainTeacherRun) -> bool:
    """Train a stage, or go on with it; return whether anything was left to do."""
    log.info("%s: %s", stage, run.directory)
    try:
        train_teacher(run)
    except FinishedRunError:
        log.info("%s is finished and used as it is", stage)
        return False
    return True


def _stages_table(paths: dict[str, Path]) -> str:
    """Return the figures of each stage's best.pt with the rows they are of."""
    rows = []
    for stage, path in paths.items():
        best = read_artifact(path / "reliabilitymetrics.json", ReliabilityMetrics).best
        figures = [f"{getattr(best.raw, name):.4f}" for name in _FIGURES]
        rows.append(
            [stage, str(best.epoch + 1), str(best.n), best.row_set_fingerprint[:_SHOWN_OF_A_FINGERPRINT], *figures]
        )
    return text_table(["best.pt, raw", "epoch", "val rows", "row set", *_FIGURES], rows)


def _comparability(path_a: Path, path_b: Path) -> str:
    """Say whether figures of the two stages may be compared, and if not, which rows differ."""
    first, second = (read_artifact(path / "alignmentreport.json", AlignmentReport) for path in (path_a, path_b))
    if first.row_set_fingerprints["val"] == second.row_set_fingerprints["val"]:
        return "Both stages were judged on the same val rows: their figures are comparable."
    counts = [
        {source: splits.get("val", 0) for source, splits in report.source_counts_after_filter.items()}
        for report in (first, second)
    ]
    differing = [
        f"{source} {counts[0].get(source, 0)} and {counts[1].get(source, 0)}"
        for source in sorted({*counts[0], *counts[1]})
        if counts[0].get(source, 0) != counts[1].get(source, 0)
    ]
    why = f"val rows of {', '.join(differing)}" if differing else "not the same rows within their sources"
    return (
        "The stages were judged on different val rows: their figures are NOT comparable. "
        f"source_filter {first.source_filter} and {second.source_filter}: {why}."
    )


def train_two_stage(run: TrainTwoStageRun) -> None:
    """Train Stage A, then Stage B; each leaves the run directory it would leave by itself.

    With `run.on_existing=resume` a finished stage is used as it is and an unfinished one goes on.

    Raises:
        FerError: see `train_teacher`; what can be known about Stage B is refused before Stage A.
        FinishedRunError: both stages were complete.
    """
    stage_a = run.stage_a_run()
    stage_b = run.stage_b_run(stage_a.directory.as_posix())
    paths = {"Stage A": stage_a.directory, "Stage B": stage_b.directory}
    _check_directories(stage_a, stage_b)
    _check_rows(stage_a, stage_b)
    trained = [_train("Stage A", stage_a)]
    gc.collect()  # the network of Stage A hangs in reference cycles, and its device memory with it
    trained.append(_train("Stage B", stage_b))
    if leads():
        log.info("%s", _stages_table(paths))
        log.info("%s", _comparability(*paths.values()))
    if not any(trained):
        raise FinishedRunError(
            f"both stages are complete: nothing to resume in {paths['Stage A']} and {paths['Stage B']}. "
            "Train another pair with run.tag=<name>."
        )
