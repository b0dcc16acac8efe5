"""The verb `calibrate` on stored logits: its files, its record, other rows, and its refusals."""

import csv
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_lightning.errors import FerError, RunLockedError
from fer_lightning.functional.calibrators import fit_calibrator, parameters_of
from fer_lightning.functional.reliability import negative_log_likelihood
from fer_lightning.pipeline.calibrate import calibrate
from fer_lightning.pipeline.evaluation.config import (
    CalibrateRun,
    CalibrationComparison,
    EvaluationTarget,
    GatesConfig,
)
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.calibration_report import CalibrationReport, Calibrator
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.lock import RunLock
from fer_lightning.training.calibration import fitting
from fer_lightning.training.config import CalibrationConfig, CalibrationMethod
from tests.runs.stored_scores import overconfident, write_scores

SOME = [CalibrationMethod.none, CalibrationMethod.temperature, CalibrationMethod.vector, CalibrationMethod.isotonic]


@pytest.fixture
def val(tmp_path: Path) -> str:
    """Folder of val logits that are three times too large."""
    return write_scores(tmp_path / "val", *overconfident(400))


def run_on(logits: str | None, root: Path, **options: Any) -> CalibrateRun:
    target = {name: options.pop(name) for name in ("slices", "gates", "manifests") if name in options}
    comparison = CalibrationComparison(methods=options.pop("methods", SOME), apply_to=options.pop("apply_to", []))
    output = options.pop("output_dir", str(root / "out"))
    evaluate = EvaluationTarget(checkpoint=logits, num_resamples=200, output_dir=output, **target)
    return CalibrateRun(run=RunConfig(root=str(root)), evaluate=evaluate, calibrate=comparison, **options)


def report_in(folder: Path) -> CalibrationReport:
    return read_artifact(folder / "calibration_comparison.json", CalibrationReport)


def test_every_file_is_written_and_speaks_of_the_same_comparison(
    tmp_path: Path, val: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    calibrate(run_on(val, tmp_path))
    report = report_in(tmp_path / "out")
    assert {one.method for one in report.calibrators} == {method.value for method in SOME}
    assert report.recommended == report.calibrators[0].method
    assert (report.split, report.n, report.num_folds, report.view) == ("val", 400, 5, "single")
    assert f"**Recommended: {report.recommended}**" in (tmp_path / "out/calibration_comparison.md").read_text("utf-8")
    assert f"recommended: {report.recommended}; {report.reason}" in caplog.text
    with (tmp_path / "out/calibration_comparison.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["calibrator"], float(row["nll"])) for row in rows] == [
        (one.method, one.figures.nll) for one in report.calibrators
    ]
    assert (tmp_path / "out/calibration_comparison.png").read_bytes()[1:4] == b"PNG"
    assert list((tmp_path / "out").glob(".run.lock")) == []


@pytest.mark.parametrize(
    ("kind", "checkpoint", "which"),
    [("checkpoint", "checkpoint_last.pt", "last"), ("ensemble", "ensemble.json", "best"), ("foreign", "F.csv", None)],
)
def test_the_command_to_deploy_it_is_told_where_there_is_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, checkpoint: str, which: str | None
) -> None:
    caplog.set_level(logging.INFO)
    val = write_scores(tmp_path / "val", *overconfident(60), kind=kind, checkpoint=checkpoint, run_dir="runs/R")
    calibrate(run_on(val, tmp_path, methods=[CalibrationMethod.temperature]))
    file = tmp_path / "out" / "calibrator.json"
    deploy = f"to deploy it: task=export_onnx export.run_dir=runs/R export.which=[{which}] export.calibrator={file}; "
    assert (deploy in caplog.text) == (which is not None)
    assert ("to deploy it" in caplog.text) == (which is not None)
    assert f"task=evaluate evaluate.calibrator={file}; everything is in" in caplog.text


