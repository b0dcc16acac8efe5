"""Records of a sweep's jobs: numbers that stay, outcomes of one command, and jobs that start at the same time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fer_lightning.errors import FerError, TrainingError
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.sweep_jobs import (
    NOT_ENDED,
    SweepJob,
    begin_job,
    begin_sweep,
    end_job,
    jobs_of_last_call,
    option_of,
    read_jobs,
    record_bug,
)


@pytest.mark.parametrize(
    ("override", "option"),
    [("run.seed=1", "run.seed"), ("+sweep=seeds", "sweep"), ("++a.b='c=d'", "a.b"), ("loss@x=focal", "loss")],
)
def test_the_option_of_an_override(override: str, option: str) -> None:
    assert option_of(override) == option


def test_a_job_is_failed_until_it_ends(tmp_path: Path) -> None:
    begin_sweep(tmp_path, ["stage.epochs"])
    job = begin_job(tmp_path, 0, ["stage.epochs=3", "run.seed=1"])
    assert (job.name, job.values, job.outcome, job.exit_code) == ("job 0 (run.seed=1)", ["run.seed=1"], "failed", 1)
    assert read_jobs(tmp_path)[0].message == NOT_ENDED
    end_job(tmp_path, job, directories=[tmp_path / "teachers" / "x"], objective=0.5)
    (ended,) = read_jobs(tmp_path)
    assert (ended.outcome, ended.exit_code, ended.message) == ("finished", 0, "")
    assert (ended.directories, ended.objective) == (["teachers/x"], 0.5)


def test_a_refusal_keeps_its_reason_and_exit_code(tmp_path: Path) -> None:
    begin_sweep(tmp_path, [])
    end_job(tmp_path, begin_job(tmp_path, 4, ["a=1"]), refused=TrainingError("non-finite loss"))
    (job,) = read_jobs(tmp_path)
    assert (job.number, job.outcome, job.exit_code, job.message) == (4, "refused", 5, "non-finite loss")


def test_a_bug_is_recorded_with_its_kind(tmp_path: Path) -> None:
    begin_sweep(tmp_path, [])
    begin_job(tmp_path, 0, ["a=1"])
    begin_job(tmp_path, 1, ["a=2"])
    assert record_bug(tmp_path, ["a=2"], ValueError("wrong\nshape")) == "job 1 (a=2)"
    assert [job.message for job in read_jobs(tmp_path)] == [NOT_ENDED, "a bug: ValueError: wrong"]


def test_a_point_keeps_its_number_and_another_one_takes_a_free_one(tmp_path: Path) -> None:
    begin_sweep(tmp_path, [])
    for number, value in enumerate(("a=1", "a=2", "a=3")):
        begin_job(tmp_path, number, [value, "b=1"])
    begin_sweep(tmp_path, ["run.on_existing"])
    again = begin_job(tmp_path, 0, ["b=1", "a=3", "run.on_existing=resume"])
    assert (again.number, again.values) == (2, ["b=1", "a=3"])
    assert begin_job(tmp_path, 1, ["a=4", "b=1", "run.on_existing=resume"]).number == 3
    assert begin_job(tmp_path, 9, ["a=5", "b=1", "run.on_existing=resume"]).number == 9


def test_only_jobs_of_the_last_command_are_its_own(tmp_path: Path) -> None:
    assert jobs_of_last_call(tmp_path) == []
    begin_sweep(tmp_path, [])
    end_job(tmp_path, begin_job(tmp_path, 0, ["run.seed=-1"]), refused=FerError("run.seed must lie in 0"))
    begin_job(tmp_path, 1, ["run.seed=1"])
    begin_sweep(tmp_path, [])
    begin_job(tmp_path, 1, ["run.seed=1"])
    assert [job.number for job in jobs_of_last_call(tmp_path)] == [1]
    assert [job.number for job in read_jobs(tmp_path)] == [0, 1]


def test_jobs_that_start_at_once_take_numbers_of_their_own(tmp_path: Path) -> None:
    begin_sweep(tmp_path, [])
    with ThreadPoolExecutor(8) as threads:
        jobs = list(threads.map(lambda value: begin_job(tmp_path, 0, [f"a={value}"]), range(24)))
    assert sorted(job.number for job in jobs) == list(range(24))
    assert [read_artifact(tmp_path / "jobs" / f"job{job.number}.json", SweepJob) for job in jobs] == jobs


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(FerError, match=r"cannot write to .*taken/jobs: .*; choose another hydra.sweep.dir"):
        begin_sweep(tmp_path / "taken", [])
    with pytest.raises(FerError, match="no file .*sweep.json"):
        begin_job(tmp_path, 0, [])
