"""task=robustness: one model on corrupted renditions of the same rows, inferred once, scaled without sight of them."""

import csv
import logging
from dataclasses import fields, replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor

from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.functional.calibration import fit_temperature
from fer_lightning.functional.reliability import expected_calibration_error
from fer_lightning.pipeline.evaluate import evaluate
from fer_lightning.pipeline.evaluation.config import (
    Corruption,
    EvaluateRun,
    EvaluationCalibration,
    EvaluationTarget,
    GatesConfig,
    RobustnessConfig,
    RobustnessRun,
    View,
)
from fer_lightning.pipeline.logits import infer_logits
from fer_lightning.pipeline.robustness import robustness
from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.evaluation import Evaluation
from fer_lightning.runs.robustness_report import ConditionReport, Robustness, RobustnessFigures
from fer_lightning.runs.stored_logits import StoredLogits, read_stored_logits
from fer_lightning.training.config import CalibrationConfig, CalibrationMethod
from tests.conftest import toy_run

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")

FILES = {"robustness.json", "robustness.md", "robustness.csv", "robustness.png", "samples.png"}


@pytest.fixture(scope="module")
def teacher(toy_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = toy_run(toy_manifest, tmp_path_factory.mktemp("robustness"), epochs=2)
    train_teacher(run)
    return run.directory


def make_run(teacher: Path, root: Path | None = None) -> RobustnessRun:
    """Blur and grey at two severities, and CLAHE; logits are stored where the teacher's are, unless told otherwise."""
    run = RobustnessRun(
        evaluate=EvaluationTarget(checkpoint=str(teacher), accelerator="cpu", num_resamples=200),
        robustness=RobustnessConfig(corruptions=[Corruption.blur, Corruption.grey], severities=[5, 2]),
    )
    run.run.root = str(teacher.parents[1] if root is None else root)
    run.data.num_workers = 0
    return run


@pytest.fixture(scope="module")
def output(teacher: Path) -> Path:
    """The folder of a finished call."""
    robustness(make_run(teacher))
    (folder,) = (teacher.parents[1] / "robustness").iterdir()
    return folder


@pytest.fixture
def report(output: Path) -> Robustness:
    return read_artifact(output / "robustness.json", Robustness)


def stored_logits(teacher: Path, ending: str) -> StoredLogits:
    (folder,) = (teacher.parents[1] / "logits").glob(f"*__{ending}")
    return read_stored_logits(folder, option="test")


def expected(stored: StoredLogits, log_probs: Tensor) -> RobustnessFigures:
    labels, predictions = stored.labels.numpy(), log_probs.argmax(1).numpy()
    f1 = f1_score(labels, predictions, labels=range(7), average=None, zero_division=0)
    return RobustnessFigures(
        accuracy=accuracy_score(labels, predictions),
        macro_f1=float(np.mean(f1)),
        minority_f1=float(np.mean(f1[[1, 2, 4]])),
        ece=float(expected_calibration_error(log_probs.exp(), stored.labels)),
        mean_confidence=float(log_probs.exp().amax(1).mean()),
    )


def over_temperatures(stored: StoredLogits, clean: StoredLogits) -> Tensor:
    """Scale each fold by the temperature of the clean rows of the others."""
    folds = clean.folds(CalibrationConfig().num_folds)
    log_probs = torch.empty(len(folds), 7, dtype=torch.float64)
    for fold in set(folds.tolist()):
        inside = folds == fold
        temperature = fit_temperature(clean.logits[~inside].double(), clean.labels[~inside]).temperature
        log_probs[inside] = (stored.logits[inside].double() / temperature).log_softmax(1)
    return log_probs


def assert_close(found: RobustnessFigures | None, wanted: RobustnessFigures) -> None:
    assert found is not None
    for field in fields(RobustnessFigures):
        assert getattr(found, field.name) == pytest.approx(getattr(wanted, field.name), abs=1e-9), field.name


def test_every_condition_is_scaled_by_clean_rows_of_other_folds(teacher: Path, report: Robustness) -> None:
    assert [(item.corruption, item.severity) for item in report.conditions] == [
        ("blur", 2),
        ("blur", 5),
        ("grey", 2),
        ("grey", 5),
    ]
    assert report.clahe is not None
    endings = {"single": report.clean, "single__clahe-flipped": report.clahe}
    endings |= {f"single__{item.corruption}-{item.severity}": item for item in report.conditions}
    for ending, item in endings.items():
        stored = stored_logits(teacher, ending)
        assert item.logits_sha256 == stored.record.logits_sha256
        assert_close(item.raw, expected(stored, stored.logits.double().log_softmax(1)))
        assert_close(item.scaled, expected(stored, over_temperatures(stored, stored_logits(teacher, "single"))))
    assert report.calibration is not None
    assert report.calibration.method == "temperature"


def test_clean_figures_are_those_of_task_evaluate(teacher: Path, output: Path, report: Robustness) -> None:
    run = make_run(teacher)
    evaluate(EvaluateRun(run=run.run, evaluate=replace(run.evaluate, num_resamples=0), data=run.data))
    (folder,) = (teacher.parents[1] / "evaluations").glob(output.name)
    result = read_artifact(folder / "evaluation.json", Evaluation).result
    assert report.scaled_how.startswith(result.scaled_how)
    for found, wanted in ((report.clean.raw, result.raw), (report.clean.scaled, result.scaled)):
        assert wanted is not None
        for name in [field.name for field in fields(RobustnessFigures)]:
            assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=1e-9), name


