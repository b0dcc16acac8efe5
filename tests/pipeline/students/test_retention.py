"""What is said of a finished student beside its teacher: only where both were judged on the same val rows."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.files import sha256_of
from fer_lightning.pipeline.students.retention import retention_of, say_what_is_kept
from fer_lightning.runs.artifacts import AlignmentReport, read_artifact, write_artifact
from fer_lightning.runs.softlabels import HASH_FILE, HashManifest
from tests.runs.examples import example
from tests.runs.finished_ensembles import OTHER_ROWS, write_ensemble
from tests.runs.finished_runs import metrics, teacher, write_finished_run
from tests.runs.finished_students import student, taught_by, write_lesson, write_student


def exported(root: Path, ensemble: Path, *, named: str | None = None) -> Path:
    """Write the part of soft labels that says of which ensemble they are; their own figures are of train rows."""
    folder = write_ensemble(root / "sl", "x", 0.99, split="train").rename(root / "labels")
    (folder / "ensemble.json").write_bytes((ensemble / "ensemble.json").read_bytes())
    record = replace(example(HashManifest), ensemble=str(ensemble) if named is None else named)
    write_artifact(folder / HASH_FILE, record)
    return folder


def taught(root: Path, **lesson: Any) -> Path:
    """Write a student of 250 parameters with a macro-F1 of .6, taught as told."""
    run_dir = write_student(root, student(), metrics(0.6))
    report = read_artifact(run_dir / "alignmentreport.json", AlignmentReport)
    write_artifact(run_dir / "alignmentreport.json", replace(report, num_parameters=250))
    write_lesson(run_dir, **{"teacher_parameters": 2000, **lesson})
    return run_dir


def of_ensemble(ensemble: Path, source: Path | None = None) -> dict[str, Any]:
    digest = sha256_of(ensemble / "ensemble.json")
    return {"source": str(source or ensemble), "ensemble": ensemble.name, "ensemble_sha256": digest}


def test_a_live_ensemble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ensemble = write_ensemble(tmp_path, "e", 0.8)
    run_dir = taught(tmp_path, **of_ensemble(ensemble))
    kept = retention_of(run_dir)
    assert kept is not None
    assert (kept.macro_f1, kept.teacher_macro_f1) == (0.6, 0.8)
    assert (kept.num_parameters, kept.teacher_parameters) == (250, 2000)
    assert kept.share == pytest.approx(0.75)
    say_what_is_kept(run_dir)
    assert (
        "keeps 75.0 % of its teacher's val macro-F1 (0.6000 of 0.8000) with 12.5 % of its 0.00 million" in caplog.text
    )


@pytest.mark.parametrize("named", [None, "nowhere/ensembles/e"])
def test_the_ensemble_of_soft_labels_as_they_name_it_or_beside_them(tmp_path: Path, named: str | None) -> None:
    ensemble = write_ensemble(tmp_path, "e", 0.8)
    folder = exported(tmp_path / "softlabels", ensemble, named=named)
    kept = retention_of(taught(tmp_path, **of_ensemble(ensemble, folder)))
    assert kept is not None
    assert kept.teacher_macro_f1 == 0.8


def test_an_ensemble_that_was_fused_anew_did_not_teach(tmp_path: Path) -> None:
    ensemble = write_ensemble(tmp_path, "e", 0.8)
    lesson = of_ensemble(ensemble) | {"ensemble_sha256": "0" * 64}
    assert retention_of(taught(tmp_path, **lesson)) is None


def test_figures_of_other_rows_are_no_comparison(tmp_path: Path) -> None:
    ensemble = write_ensemble(tmp_path, "e", 0.8, rows=OTHER_ROWS)
    assert retention_of(taught(tmp_path, **of_ensemble(ensemble))) is None
    of_test = write_ensemble(tmp_path, "f", 0.8, split="test")
    assert retention_of(taught(tmp_path / "second", **of_ensemble(of_test))) is None


def test_a_single_teacher_has_the_figures_of_its_own_run(tmp_path: Path) -> None:
    of = write_finished_run(tmp_path, teacher(), metrics(0.75))
    kept = retention_of(taught(tmp_path, teachers=taught_by([of / "best.pt"])))
    assert kept is not None
    assert kept.teacher_macro_f1 == 0.75
    other = taught_by([of / "best.pt"], checkpoint_sha256="0" * 64)
    assert retention_of(taught(tmp_path / "second", teachers=other)) is None


def test_without_a_teacher_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    say_what_is_kept(taught(tmp_path))
    assert caplog.text == ""


def test_damaged_figures_of_the_teacher_do_not_spoil_the_student(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ensemble = write_ensemble(tmp_path, "e", 0.8)
    run_dir = taught(tmp_path, **of_ensemble(ensemble))
    (ensemble / "ensemble_metrics.json").write_text("{", encoding="utf-8")
    assert retention_of(run_dir) is None
    assert "figures of its teacher are not known" in caplog.text


def test_teachers_of_unknown_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ensemble = write_ensemble(tmp_path, "e", 0.8)
    say_what_is_kept(taught(tmp_path, **of_ensemble(ensemble) | {"teacher_parameters": None}))
    assert "(0.6000 of 0.8000) with 0.00 million parameters" in caplog.text
