"""What is asked of teachers before a student is trained: their size, and val rows that they know by heart."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.data.selection import Selection, select_rows
from fer_lightning.errors import FerError
from fer_lightning.pipeline.rows import seen_in_training
from fer_lightning.pipeline.students.known_teachers import parameters_of, refuse_taught_val_rows
from fer_lightning.runs.artifacts import AlignmentReport, read_artifact, write_artifact
from tests.data.conftest import Row, Workshop, cycle_rows
from tests.pipeline.recorded_teachers import record_rows
from tests.runs.finished_students import taught_by, write_lesson

A, B = Path("runs/a/best.pt"), Path("runs/b/best.pt")


@pytest.fixture(autouse=True)
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """An empty folder that is the working directory."""
    monkeypatch.chdir(tmp_path)
    return Workshop(tmp_path)


def record(model: Path, manifest: Path, *, num_parameters: int = 9, **options: object) -> None:
    """Leave what training on a manifest leaves, and a file for its weights."""
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(str(model).encode())
    record_rows(model.parent, manifest, **options)
    report = read_artifact(model.parent / "alignmentreport.json", AlignmentReport)
    write_artifact(model.parent / "alignmentreport.json", replace(report, num_parameters=num_parameters))


def own_rows() -> list[Row]:
    return [*cycle_rows(14), *cycle_rows(7, split="val")]


def selected(manifest: Path, **options: object) -> tuple[Selection, DataConfig]:
    data = DataConfig(manifest=str(manifest), num_workers=0)
    for name, value in options.items():
        setattr(data, name, value)
    return select_rows(data, SourceFilterConfig(), splits=("train", "val"), check_leaks=True), data


def their_manifest(workshop: Workshop, rows: list[Row]) -> Path:
    return workshop.write(rows, draw=True).rename(workshop.root / "theirs.csv")


def test_the_size_of_all_teachers_that_have_a_share(workshop: Workshop) -> None:
    manifest = workshop.write(own_rows(), draw=True)
    record(A, manifest, num_parameters=30)
    record(B, manifest, num_parameters=400)
    first, second = taught_by([A, B])
    assert parameters_of([first, second]) == 430
    assert parameters_of([first, replace(second, weight=0.0)]) == 30
    (B.parent / "alignmentreport.json").unlink()
    assert parameters_of([first, second]) is None
    A.unlink()
    assert parameters_of([first]) is None
    assert parameters_of(taught_by([B], kind="foreign")) is None


def test_val_rows_that_a_teacher_was_trained_on_are_refused(workshop: Workshop) -> None:
    val = cycle_rows(7, split="val")
    theirs = [*cycle_rows(14, folder="x"), *cycle_rows(7, folder="x", split="val")]
    record(A, their_manifest(workshop, [*theirs, *({**row, "split": "train"} for row in val[:3])]))
    selection, data = selected(workshop.write(own_rows(), draw=True))
    with pytest.raises(FerError) as refusal:
        refuse_taught_val_rows(taught_by([A]), selection, data)
    assert "runs/a, which the model started from or was taught by, was trained on 3 of these 7 val rows" in str(
        refusal.value
    )
    refuse_taught_val_rows(taught_by([A]), *selected(workshop.manifest, allow_leaks=["image"]))


def test_teachers_of_teachers_count(workshop: Workshop) -> None:
    theirs = [*cycle_rows(7, folder="x"), *cycle_rows(7, folder="x", split="val")]
    record(B, their_manifest(workshop, [*theirs, {**cycle_rows(1, split="val")[0], "split": "train"}]))
    manifest = workshop.write(own_rows(), draw=True)
    record(A, manifest)
    write_lesson(A.parent, taught_by([B]))
    with pytest.raises(FerError, match="runs/b, .* was trained on 1 of these 7 val rows"):
        refuse_taught_val_rows(taught_by([A]), *selected(manifest))


def test_val_rows_that_are_carved_otherwise_are_train_rows_of_the_teacher(workshop: Workshop) -> None:
    manifest = workshop.write(cycle_rows(56), draw=True)
    record(A, manifest, val_fraction=0.3, split_seed=7)
    refuse_taught_val_rows(taught_by([A]), *selected(manifest, val_fraction=0.3, split_seed=7))
    selection, data = selected(manifest, val_fraction=0.3, split_seed=8)
    with pytest.raises(FerError, match=rf"was trained on \d+ of these {len(selection.rows['val'])} val rows"):
        refuse_taught_val_rows(taught_by([A]), selection, data)


def test_teachers_of_the_students_own_rows_need_no_second_look(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = workshop.write(own_rows(), draw=True)
    record(A, manifest)
    record(B, manifest)
    monkeypatch.setattr(seen_in_training, "_seen", lambda *_: pytest.fail("the leak check has compared these rows"))
    refuse_taught_val_rows(taught_by([A, B]), *selected(manifest))


def test_a_teacher_that_is_gone_is_said(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    selection, data = selected(workshop.write(own_rows(), draw=True))
    refuse_taught_val_rows(taught_by([A]), selection, data)
    assert "not known what a teacher was trained on: the student: teacher T0 is gone" in caplog.text
