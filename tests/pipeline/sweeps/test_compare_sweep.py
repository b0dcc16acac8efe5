"""The end of a sweep over trained runs: leaderboard with refused jobs, response figure, exit code; no training."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from fer_lightning.errors import FerError, TrainingError
from fer_lightning.pipeline.config import TrainTeacherRun
from fer_lightning.pipeline.sweeps.compare_sweep import compare_sweep
from fer_lightning.pipeline.sweeps.objective import objective_of
from fer_lightning.pipeline.sweeps.sweep_end import end_sweep
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.leaderboard import Leaderboard
from fer_lightning.runs.sweep_jobs import begin_job, begin_sweep, end_job, read_jobs, record_bug
from tests.runs.finished_runs import VAL_ROWS, metrics, teacher, write_finished_run


def board(folder: Path) -> Leaderboard:
    return read_artifact(folder / "leaderboard.json", Leaderboard)


def swept(sweep: Path, values: Sequence[float], *, first_val_rows: str = VAL_ROWS) -> None:
    """Write the finished jobs of a sweep over learning rates and two seeds."""
    begin_sweep(sweep, [])
    for number, (lr, seed) in enumerate((lr, seed) for lr in values for seed in (1, 2)):
        run = TrainTeacherRun()
        run.run.seed, run.run.tag, run.optimizer.lr = seed, f"job{number}", lr
        path = write_finished_run(sweep, run, metrics(0.5 + lr), val_rows=VAL_ROWS if number else first_val_rows)
        job = begin_job(sweep, number, [f"optimizer.lr={lr}", f"run.seed={seed}"])
        end_job(sweep, job, directories=[path], objective=objective_of("train_teacher", [path]))


def test_a_sweep_is_compared_with_its_refused_jobs_named(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_finished_run(tmp_path, teacher(seed))
    write_finished_run(tmp_path, teacher(3), val_rows="0b" * 32)
    unfinished, torn = (write_finished_run(tmp_path, teacher(seed)) for seed in (4, 5))
    (unfinished / "best.pt").unlink()
    (torn / "config.yaml").write_text("[", encoding="utf-8")
    refused = [
        ("job 3 (run.seed=-1)", "run.seed must lie in 0..4294967295, got -1", []),
        ("job 4 (run.seed=4)", "non-finite loss", [unfinished]),
    ]
    compare_sweep(tmp_path, refused)
    found = board(tmp_path)
    assert len(found.tables) == 2
    assert [item.run for item in found.left_out] == [str(torn), "job 3 (run.seed=-1)", "job 4 (run.seed=4)"]
    assert found.left_out[0].reason.startswith("config.yaml is damaged: ")


def test_students_are_compared_like_teachers(tmp_path: Path) -> None:
    write_finished_run(tmp_path, teacher(1))
    write_finished_run(tmp_path / "other", teacher(2))
    (tmp_path / "other" / "teachers").rename(tmp_path / "students")
    compare_sweep(tmp_path, [])
    (recipe,) = board(tmp_path).tables[0].recipes
    assert [run.partition("/")[0] for run in recipe.runs] == ["teachers", "students"]


def test_a_sweep_without_a_finished_run_leaves_no_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    compare_sweep(tmp_path, [("job 0", "refused", [])])
    assert "no finished run: nothing to compare" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_the_response_is_drawn_and_told_with_the_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    swept(tmp_path, [1e-4, 1e-3, 1e-2])
    assert end_sweep(tmp_path) == 0
    assert (tmp_path / "response.png").read_bytes().startswith(b"\x89PNG")
    told = f"wrote {tmp_path / 'leaderboard.md'}, .csv, .html and .json; {tmp_path / 'response.png'}"
    assert told in caplog.messages
    assert [job.objective for job in read_jobs(tmp_path)] == pytest.approx([0.5001] * 2 + [0.501] * 2 + [0.51] * 2)


def test_a_sweep_of_seeds_has_no_response(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    swept(tmp_path, [1e-3])
    assert end_sweep(tmp_path) == 0
    assert not (tmp_path / "response.png").exists()
    assert f"wrote {tmp_path / 'leaderboard.md'}, .csv, .html and .json" in caplog.messages


def test_runs_of_different_rows_are_not_drawn_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    swept(tmp_path, [1e-3, 1e-2], first_val_rows="0b" * 32)
    assert end_sweep(tmp_path) == 0
    assert "judged on different val rows" in caplog.text
    assert not (tmp_path / "response.png").exists()


def test_the_exit_code_is_that_of_the_last_refused_job(tmp_path: Path) -> None:
    swept(tmp_path, [1e-3])
    for number, error in ((7, TrainingError("non-finite loss")), (8, FerError("a wrong value"))):
        end_job(tmp_path, begin_job(tmp_path, number, [f"a={number}"]), refused=error)
    assert end_sweep(tmp_path) == 2
    end_job(tmp_path, begin_job(tmp_path, 9, ["a=9"]), refused=TrainingError("non-finite loss"))
    assert end_sweep(tmp_path) == 5
    assert [item.run for item in board(tmp_path).left_out] == ["job 7 (a=7)", "job 8 (a=8)", "job 9 (a=9)"]


def test_a_bug_does_not_hide_behind_other_refusals(tmp_path: Path) -> None:
    swept(tmp_path, [1e-3])
    begin_job(tmp_path, 4, ["a=4"])
    record_bug(tmp_path, ["a=4"], KeyError("x"))
    end_job(tmp_path, begin_job(tmp_path, 5, ["a=5"]), refused=FerError("a wrong value"))
    assert end_sweep(tmp_path) == 1
    assert [item.reason for item in board(tmp_path).left_out] == ["a bug: KeyError: 'x'", "a wrong value"]


def test_refusals_of_an_earlier_command_are_forgotten(tmp_path: Path) -> None:
    swept(tmp_path, [1e-3])
    end_job(tmp_path, begin_job(tmp_path, 8, ["a=8"]), refused=FerError("a wrong value"))
    begin_sweep(tmp_path, [])
    assert end_sweep(tmp_path) == 0
    assert board(tmp_path).left_out == []


def test_verbs_without_a_figure_have_no_objective(tmp_path: Path) -> None:
    assert objective_of("evaluate", []) is None
    with pytest.raises(FerError, match="no file .*reliabilitymetrics.json"):
        objective_of("train_teacher", [tmp_path])
