"""The verb `compare_runs` on hand-written runs: what it takes, writes and refuses."""

import logging
from pathlib import Path

import pytest

from fer_lightning.errors import FerError
from fer_lightning.pipeline.compare_runs import compare_runs
from fer_lightning.pipeline.config import CompareRunsRun, Comparison
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.evaluation_board import EvaluationBoard
from fer_lightning.runs.leaderboard import Leaderboard
from tests.runs.finished_evaluations import write_evaluation
from tests.runs.finished_runs import metrics, teacher, write_finished_run
from tests.runs.finished_students import student, write_student


def two_seeds(root: Path) -> list[Path]:
    return [write_finished_run(root, teacher(seed), metrics(0.5 + seed / 10)) for seed in (1, 2)]


def compared(runs: list[str], **options: object) -> None:
    compare_runs(CompareRunsRun(compare=Comparison(runs=runs, **options)))  # type: ignore[arg-type]


def board(folder: Path) -> Leaderboard:
    return read_artifact(folder / "leaderboard.json", Leaderboard)


def test_all_runs_below_the_root_are_compared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    two_seeds(tmp_path)
    compare_runs(CompareRunsRun(run=RunConfig(root=str(tmp_path))))
    folder = tmp_path / "teachers"
    assert board(folder).tables[0].recipes[0].seeds == [1, 2]
    assert ".6500±.0707" in caplog.text
    assert "0.6500 ± 0.0707 [0.0147, 1.2853]" in (folder / "leaderboard.md").read_text("utf-8")
    assert "macro_f1_mean" in (folder / "leaderboard.csv").read_text("utf-8")


@pytest.mark.parametrize(
    "patterns",
    [
        ["{root}/teachers/*"],
        ["{root}/teachers"],
        ["{root}"],
        ["{root}/*/RN18*seed1_*", "{root}/teachers/RN18*", "{root}"],
    ],
)
def test_patterns_folders_and_sweeps_name_each_run_once(tmp_path: Path, patterns: list[str]) -> None:
    two_seeds(tmp_path)
    compared([pattern.format(root=tmp_path) for pattern in patterns])
    (recipe,) = board(tmp_path / "teachers").tables[0].recipes
    assert recipe.seeds == [1, 2]
    assert board(tmp_path / "teachers").left_out == []


def test_runs_of_several_roots_are_written_where_their_ways_part(tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("second", 2)):
        write_finished_run(tmp_path / name, teacher(seed))
    compared([f"{tmp_path}/*/teachers/*"])
    (recipe,) = board(tmp_path).tables[0].recipes
    assert recipe.runs[0] == "first/teachers/RN18_resnet18_seed1_stageA_img224"


def test_the_default_folder_is_said_relative_to_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    two_seeds(Path("experiments"))
    compared([])
    assert (tmp_path / "experiments" / "teachers" / "leaderboard.md").is_file()


def test_what_cannot_be_compared_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = two_seeds(tmp_path)
    (first / "reliabilitymetrics.json").unlink()
    (second.parent / "notes").mkdir()
    compared([f"{tmp_path}/teachers/*"])
    assert [item.run for item in board(first.parent).left_out] == [str(first), str(second.parent / "notes")]
    assert "left out 2:" in caplog.text
    assert f"{first}: unfinished or incomplete, it has no reliabilitymetrics.json" in caplog.text
    assert caplog.text.count(str(second.parent / "notes")) == 1


def test_nothing_to_compare_is_an_error_that_says_why(tmp_path: Path) -> None:
    for path in two_seeds(tmp_path):
        (path / "best.pt").write_bytes(b"other")
    with pytest.raises(FerError, match=r"none of the 2 runs can be compared:\n  .*seed1.*not those of the checkpoints"):
        compared([str(tmp_path)])
    with pytest.raises(FerError, match=r"compare\.runs: .*nowhere/\* names no directory"):
        compared([f"{tmp_path}/nowhere/*"])


def test_different_val_rows_are_refused_unless_split(tmp_path: Path) -> None:
    two_seeds(tmp_path)
    write_finished_run(tmp_path, teacher(3), val_rows="0b" * 32)
    with pytest.raises(FerError, match=r"compare\.split_by_rows=true"):
        compared([str(tmp_path)])
    assert not (tmp_path / "teachers" / "leaderboard.json").exists()
    compared([str(tmp_path)], split_by_rows=True)
    assert [len(table.recipes) for table in board(tmp_path / "teachers").tables] == [1, 1]


def test_nothing_is_written_into_a_run_directory(tmp_path: Path) -> None:
    first, _ = two_seeds(tmp_path)
    (first / "run.log").touch()
    for folder in (first, first / "tables"):
        with pytest.raises(FerError, match="is inside the run directory"):
            compared([str(tmp_path)], output_dir=str(folder))
    compared([str(tmp_path)], output_dir=str(tmp_path / "tables"))
    assert board(tmp_path / "tables").tables[0].recipes[0].runs[0].startswith("../teachers/")


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    two_seeds(tmp_path)
    (tmp_path / "taken").touch()
    with pytest.raises(FerError, match="cannot write to .*taken"):
        compared([str(tmp_path)], output_dir=str(tmp_path / "taken"))


