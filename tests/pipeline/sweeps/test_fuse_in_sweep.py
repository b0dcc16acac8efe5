"""Ensembles of a sweep: shared logits, one comparison at the end, restarts, and the command line around it."""

import logging
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from fer_lightning.errors import FerError, FinishedRunError
from fer_lightning.pipeline.ensembles import judged_teachers
from fer_lightning.pipeline.ensembles.config import EnsembleConfig, FuseEnsembleRun
from fer_lightning.pipeline.evaluation.config import EvaluationTarget
from fer_lightning.pipeline.fuse_ensemble import fuse_ensemble
from fer_lightning.pipeline.sweeps.fuse_in_sweep import compare_ensemble_sweep, fuse_in_sweep
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.ensemble_board import EnsembleBoard
from fer_lightning.runs.finished_ensemble import read_finished_ensemble
from fer_lightning.runs.run_dir import read_config
from fer_lightning.training.ensemble_judging import judge_on_splits
from tests.runs.stored_teachers import write_teachers
from tests.test_cli import command

WEIGHTS = ([1.0, 0.0, 0.0], [0.5, 0.3, 0.2], [0.0, 0.0, 1.0])


def run_of(root: Path, teachers: list[str], weights: list[float], **target: Any) -> FuseEnsembleRun:
    return FuseEnsembleRun(
        run=RunConfig(root=str(root / "experiments")),
        evaluate=EvaluationTarget(**{"num_resamples": 100, **target}),
        ensemble=EnsembleConfig(teachers=teachers, weights=weights),
    )


def swept(root: Path, teachers: list[str], weights: Any = WEIGHTS, **target: Any) -> list[Path]:
    folders: list[Path] = []
    for some in weights:
        fuse_in_sweep(run_of(root, teachers, some, **target), root / "sweep", folders)
    return folders


def board(sweep: Path) -> EnsembleBoard:
    return read_artifact(sweep / "leaderboard.json", EnsembleBoard)


def test_jobs_go_below_the_sweep_and_logits_stay_where_they_are_shared(tmp_path: Path) -> None:
    folders = swept(tmp_path, write_teachers(tmp_path / "t"))
    assert {folder.parent for folder in folders} == {tmp_path / "sweep" / "ensembles"}
    assert {read_config(folder)["run"]["root"] for folder in folders} == {str(tmp_path / "experiments")}
    assert all(
        {path.name for path in folder.iterdir()} - {".run.lock.guard"}
        == {
            "config.yaml",
            "ensemble.json",
            "ensemble_metrics.json",
        }
        for folder in folders
    )


def test_teachers_are_judged_once_for_all_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = Mock(side_effect=judge_on_splits)
    monkeypatch.setattr(judged_teachers, "judge_on_splits", once)
    swept(tmp_path, write_teachers(tmp_path / "t"))
    assert once.call_count == 3


def test_a_manifest_without_test_rows_is_looked_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    swept(tmp_path, write_teachers(tmp_path / "t", num_test=0))
    assert len([line for line in caplog.messages if "judged on val alone" in line]) == 1


def test_the_end_compares_the_best_on_val_and_ranks_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    folders = swept(tmp_path, write_teachers(tmp_path / "t"))
    before = {folder: (folder / "ensemble.json").read_bytes() for folder in folders}
    compare_ensemble_sweep(tmp_path / "sweep", [("job 3 (x)", "refused", [])])
    (table,) = board(tmp_path / "sweep").tables
    assert [ensemble.weights["RN18"] for ensemble in table.ensembles] == [0.5, 1.0, 0.0]
    assert [len(ensemble.against_best_teacher) for ensemble in table.ensembles] == [2, 0, 0]
    assert [(item.run, item.reason) for item in board(tmp_path / "sweep").left_out] == [("job 3 (x)", "refused")]
    assert {folder: (folder / "ensemble.json").read_bytes() for folder in folders} == before
    assert f"its best single teacher {table.ensembles[0].best_teacher} on test" in caplog.text
    compared = [line for line in caplog.messages if line.startswith("comparing the best on val")]
    compare_ensemble_sweep(tmp_path / "sweep", [])
    assert [line for line in caplog.messages if line.startswith("comparing the best on val")] == compared