def test_the_record_is_the_recommended_method_fitted_on_all_val_rows(tmp_path: Path, val: str) -> None:
    calibrate(run_on(val, tmp_path, methods=[CalibrationMethod.temperature]))
    record = read_artifact(tmp_path / "out/calibrator.json", Calibrator).calibration
    logits, labels = overconfident(400)
    expected = fit_calibrator("temperature", logits.double(), labels)
    assert (record.method, record.parameters) == ("temperature", parameters_of(expected))
    assert record.calibration_temperature == pytest.approx(3.0, rel=0.15)
    assert (record.fitted_on_split, record.fitted_on_rows) == ("val", 400)
    assert record.fitted_on_fingerprint == report_in(tmp_path / "out").row_set_fingerprint


def test_without_a_folder_the_name_tells_model_and_rows(tmp_path: Path, val: str) -> None:
    calibrate(run_on(val, tmp_path, output_dir=None, methods=[CalibrationMethod.none]))
    (folder,) = (tmp_path / "calibrations").iterdir()
    fingerprint = report_in(folder).row_set_fingerprint[:8]
    assert folder.name == f"RN18__best.pt_5a5a5a5a__val_{fingerprint}"


def test_other_rows_are_judged_by_the_fits_of_all_val_rows(tmp_path: Path, val: str) -> None:
    test_logits, test_labels = overconfident(150, seed=1)
    test = write_scores(tmp_path / "test", test_logits, test_labels, split="test")
    calibrate(run_on(val, tmp_path, apply_to=[test]))
    (applied,) = report_in(tmp_path / "out").applied
    assert (applied.label, applied.n, set(applied.figures)) == ("applied to test", 150, {m.value for m in SOME})
    logits, labels = overconfident(400)
    for method in ("vector", "isotonic"):
        fit = fit_calibrator(method, logits.double(), labels)
        expected = float(negative_log_likelihood(fit.apply(test_logits.double()), test_labels))
        assert applied.figures[method].nll == pytest.approx(expected, abs=1e-12)
    page = (tmp_path / "out/calibration_comparison.md").read_text("utf-8")
    assert "## applied to test: fitted on all val rows" in page
    assert "choosing a calibrator by these figures would be choosing on test" in page


def test_figures_of_test_never_move_the_recommendation(tmp_path: Path, val: str) -> None:
    calibrate(run_on(val, tmp_path))
    alone = report_in(tmp_path / "out")
    logits, labels = overconfident(300, seed=2, factor=0.2)  # underconfident: everything fitted on val is wrong here
    test = write_scores(tmp_path / "test", logits, labels, split="test")
    calibrate(run_on(val, tmp_path, apply_to=[test]))
    both = report_in(tmp_path / "out")
    (applied,) = both.applied
    assert min(applied.figures, key=lambda method: applied.figures[method].nll) == "none"
    assert (both.recommended, both.reason) == (alone.recommended, alone.reason)
    assert [one.figures for one in both.calibrators] == [one.figures for one in alone.calibrators]


