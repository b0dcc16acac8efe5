"""Ensembles of a sweep: jobs that share logits and leave the slow comparison out, and one leaderboard at the end."""

import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fer_lightning.errors import FerError
from fer_lightning.pipeline.ensembles.config import FuseEnsembleRun
from fer_lightning.pipeline.ensembles.fused_teachers import open_fused_teachers
from fer_lightning.pipeline.fuse_ensemble import compare_finished, fuse
from fer_lightning.runs.run_dir import read_config

log = logging.getLogger(__name__)


def fuse_in_sweep(run: FuseEnsembleRun, sweep_dir: Path, folders: list[Path]) -> None:
    """Fuse the ensemble of one job below the sweep's folder; stored logits stay below `run.root`, where all commands share them.

    Args:
        run: the typed run.
        sweep_dir: folder of the sweep.
        folders: the ensemble's is added as soon as it is known.

    Raises:
        FinishedRunError: an earlier call of the sweep has fused this very ensemble.
        FerError: as `fuse_ensemble`, or `evaluate.output_dir`.
    """
    if run.evaluate.output_dir is not None:
        raise FerError("evaluate.output_dir has no effect in a sweep, whose ensembles go below hydra.sweep.dir")
    run.evaluate.output_dir = str(sweep_dir / "ensembles")
    opened = open_fused_teachers(run)
    folders.append(opened.folder)
    fuse(run, opened, compared=False)


def _run_of(folder: Path) -> FuseEnsembleRun:
    """Return the typed run that made an ensemble, in whatever process.

    Raises:
        FerError: no record of it, or one of another version.
    """
    try:
        return TypeAdapter(FuseEnsembleRun).validate_python(read_config(folder))
    except ValidationError as error:
        raise FerError(f"{folder / 'config.yaml'} is of another version: {error.errors()[0]['msg']}") from error


def _compare_best(folders: Sequence[Path]) -> None:
    """Hold the best ensemble of each set of val rows against its best single teacher, unless that was done before."""
    from fer_lightning.pipeline.sweeps.leaderboard_files import attempt
    from fer_lightning.runs.ensemble_comparison import compare_ensembles
    from fer_lightning.runs.finished_ensemble import read_finished_ensemble

    finished, _ = attempt(folders, read_finished_ensemble)
    tables = compare_ensembles(finished, Path(), split_by_rows=True).tables if finished else []
    for best in (table.ensembles[0] for table in tables):
        (ensemble,) = (one for one in finished if one.path.name == best.name)
        if best.against_best_teacher:
            continue
        run = _run_of(ensemble.path)
        if run.evaluate.num_resamples:
            log.info("comparing the best on val, %s, with its best single teacher", best.name)
            compare_finished(run, ensemble)


def compare_ensemble_sweep(sweep_dir: Path, refused: Sequence[tuple[str, str, Sequence[Path]]]) -> None:
    """Rank the ensembles of a sweep once its jobs have ended; without a finished one there is nothing to say.

    Args:
        sweep_dir: folder of the sweep.
        refused: job, reason and folders, of jobs that did not get to their end.

    Raises:
        FerError: the folder cannot be written.
    """
    from fer_lightning.pipeline.sweeps.leaderboard_files import attempt, publish, with_refused
    from fer_lightning.runs.ensemble_comparison import compare_ensembles
    from fer_lightning.runs.finished_ensemble import read_finished_ensemble

    folders = sorted((sweep_dir / "ensembles").glob("*/"))
    _compare_best(folders)
    finished, left_out = attempt(folders, read_finished_ensemble)
    if not finished:
        log.warning("%s holds no finished ensemble: nothing to compare", sweep_dir)
        return
    board = compare_ensembles(finished, sweep_dir, split_by_rows=True, left_out=with_refused(left_out, refused))
    publish(board, sweep_dir)