def test_pictures_are_other_ones_and_the_preparation_is_the_same(teacher: Path, report: Robustness) -> None:
    clean = stored_logits(teacher, "single")
    for item in report.conditions:
        stored = stored_logits(teacher, f"single__{item.corruption}-{item.severity}")
        assert item.canonical_digest == report.clean.canonical_digest
        assert not torch.equal(stored.logits, clean.logits)
        assert stored.row_ids == clean.row_ids
    assert report.clahe is not None
    assert report.clahe.canonical_digest != report.clean.canonical_digest


def test_changes_and_means_are_of_the_scaled_figures(report: Robustness) -> None:
    assert report.clean.changes == {}
    assert report.clahe is not None

    def figure(item: ConditionReport, name: str) -> float:
        assert item.scaled is not None
        return float(getattr(item.scaled, name))

    for item in (*report.conditions, report.clahe):
        for name in ("accuracy", "macro_f1", "minority_f1", "ece"):
            change = item.changes[name]
            assert change.change == pytest.approx(figure(item, name) - figure(report.clean, name))
            assert change.range is not None
            assert change.p_value is not None
            assert change.range.low <= change.range.high
            assert 0 < change.p_value <= 1
    assert [mean.corruption for mean in report.means] == ["blur", "grey", "all"]
    for mean, items in zip(
        report.means, (report.conditions[:2], report.conditions[2:], report.conditions), strict=True
    ):
        assert mean.scaled is not None
        assert mean.scaled.macro_f1 == pytest.approx(np.mean([figure(item, "macro_f1") for item in items]))
        assert mean.changes["ece"] == pytest.approx(np.mean([item.changes["ece"].change for item in items]))
        assert mean.raw.accuracy == pytest.approx(np.mean([item.raw.accuracy for item in items]))


