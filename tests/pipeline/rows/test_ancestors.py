"""What a run came from: starting weights and teachers, through every generation, and which rows these have seen."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.data.config import DataConfig
from fer_lightning.data.selection import select_rows
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationTarget
from fer_lightning.pipeline.rows import seen_in_training
from fer_lightning.pipeline.rows.ancestors import ancestors, records_from
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows, evaluation_rows
from fer_lightning.pipeline.rows.run_record import RunRecord, read_run_record
from fer_lightning.runs.artifacts import AlignmentReport, read_artifact, write_artifact
from fer_lightning.runs.ensemble import Ensemble
from tests.data.conftest import Row, Workshop, cycle_rows
from tests.pipeline.recorded_teachers import record_rows
from tests.runs.examples import example
from tests.runs.finished_students import taught_by, write_lesson

TEACHER, OTHER, STUDENT = Path("runs/teacher"), Path("runs/other"), Path("runs/student")


@pytest.fixture(autouse=True)
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """An empty folder that is the working directory."""
    monkeypatch.chdir(tmp_path)
    return Workshop(tmp_path)


def record(run_dir: Path, manifest: Path, *, starts_from: Path | None = None, **options: object) -> None:
    """Leave what training on a manifest leaves, and a file for its weights."""
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "best.pt").write_bytes(str(run_dir).encode())
    record_rows(run_dir, manifest, **options)
    report = read_artifact(run_dir / "alignmentreport.json", AlignmentReport)
    kind, source = ("random", "none") if starts_from is None else ("init_from", str(starts_from / "best.pt"))
    weights = replace(report.starting_weights, kind=kind, source=source)
    write_artifact(run_dir / "alignmentreport.json", replace(report, starting_weights=weights))


def teach(run_dir: Path, *teachers: Path, **fields: object) -> None:
    write_lesson(run_dir, taught_by([teacher / "best.pt" for teacher in teachers], **fields))


def read(run_dir: Path) -> RunRecord:
    found = read_run_record(run_dir)
    assert found is not None
    return found


def names(run_dir: Path) -> list[str]:
    return [found.run_dir.name for found in ancestors(read(run_dir))]


def family(workshop: Workshop, *members: str) -> dict[str, Path]:
    """Record runs of one manifest."""
    manifest = workshop.write([*cycle_rows(7), *cycle_rows(7, split="val")], draw=True)
    for name in members:
        record(Path("runs") / name, manifest)
    return {name: Path("runs") / name for name in members}


def test_starting_weights_and_teachers_are_followed_nearest_first(workshop: Workshop) -> None:
    runs = family(workshop, "first", "a", "b", "start", "student")
    record(runs["a"], workshop.manifest, starts_from=runs["first"])
    record(runs["student"], workshop.manifest, starts_from=runs["start"])
    teach(runs["student"], runs["a"], runs["b"])
    assert names(runs["student"]) == ["start", "a", "b", "first"]
    found = [one.run_dir.name for one in records_from(runs["student"] / "best.pt")]
    assert found == ["student", "start", "a", "b", "first"]


def test_a_student_may_teach_the_next_one_and_be_its_start(workshop: Workshop) -> None:
    runs = family(workshop, "teacher", "first", "second")
    record(runs["second"], workshop.manifest, starts_from=runs["first"])
    teach(runs["first"], runs["teacher"])
    teach(runs["second"], runs["first"], runs["teacher"])
    assert names(runs["second"]) == ["first", "teacher"]


def test_two_runs_that_name_each_other_are_read_once_each(workshop: Workshop) -> None:
    runs = family(workshop, "a", "b")
    teach(runs["a"], runs["b"])
    teach(runs["b"], runs["a"], runs["b"])
    assert names(runs["a"]) == ["b"]


def test_labels_alone_have_no_teachers(workshop: Workshop) -> None:
    runs = family(workshop, "student")
    write_lesson(runs["student"])
    assert names(runs["student"]) == []


def test_a_teacher_without_a_share_taught_nothing(workshop: Workshop) -> None:
    runs = family(workshop, "a", "b", "student")
    first, second = taught_by([runs["a"] / "best.pt", runs["b"] / "best.pt"])
    write_lesson(runs["student"], [replace(first, weight=1.0), replace(second, weight=0.0)])
    assert names(runs["student"]) == ["a"]


def test_an_exported_ensemble_as_a_teacher_stands_for_its_teachers(workshop: Workshop) -> None:
    runs = family(workshop, "a", "b", "student")
    ensemble = Path("ensembles/ab")
    ensemble.mkdir(parents=True)
    (ensemble / "ensemble.onnx").write_bytes(b"network")
    made = replace(example(Ensemble), space="logit", view="single", class_order=list(EMOTIONS))
    teachers = taught_by([runs["a"] / "best.pt", runs["b"] / "best.pt"], calibration_temperature=1.0)
    write_artifact(ensemble / "ensemble.json", replace(made, teachers=teachers))
    write_lesson(runs["student"], taught_by([ensemble / "ensemble.onnx"]))
    assert names(runs["student"]) == ["a", "b"]
    (ensemble / "ensemble.json").write_text("{", encoding="utf-8")
    assert names(runs["student"]) == []


def forget(runs: dict[str, Path]) -> None:
    (runs["a"] / "best.pt").unlink()


def make_foreign(runs: dict[str, Path]) -> None:
    teach(runs["student"], runs["a"], kind="foreign")


def damage_lesson(runs: dict[str, Path]) -> None:
    (runs["student"] / "distillation.json").write_text("{", encoding="utf-8")


def damage_record(runs: dict[str, Path]) -> None:
    (runs["a"] / "alignmentreport.json").write_text("{", encoding="utf-8")


def lose_record(runs: dict[str, Path]) -> None:
    (runs["a"] / "alignmentreport.json").unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (forget, "not known what a teacher was trained on: runs/student/distillation.json: teacher T0 is gone"),
        (make_foreign, "its logits are of another program"),
        (damage_lesson, "not known what any teacher of runs/student was trained on"),
        (damage_record, "not known what runs/a/best.pt was trained on"),
        (lose_record, "it lies in no run directory"),
    ],
)
def test_what_is_not_known_of_a_teacher_is_said(
    workshop: Workshop, change: Callable[[dict[str, Path]], None], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    runs = family(workshop, "a", "student")
    teach(runs["student"], runs["a"])
    change(runs)
    assert names(runs["student"]) == []
    assert said in caplog.text


def beside(workshop: Workshop, name: str, rows: list[Row]) -> Path:
    """Write rows, with their pictures, as another manifest."""
    kept = workshop.manifest.read_bytes() if workshop.manifest.is_file() else b""
    other = workshop.write(rows, draw=True).rename(workshop.root / name)
    workshop.manifest.write_bytes(kept)
    return other


def judged(run_dir: Path, manifest: Path | None, split: str = "test", **options: object) -> EvaluationRows:
    data = DataConfig(manifest=None if manifest is None else str(manifest), num_workers=0)
    for name, value in options.items():
        setattr(data, name, value)
    return evaluation_rows(EvaluateRun(evaluate=EvaluationTarget(split=split), data=data), run_dir)


def student_of_other_rows(workshop: Workshop) -> tuple[Path, list[Row]]:
    """A student and its teacher of other rows, two of which are test rows of the student's manifest."""
    test = cycle_rows(7, split="test")
    manifest = workshop.write([*cycle_rows(14), *cycle_rows(7, split="val"), *test], draw=True)
    theirs = [*cycle_rows(14, folder="theirs"), *cycle_rows(7, split="val", folder="theirs")]
    theirs += [{**row, "split": "train"} for row in test[:2]]
    record(TEACHER, beside(workshop, "theirs.csv", theirs))
    record(STUDENT, manifest)
    teach(STUDENT, TEACHER)
    return manifest, test


