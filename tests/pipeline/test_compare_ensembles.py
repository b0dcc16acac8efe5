"""The verb `compare_runs` on ensembles: which are named, what is refused, where the leaderboard goes."""

from pathlib import Path
from typing import Any

import pytest

from fer_lightning.errors import FerError
from fer_lightning.pipeline.compare_runs import compare_runs
from fer_lightning.pipeline.config import CompareRunsRun, Comparison, TrainTeacherRun
from fer_lightning.pipeline.ensembles.config import EnsembleConfig, FuseEnsembleRun
from fer_lightning.pipeline.evaluation.config import EvaluationTarget
from fer_lightning.pipeline.fuse_ensemble import fuse_ensemble
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.ensemble_board import EnsembleBoard
from tests.runs.finished_runs import write_finished_run
from tests.runs.stored_teachers import write_teachers


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished ensembles."""
    root = tmp_path_factory.mktemp("ensembles")
    teachers = write_teachers(root / "t")
    for weights in ([0.5, 0.3, 0.2], [0.0, 0.0, 1.0]):
        fuse_ensemble(
            FuseEnsembleRun(
                run=RunConfig(root=str(root)),
                evaluate=EvaluationTarget(num_resamples=0),
                ensemble=EnsembleConfig(teachers=teachers, weights=weights),
            )
        )
    return root


def compared(*runs: str, **options: Any) -> None:
    compare_runs(CompareRunsRun(compare=Comparison(runs=[*runs], **options)))


@pytest.mark.parametrize("named", ["{}", "{}/ensembles", "{}/ensembles/*", "{}/ensembles/RN18*"])
def test_ensembles_are_ranked_however_they_are_named(root: Path, named: str) -> None:
    compared(named.format(root))
    (table,) = read_artifact(root / "ensembles" / "leaderboard.json", EnsembleBoard).tables
    assert [ensemble.weights["RN18"] for ensemble in table.ensembles] == [0.5, 0.0]
    assert [Path(ensemble.path).parent for ensemble in table.ensembles] == [Path()] * 2
    for name in ("leaderboard.md", "leaderboard.csv", "leaderboard.html"):
        assert "RN18" in (root / "ensembles" / name).read_text("utf-8")


def test_an_unfinished_ensemble_is_left_out(root: Path, tmp_path: Path) -> None:
    unfinished = root / "ensembles" / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.yaml").write_text("task: fuse_ensemble\n")
    try:
        compared(f"{root}/ensembles", output_dir=str(tmp_path))
    finally:
        (unfinished / "config.yaml").unlink()
        unfinished.rmdir()
    (left_out,) = read_artifact(tmp_path / "leaderboard.json", EnsembleBoard).left_out
    assert left_out.reason == "is not finished: there is no ensemble.json in it"


def test_teachers_and_ensembles_do_not_meet_in_one_table(root: Path, tmp_path: Path) -> None:
    teacher = write_finished_run(tmp_path, TrainTeacherRun())
    with pytest.raises(FerError, match=r"names ensembles .* and what is none .*; compare one kind at a time"):
        compared(f"{root}/ensembles", str(teacher))


def test_a_baseline_is_for_teachers(root: Path) -> None:
    with pytest.raises(FerError, match=r"compare.baseline takes differences of trained runs"):
        compared(f"{root}/ensembles", baseline="RN18")


def test_damaged_ensembles_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ensembles" / "e").mkdir(parents=True)
    for name in ("config.yaml", "ensemble.json"):
        (tmp_path / "ensembles" / "e" / name).write_text("{}")
    with pytest.raises(FerError, match="none of the 1 ensembles can be compared"):
        compared(str(tmp_path / "ensembles"))