def test_all_files_are_there_and_say_the_same(output: Path, report: Robustness) -> None:
    assert {path.name for path in output.iterdir() if not path.name.startswith(".run.lock")} == FILES
    rows = list(csv.DictReader((output / "robustness.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["corruption"] for row in rows] == ["none", "blur", "blur", "grey", "grey", "clahe"]
    assert float(rows[1]["scaled_macro_f1"]) == getattr(report.conditions[0].scaled, "macro_f1", None)
    assert float(rows[1]["ece_change"]) == report.conditions[0].changes["ece"].change
    assert rows[0]["ece_change"] == ""
    assert report.scaled_how.endswith("(temperature, fitted on clean pictures alone)")
    assert {row["scaled_how"] for row in rows} == {report.scaled_how}
    page = (output / "robustness.md").read_text(encoding="utf-8")
    assert f"n={report.n} of {report.requested_rows} requested" in page
    assert f"scaled: {report.scaled_how}" in page
    assert "| CLAHE off |" in page
    for name in ("robustness.png", "samples.png"):
        assert matplotlib.image.imread(output / name).std() > 0.05


def test_a_second_call_infers_nothing_and_says_the_same(
    teacher: Path, output: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = {name: sha256_of(output / name) for name in FILES - {"robustness.png", "samples.png"}}
    monkeypatch.setattr(infer_logits, "infer_logits", lambda *_, **__: pytest.fail("inferred again"))
    with caplog.at_level(logging.INFO):
        robustness(make_run(teacher))
    assert {name: sha256_of(output / name) for name in before} == before
    assert "corruption 3 of 5: grey at severity 2" in caplog.text
    assert "corruption 5 of 5: CLAHE switched" in caplog.text


def test_without_calibration_ranges_or_clahe(teacher: Path, toy_manifest: Path, tmp_path: Path) -> None:
    run = make_run(teacher)
    run.data.manifest, run.data.cache_dir = str(toy_manifest), str(teacher.parents[1] / "cache")
    run.calibration = EvaluationCalibration(method=CalibrationMethod.none)
    run.robustness = RobustnessConfig(corruptions=[Corruption.blur], severities=[2], clahe=False)
    run.evaluate = replace(run.evaluate, num_resamples=0, output_dir=str(tmp_path / "out"))
    robustness(run)
    report = read_artifact(tmp_path / "out" / "robustness.json", Robustness)
    assert (report.clean.scaled, report.clahe, report.scaled_how) == (None, None, "calibration=none")
    assert report.conditions[0].scaled is None
    change = report.conditions[0].changes["accuracy"]
    assert change.range is None
    assert change.change == report.conditions[0].raw.accuracy - report.clean.raw.accuracy
    assert "scaled" not in (tmp_path / "out" / "robustness.md").read_text(encoding="utf-8")


def test_clahe_alone_and_another_view(teacher: Path, tmp_path: Path) -> None:
    run = make_run(teacher)
    run.robustness = RobustnessConfig(corruptions=[])
    run.evaluate = replace(run.evaluate, view=View.flip, output_dir=str(tmp_path / "out"))
    robustness(run)
    report = read_artifact(tmp_path / "out" / "robustness.json", Robustness)
    assert (report.view, report.conditions, report.means) == ("flip", [], [])
    assert report.clahe is not None
    assert not (tmp_path / "out" / "samples.png").exists()


def test_options_without_effect_are_refused(teacher: Path) -> None:
    target = make_run(teacher).evaluate
    refused = {
        "evaluate.slices=": replace(target, slices=["gender"]),
        "evaluate.target_risks=": replace(target, target_risks=[0.2]),
        "evaluate.manifests=": replace(target, manifests=["a.csv"]),
        "evaluate.gates=": replace(target, gates=GatesConfig(min_macro_f1=0.5)),
    }
    for said, refused_target in refused.items():
        with pytest.raises(FerError, match=f"{said}.*would have no effect"):
            robustness(replace(make_run(teacher), evaluate=refused_target))
    for said, split, config in (
        ("num_folds=3", "test", EvaluationCalibration(num_folds=3)),
        ("conformal_alpha=0.2", "val", EvaluationCalibration(conformal_alpha=0.2)),
    ):
        run = replace(make_run(teacher), calibration=config, evaluate=replace(target, split=split))
        with pytest.raises(FerError, match=f"calibration.{said} would have no effect"):
            robustness(run)


def test_what_cannot_be_judged_is_refused(teacher: Path, toy_manifest: Path, output: Path) -> None:
    (folder,) = (output.parents[1] / "logits").glob("*__single")
    run = make_run(teacher)
    run.evaluate.checkpoint = str(folder)
    with pytest.raises(FerError, match="are stored logits; corruptions need pictures"):
        robustness(run)
    run.evaluate.checkpoint = None
    with pytest.raises(FerError, match="evaluate.checkpoint="):
        robustness(run)
    run = make_run(teacher)
    run.robustness = RobustnessConfig(corruptions=[], clahe=False)
    with pytest.raises(FerError, match="nothing to compare with clean"):
        robustness(run)
    run = make_run(teacher)
    run.data.manifest, run.data.cache_dir = str(toy_manifest), str(teacher.parents[1] / "cache")
    run.calibration.method, run.evaluate.split = CalibrationMethod.vector, "test"
    with pytest.raises(FerError, match="calibration.method=vector: the model's run has fitted temperature on val"):
        robustness(run)


def test_test_rows_are_judged_too(teacher: Path, tmp_path: Path) -> None:
    run = make_run(teacher)
    run.robustness = RobustnessConfig(corruptions=[Corruption.noise], severities=[3], clahe=False)
    run.evaluate = replace(run.evaluate, split="test", output_dir=str(tmp_path / "out"))
    robustness(run)
    report = read_artifact(tmp_path / "out" / "robustness.json", Robustness)
    assert report.split == "test"
    assert report.scaled_how.endswith("applied to test")
    assert report.calibration is not None
    temperature = report.calibration.calibration_temperature
    assert temperature is not None
    (folder,) = (teacher.parents[1] / "logits").glob("*__test_*__noise-3")
    stored = read_stored_logits(folder, option="test")
    assert_close(report.conditions[0].scaled, expected(stored, (stored.logits.double() / temperature).log_softmax(1)))
