"""The end of a sweep, whatever its jobs have made: where that is, and the leaderboard of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fer_lightning.pipeline.config import TrainingRun
from fer_lightning.pipeline.ensembles.config import FuseEnsembleRun
from fer_lightning.pipeline.teachers.two_stage_config import TrainTwoStageRun


def directories_of(run: object, ensembles: Mapping[Path, FuseEnsembleRun]) -> list[Path]:
    """Return where the teachers or the ensemble of a job are, or would be.

    Args:
        run: the typed run; None where it could not be made.
        ensembles: folder -> run, of the ensembles of the sweep so far.
    """
    if isinstance(run, FuseEnsembleRun):
        return [folder for folder, known in ensembles.items() if known is run]
    if not isinstance(run, TrainingRun):
        return []

    if not isinstance(run, TrainTwoStageRun):
        return [run.directory]
    stage_a = run.stage_a_run().directory
    return [stage_a, run.stage_b_run(stage_a.as_posix()).directory]


def compared_kinds(sweep_dir: Path) -> list[str]:
    """Return the folders of a sweep for which there is a leaderboard."""
    return [kind for kind in ("teachers", "ensembles") if (sweep_dir / kind).is_dir()]


def compare_jobs(
    sweep_dir: Path,
    ensembles: Mapping[Path, FuseEnsembleRun],
    refused: Sequence[tuple[str, str, Sequence[Path]]],
) -> None:
    """Compare the teachers, or else the ensembles, of a sweep whose jobs have ended.

    Args:
        sweep_dir: folder of the sweep.
        ensembles: folder -> run, of the jobs of this command.
        refused: job, reason and folders, of jobs that did not get to their end.

    Raises:
        FerError: the folder cannot be written.
    """
    if "teachers" in compared_kinds(sweep_dir):
        from fer_lightning.pipeline.compare_runs import compare_sweep  # scipy: half a second

        compare_sweep(sweep_dir, refused)
    else:
        from fer_lightning.pipeline.sweeps.fuse_in_sweep import compare_ensemble_sweep

        compare_ensemble_sweep(sweep_dir, ensembles, refused)