def test_the_page_of_runs_is_written(tmp_path: Path) -> None:
    two_seeds(tmp_path)
    compared([str(tmp_path)])
    assert "RN18_resnet18_stageA_img224" in (tmp_path / "teachers" / "leaderboard.html").read_text("utf-8")


def evaluations_compared(patterns: list[str], **options: object) -> None:
    compare_runs(CompareRunsRun(compare=Comparison(evaluations=patterns, **options)))  # type: ignore[arg-type]


def evaluation_board(folder: Path) -> EvaluationBoard:
    return read_artifact(folder / "leaderboard.json", EvaluationBoard)


@pytest.mark.parametrize(
    "patterns",
    [["{root}/evaluations"], ["{root}/evaluations/*"], ["{root}/evaluations/a", "{root}/*/*/evaluation.json"]],
)
def test_evaluations_are_found_each_once(tmp_path: Path, patterns: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    folder = tmp_path / "evaluations"
    for name, score in (("a", 0.6), ("b", 0.7)):
        write_evaluation(folder / name, Path(f"runs/{name}/best.pt"), metrics(score))
    evaluations_compared([pattern.format(root=tmp_path) for pattern in patterns])
    (table,) = evaluation_board(folder).tables
    assert [model.name for model in table.models] == ["b/best.pt", "a/best.pt"]
    assert evaluation_board(folder).left_out == []
    for name in ("leaderboard.md", "leaderboard.html"):
        assert "best on test: chosen on the rows it is reported on" in (folder / name).read_text("utf-8")
    assert "best on test" in caplog.text
    assert len((folder / "leaderboard.csv").read_text("utf-8").splitlines()) == 3


def test_evaluations_that_cannot_be_compared_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = write_evaluation(tmp_path / "good", Path("a/best.pt"))
    broken = tmp_path / "broken" / "evaluation.json"
    broken.parent.mkdir()
    broken.write_text('{"schema_version": 1}', encoding="utf-8")
    with pytest.raises(FerError, match=r"none of the 1 evaluations can be compared:\n  .*of schema version"):
        evaluations_compared([str(broken)])
    with pytest.raises(FerError, match=r"compare\.evaluations: .*nowhere names no evaluation"):
        evaluations_compared([str(tmp_path / "nowhere")])
    evaluations_compared([str(broken), str(good)])
    assert [item.run for item in evaluation_board(tmp_path).left_out] == [str(broken)]
    assert "left out 1:" in caplog.text


def test_evaluations_of_other_rows_are_refused_unless_split(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "a", Path("a/best.pt"))
    write_evaluation(tmp_path / "b", Path("a/best.pt"), view="flip")
    with pytest.raises(FerError, match=r"compare\.split_by_rows=true"):
        evaluations_compared([str(tmp_path)])
    assert not (tmp_path / "leaderboard.json").exists()
    evaluations_compared([str(tmp_path)], split_by_rows=True)
    assert [table.view for table in evaluation_board(tmp_path).tables] == ["single", "flip"]


def test_a_leaderboard_of_evaluations_is_not_written_into_a_run_directory(tmp_path: Path) -> None:
    run, _ = two_seeds(tmp_path)
    (run / "run.log").touch()
    path = write_evaluation(run / "evaluations" / "a", run / "best.pt")
    with pytest.raises(FerError, match="is inside the run directory"):
        evaluations_compared([str(path)])


@pytest.mark.parametrize("pattern", ["{root}", "{root}/students", "{root}/students/*"])
def test_folders_of_students_are_compared_as_those_of_teachers(tmp_path: Path, pattern: str) -> None:
    for seed in (1, 2):
        write_student(tmp_path, student(seed))
    compared([pattern.format(root=tmp_path)])
    (recipe,) = board(tmp_path / "students").tables[0].recipes
    assert recipe.seeds == [1, 2]


def test_students_are_compared_where_they_are_named_only(tmp_path: Path) -> None:
    two_seeds(tmp_path)
    write_student(tmp_path, student(3))
    compare_runs(CompareRunsRun(run=RunConfig(root=str(tmp_path))))
    assert [recipe.seeds for recipe in board(tmp_path / "teachers").tables[0].recipes] == [[1, 2]]


def test_teachers_and_students_are_compared_on_the_same_rows(tmp_path: Path) -> None:
    two_seeds(tmp_path)
    write_student(tmp_path, student(3), metrics(0.9))
    compared([str(tmp_path)])
    tasks = [recipe.options["task"] for recipe in board(tmp_path).tables[0].recipes]
    assert tasks == ["distill_student", "train_teacher"]