def test_corrupted_pictures_of_other_rows_are_labelled_as_such(tmp_path: Path, val: str) -> None:
    logits, labels = overconfident(50, seed=3)
    test = write_scores(tmp_path / "test", logits, labels, split="test", corruption="blur-3", canonical_digest="other")
    calibrate(run_on(val, tmp_path, apply_to=[test]))
    assert report_in(tmp_path / "out").applied[0].label == "applied to test (blur-3)"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split": "test", "checkpoint_sha256": "00" * 32}, "a calibrator holds for its own model only"),
        ({"split": "test", "view": "flip"}, "a calibrator holds for its own model only"),
        ({"split": "test", "canonical_digest": "other"}, "prepared differently"),
        ({}, r"50 rows of .* are rows that the calibrators are fitted on, e\.g\. val/0\.png"),
        ({"split": "test", "prefix": "val"}, "50 rows of .* are rows that the calibrators are fitted on"),
    ],
)
def test_other_rows_that_calibrators_do_not_hold_for(
    tmp_path: Path, val: str, fields: dict[str, Any], message: str
) -> None:
    other = write_scores(tmp_path / "other", *overconfident(50, seed=1), **fields)
    with pytest.raises(FerError, match=message):
        calibrate(run_on(val, tmp_path, apply_to=[other]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split": "test"}, "holds logits of test rows; calibrators are fitted on val only"),
        ({"corruption": "noise-1"}, r"corrupted pictures \(noise-1\)"),
        ({"groups": torch.zeros(40, dtype=torch.int64)}, "all 40 rows are linked"),
    ],
)
def test_rows_that_nothing_may_be_fitted_on(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    logits = write_scores(tmp_path / "logits", *overconfident(40), **fields)
    with pytest.raises(FerError, match=message):
        calibrate(run_on(logits, tmp_path))


def test_rows_seen_in_training_are_said_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logits = write_scores(tmp_path / "logits", *overconfident(60), rows_seen_in_training=7)
    calibrate(run_on(logits, tmp_path, methods=[CalibrationMethod.none]))
    assert "the model was trained on 7 of these 60 rows" in caplog.text


def test_bounds_and_changed_predictions_are_said_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = torch.arange(140) % 7
    logits = 5.0 * torch.nn.functional.one_hot(labels, 7).float()
    calibrate(run_on(write_scores(tmp_path / "a", logits, labels), tmp_path, methods=[CalibrationMethod.temperature]))
    assert "AT THE BOUND of its search, so not at its best: temperature" in caplog.text
    logits, labels = overconfident(300)
    biased = write_scores(tmp_path / "b", logits + torch.tensor([0, 4.0, 0, 0, 0, 0, 0]), labels)
    calibrate(run_on(biased, tmp_path, methods=[CalibrationMethod.temperature, CalibrationMethod.vector]))
    (line,) = [record.getMessage() for record in caplog.records if "change the predicted class" in record.getMessage()]
    changed = {one.method: one.changed_predictions for one in report_in(tmp_path / "out").calibrators}
    assert changed["temperature"] == 0
    assert line.endswith(f": vector ({changed['vector']} rows)")


def test_a_method_that_cannot_be_fitted_is_left_out_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(method: CalibrationMethod) -> Any:
        def refuse(*_: torch.Tensor) -> Any:
            raise ValueError("too few rows")

        return refuse if method is CalibrationMethod.vector else fitting(method)

    monkeypatch.setattr("fer_lightning.training.calibrator_comparison.fitting", failing)
    logits = write_scores(tmp_path / "logits", *overconfident(50))
    calibrate(run_on(logits, tmp_path))
    report = report_in(tmp_path / "out")
    assert [(item.method, item.reason) for item in report.refused] == [("vector", "too few rows")]
    assert "vector is left out: too few rows" in caplog.text
    with pytest.raises(FerError, match=r"no calibrator can be fitted on these 50 rows:\n  vector: too few rows"):
        calibrate(run_on(logits, tmp_path, methods=[CalibrationMethod.vector]))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"manifests": ["a.csv"]}, "evaluate.manifests"),
        ({"slices": ["age"]}, "evaluate.slices"),
        ({"gates": GatesConfig(max_ece=0.1)}, "evaluate.gates"),
        ({"calibration": CalibrationConfig(method=CalibrationMethod.vector)}, "calibration.method"),
    ],
)
def test_options_without_effect_are_refused(tmp_path: Path, val: str, options: dict[str, Any], name: str) -> None:
    with pytest.raises(FerError, match=f"{name} would have no effect"):
        calibrate(run_on(val, tmp_path, **options))


def test_a_model_is_needed_and_a_folder_in_use_is_refused(tmp_path: Path, val: str) -> None:
    with pytest.raises(FerError, match=r"needs evaluate\.checkpoint="):
        calibrate(run_on(None, tmp_path))
    (tmp_path / "out").mkdir()
    with RunLock(tmp_path / "out"), pytest.raises(RunLockedError, match="is in use"):
        calibrate(run_on(val, tmp_path))