def test_a_job_equals_the_same_ensemble_by_itself(tmp_path: Path) -> None:
    teachers = write_teachers(tmp_path / "t")
    folders = swept(tmp_path, teachers, WEIGHTS[1:2])
    compare_ensemble_sweep(tmp_path / "sweep", [])
    fuse_ensemble(run_of(tmp_path, teachers, WEIGHTS[1]))
    (of_job,), (alone,) = folders, list((tmp_path / "experiments" / "ensembles").iterdir())
    assert of_job.name == alone.name
    for name in ("ensemble.json", "ensemble_metrics.json"):
        assert (of_job / name).read_bytes() == (alone / name).read_bytes()


def test_a_restarted_sweep_skips_what_is_done_and_does_the_rest(tmp_path: Path) -> None:
    teachers = write_teachers(tmp_path / "t")
    first = swept(tmp_path, teachers, WEIGHTS[:2])
    (next(iter(first)) / "ensemble.json").unlink()  # as if it had been killed
    folders: list[Path] = []
    skipped = []
    for weights in WEIGHTS:
        try:
            fuse_in_sweep(run_of(tmp_path, teachers, weights), tmp_path / "sweep", folders)
        except FinishedRunError as error:
            skipped.append(str(error))
    assert len(skipped) == 1
    assert list(first)[1].name in skipped[0]
    assert len(folders) == 3
    compare_ensemble_sweep(tmp_path / "sweep", [])
    assert len(board(tmp_path / "sweep").tables[0].ensembles) == 3


def test_without_resamples_the_end_compares_nothing(tmp_path: Path) -> None:
    folders = swept(tmp_path, write_teachers(tmp_path / "t"), num_resamples=0)
    compare_ensemble_sweep(tmp_path / "sweep", [])
    assert all(not read_finished_ensemble(folder).metrics.against_best_teacher for folder in folders)


def test_an_unfinished_ensemble_is_left_out_and_a_refused_one_only_once(tmp_path: Path) -> None:
    folders = swept(tmp_path, write_teachers(tmp_path / "t"))
    folder = next(iter(folders))
    (folder / "ensemble.json").unlink()
    compare_ensemble_sweep(tmp_path / "sweep", [])
    (left_out,) = board(tmp_path / "sweep").left_out
    assert left_out.reason == "is not finished: there is no ensemble.json in it"
    compare_ensemble_sweep(tmp_path / "sweep", [("job 0", "the disk was full", [folder])])
    assert [item.run for item in board(tmp_path / "sweep").left_out] == ["job 0"]


def test_nothing_finished_is_nothing_to_compare(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "sweep" / "ensembles").mkdir(parents=True)
    compare_ensemble_sweep(tmp_path / "sweep", [])
    assert "holds no finished ensemble" in caplog.text
    assert not (tmp_path / "sweep" / "leaderboard.json").exists()


def test_a_folder_of_ones_own_has_no_effect_in_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(FerError, match=r"evaluate.output_dir has no effect in a sweep"):
        swept(tmp_path, write_teachers(tmp_path / "t"), output_dir="mine")


def test_a_sweep_over_weights_and_spaces_from_the_command_line(tmp_path: Path) -> None:
    teachers = write_teachers(tmp_path / "t", num_val=120, num_test=60)
    common = ["-m", "task=fuse_ensemble", f"ensemble.teachers=[{','.join(teachers)}]", "evaluate.num_resamples=100"]
    common += ["ensemble.space=logit,prob", "hydra.sweep.dir=sw"]
    answer = command(*common, "ensemble.weights=[0.4,0.4,0.2],[0.3,0.7,0.0],[0.3,0.8,0.0]", folder=tmp_path)
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    assert "ensemble.weights must sum to 1, got [0.3, 0.8, 0.0], whose sum is 1.1" in answer.stderr
    first = board(tmp_path / "sw")
    assert [item.run for item in first.left_out] == [
        f"job {number} (ensemble.space={space} ensemble.weights=[0.3,0.8,0.0])"
        for number, space in ((2, "logit"), (5, "prob"))
    ]
    assert sorted((one.space, one.weights["B3"]) for one in first.tables[0].ensembles) == [
        ("logit", 0.4),
        ("logit", 0.7),
        ("prob", 0.4),
        ("prob", 0.7),
    ]
    assert not (tmp_path / "experiments" / "ensembles").exists()
    answer = command(*common, "ensemble.weights=[0.4,0.4,0.2],[1,0,0]", folder=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.count("holds this very ensemble already") == 2
    again = board(tmp_path / "sw")
    assert (len(again.tables[0].ensembles), again.left_out) == (6, [])