@pytest.mark.parametrize("given", [True, False])
def test_test_rows_that_a_teacher_was_trained_on_are_refused(workshop: Workshop, given: bool) -> None:
    manifest, _ = student_of_other_rows(workshop)
    with pytest.raises(FerError) as refusal:
        judged(STUDENT, manifest if given else None)
    message = str(refusal.value)
    assert (
        "manifest.csv: runs/teacher, which the model started from or was taught by, was trained on 2 of these"
        in message
    )
    assert "image: 2 rows" in message
    assert "theirs.csv" in message
    assert "data.allow_leaks=[image]" in message


def test_test_rows_that_a_teacher_was_trained_on_are_counted_where_allowed(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    manifest, _ = student_of_other_rows(workshop)
    assert judged(STUDENT, manifest, allow_leaks=["image"]).rows_seen_in_training == 2
    assert "was trained on 2 of these test rows (image), allowed by data.allow_leaks" in caplog.text


def test_rows_of_a_third_manifest_are_held_against_the_teachers_of_teachers(workshop: Workshop) -> None:
    manifest, test = student_of_other_rows(workshop)
    record(OTHER, manifest)
    teach(OTHER, STUDENT)
    third = beside(workshop, "third.csv", [*cycle_rows(7, split="test", folder="third"), *test[1:3]])
    with pytest.raises(FerError, match=r"third\.csv: runs/teacher, .* was trained on 1 of these 9 test rows"):
        judged(OTHER, third)
    write_lesson(STUDENT)
    assert judged(OTHER, third).rows_seen_in_training == 0


def test_a_teacher_has_seen_what_it_carved_as_train_and_not_what_it_carved_as_val(workshop: Workshop) -> None:
    rows = cycle_rows(56)
    theirs = beside(workshop, "theirs.csv", rows)
    record(TEACHER, theirs, val_fraction=0.3, split_seed=7)
    assert read(TEACHER).alignment.carved_val_rows > 10
    selection = select_rows(read(TEACHER).data, read(TEACHER).source_filter, splits=("train", "val"))
    manifest = workshop.write([*cycle_rows(14, folder="own"), *cycle_rows(7, split="val", folder="own")], draw=True)
    record(STUDENT, manifest)
    teach(STUDENT, TEACHER)
    for split, seen in (("val", 0), ("train", 5)):
        chosen = [{**rows[row], "split": "test"} for row in selection.rows[split].tolist()[:5]]
        given = beside(workshop, f"{split}.csv", chosen)
        assert judged(STUDENT, given, allow_leaks=["image"]).rows_seen_in_training == seen
    with pytest.raises(FerError, match="was trained on 5 of these 5 test rows"):
        judged(STUDENT, workshop.root / "train.csv")


def test_equal_train_rows_are_looked_at_once(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = family(workshop, "a", "b", "student")
    teach(runs["student"], runs["a"], runs["b"])
    theirs = beside(workshop, "theirs.csv", [*cycle_rows(7, folder="x"), *cycle_rows(7, split="val", folder="x")])
    record(runs["b"], theirs)
    record(Path("runs/c"), theirs)
    teach(runs["a"], Path("runs/c"))
    looked: list[int] = []

    def look(*given: Any) -> list[object]:
        looked.append(len(given[3]))
        return []

    monkeypatch.setattr(seen_in_training, "_seen", look)
    assert judged(runs["student"], None, "val").rows_seen_in_training == 0
    assert looked == [7]  # those of b, which are those of c; those of a are the student's own
