"""A toy teacher from manifest to run directory: proof, repeatability, resume, init, refusals."""

import csv
import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.errors import FerError, RunLockedError, TrainingError
from fer_lightning.files import sha256_of
from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.config import ExportOnnxRun, ExportTarget, TrainTeacherRun
from fer_lightning.pipeline.evaluate import evaluate
from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationCalibration, EvaluationTarget
from fer_lightning.pipeline.export_onnx import export_onnx
from fer_lightning.pipeline.learning import fitting
from fer_lightning.pipeline.learning.preparation import _warn_if_nothing_was_learnt, select_training_rows
from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.runs.artifacts import (
    AlignmentReport,
    Calibration,
    Environment,
    EvaluatedCheckpoint,
    OnnxExport,
    ReliabilityMetrics,
    read_artifact,
)
from fer_lightning.runs.checkpoint import read_checkpoint
from fer_lightning.runs.config import OnExisting, RunConfig
from fer_lightning.runs.evaluation import Evaluation
from fer_lightning.runs.finished import discard_final_files, final_files_match
from fer_lightning.runs.history import History
from fer_lightning.runs.lock import RunLock
from fer_lightning.training.callbacks.best_and_last import BestAndLast
from fer_lightning.training.config import TrainerConfig
from fer_lightning.training.recipe.config import ClassWeights, ImbalanceConfig, LossConfig, OptimizerName, Sampler
from tests.conftest import toy_run
from tests.runs.examples import example
from tests.training.epochs import blind, spoil_epochs

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")


def run_dir(run: TrainTeacherRun) -> Path:
    return Path(run.run.root) / "teachers" / run.name


def weights(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path, option="test").weights


def assert_same_weights(first: Path, second: Path) -> None:
    left, right = weights(first), weights(second)
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


@pytest.fixture(scope="module")
def finished(toy_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished toy run of three epochs, with ONNX files."""
    run = toy_run(toy_manifest, tmp_path_factory.mktemp("runs"), epochs=3, onnx=True)
    train_teacher(run)
    return run_dir(run)


def test_run_directory_holds_every_artifact_of_the_documents(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    wanted = {"best.pt", "checkpoint_last.pt", "best.onnx", "last.onnx", "history.json", "reliabilitymetrics.json"}
    wanted |= {"calibration.json", "alignmentreport.json", "environment.json", "config.yaml", "run.log", "timings.json"}
    assert wanted <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert ".run.lock" not in names


def test_every_figure_is_bound_to_its_checkpoint_and_rows(finished: Path) -> None:
    metrics = read_artifact(finished / "reliabilitymetrics.json", ReliabilityMetrics)
    alignment = read_artifact(finished / "alignmentreport.json", AlignmentReport)
    calibration = read_artifact(finished / "calibration.json", Calibration)
    for judged, entry, name in (
        (metrics.best, calibration.best, "best.pt"),
        (metrics.last, calibration.last, "checkpoint_last.pt"),
    ):
        digest = sha256_of(finished / name)
        assert (judged.checkpoint, judged.checkpoint_sha256, entry.checkpoint_sha256) == (name, digest, digest)
        assert judged.n == alignment.val_rows == sum(judged.support.values())
        assert judged.row_set_fingerprint == alignment.row_set_fingerprints["val"]
        assert judged.canonical_digest == alignment.canonical_digest
        assert judged.calibration == entry.calibration
        assert "cross-fitted on val in 5 folds" in judged.scaled_how
    assert alignment.class_order == list(EMOTIONS)
    assert alignment.starting_weights.kind == "random"
    assert read_artifact(finished / "environment.json", Environment).torch == torch.__version__


def test_history_agrees_with_the_checkpoints_it_describes(finished: Path) -> None:
    history = read_artifact(finished / "history.json", History).epochs
    metrics = read_artifact(finished / "reliabilitymetrics.json", ReliabilityMetrics)
    assert [record.epoch for record in history] == [0, 1, 2]
    assert metrics.last.epoch == 2
    assert metrics.last.raw.macro_f1 == pytest.approx(history[-1].val_raw.macro_f1, abs=1e-12)
    assert metrics.last.raw.nll == pytest.approx(history[-1].val_raw.nll, rel=1e-6)
    best = max(history, key=lambda record: record.val_raw.macro_f1)
    assert metrics.best.epoch == best.epoch
    assert [record.margin_rad for record in history] == pytest.approx([0.0, 0.175, 0.35])
    assert all(record.row_coverage == 1.0 for record in history)


def test_evaluate_gives_the_runs_own_figures_for_checkpoint_and_onnx(finished: Path, tmp_path: Path) -> None:
    metrics = read_artifact(finished / "reliabilitymetrics.json", ReliabilityMetrics)
    answers = []
    for name in ("best.pt", "best.onnx"):
        output = tmp_path / name
        target = EvaluationTarget(checkpoint=str(finished / name), output_dir=str(output))
        evaluate(EvaluateRun(evaluate=target, run=RunConfig(root=str(tmp_path))))
        result = read_artifact(output / "evaluation.json", Evaluation).result
        assert result.raw.accuracy == metrics.best.raw.accuracy
        assert result.scaled is not None
        assert metrics.best.scaled is not None
        for figure in ("macro_f1", "nll", "ece", "brier", "minority_f1"):
            assert getattr(result.raw, figure) == pytest.approx(getattr(metrics.best.raw, figure), abs=1e-5)
            assert getattr(result.scaled, figure) == pytest.approx(getattr(metrics.best.scaled, figure), abs=1e-5)
        with (output / "predictions.csv").open() as file:
            answers.append([(row["row_id"], row["prediction"]) for row in csv.DictReader(file)])
        assert len(answers[-1]) == metrics.best.n
    assert answers[0] == answers[1]


def test_evaluate_on_test_applies_the_val_temperature_and_never_fits(finished: Path, tmp_path: Path) -> None:
    target = EvaluationTarget(checkpoint=str(finished), split="test", output_dir=str(tmp_path / "out"))
    evaluate(EvaluateRun(evaluate=target))
    result = read_artifact(tmp_path / "out" / "evaluation.json", Evaluation).result
    calibration = read_artifact(finished / "calibration.json", Calibration).best.calibration
    assert result.split == "test"
    assert result.calibration == calibration
    assert calibration.fitted_on_split == "val"
    assert "fitted on val" in result.scaled_how


def test_evaluate_refuses_to_write_into_a_run_directory(finished: Path) -> None:
    target = EvaluationTarget(checkpoint=str(finished), output_dir=str(finished))
    with pytest.raises(FerError, match="is a run directory"):
        evaluate(EvaluateRun(evaluate=target))


def test_evaluate_refuses_recorded_rows_that_changed(
    toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(toy_manifest.read_text())
    run = toy_run(manifest, tmp_path, epochs=1)
    run.data.root = str(toy_manifest.parent)
    train_teacher(run)
    lines = manifest.read_text().splitlines()
    index = next(i for i, line in enumerate(lines) if ",val," in line and ",Happy," in line)
    lines[index] = lines[index].replace(",Happy,", ",Sad,")
    manifest.write_text("\n".join(lines) + "\n")
    with pytest.raises(FerError, match="no longer the manifest .* its val rows differ"):
        evaluate(EvaluateRun(evaluate=EvaluationTarget(checkpoint=str(run_dir(run)))))


def test_evaluate_of_a_carved_val_takes_the_runs_own_rows_or_none(toy_manifest: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "no_val.csv"
    manifest.write_text(toy_manifest.read_text().replace(",val,", ",train,"))
    run = toy_run(manifest, tmp_path, epochs=1)
    run.data.root = str(toy_manifest.parent)
    run.run.seed, run.data.val_fraction = 7, 0.2
    train_teacher(run)
    recorded = read_artifact(run_dir(run) / "reliabilitymetrics.json", ReliabilityMetrics).best
    given = EvaluateRun(
        evaluate=EvaluationTarget(checkpoint=str(run_dir(run)), output_dir=str(tmp_path / "same")),
        data=DataConfig(
            manifest=str(manifest), root=str(toy_manifest.parent), num_workers=0, cache_dir=str(tmp_path / "cache")
        ),
    )
    evaluate(given)
    evaluation = read_artifact(tmp_path / "same" / "evaluation.json", Evaluation)
    assert evaluation.rows_seen_in_training == 0
    result = evaluation.result
    assert result.row_set_fingerprint == recorded.row_set_fingerprint
    assert result.raw.accuracy == recorded.raw.accuracy
    assert result.raw.nll == pytest.approx(recorded.raw.nll, rel=1e-6)
    manifest.write_text(manifest.read_text().replace(",Happy,", ",Sad,", 1))
    with pytest.raises(FerError, match="a val split carved now could hold rows the model was trained on"):
        evaluate(given)


def test_evaluate_on_part_of_the_val_rows_never_applies_the_fit_that_saw_them(
    finished: Path, toy_manifest: Path, tmp_path: Path
) -> None:
    target = EvaluationTarget(checkpoint=str(finished), output_dir=str(tmp_path / "part"))
    source = SourceFilterConfig(include=["ferplus"])
    data = DataConfig(manifest=str(toy_manifest), num_workers=0, cache_dir=str(tmp_path / "cache"))
    evaluate(EvaluateRun(evaluate=target, data=data, source_filter=source))
    result = read_artifact(tmp_path / "part" / "evaluation.json", Evaluation).result
    whole = read_artifact(finished / "reliabilitymetrics.json", ReliabilityMetrics).best
    assert 0 < result.n < whole.n
    assert "cross-fitted on val" in result.scaled_how


def test_evaluate_of_checkpoint_and_onnx_refuses_rows_seen_in_training(
    finished: Path, toy_manifest: Path, tmp_path: Path
) -> None:
    header, *lines = toy_manifest.read_text().splitlines()
    train = [line.replace(",train,", ",test,") for line in lines if ",train," in line][:5]
    (tmp_path / "other.csv").write_text("\n".join([header, *train, *(line for line in lines if ",test," in line)]))
    data = DataConfig(
        manifest=str(tmp_path / "other.csv"),
        root=str(toy_manifest.parent),
        num_workers=0,
        cache_dir=str(finished.parent.parent / "cache"),
    )
    for name in ("best.pt", "best.onnx"):
        target = EvaluationTarget(checkpoint=str(finished / name), split="test", output_dir=str(tmp_path / name))
        data.allow_leaks = []
        with pytest.raises(FerError, match=r"(?s)trained on 5 of these \d+ test rows.*data\.allow_leaks=\[image\]"):
            evaluate(EvaluateRun(evaluate=target, data=data))
        assert not (tmp_path / name).exists()
        data.allow_leaks = ["image"]
        evaluate(EvaluateRun(evaluate=target, data=data))
        assert read_artifact(tmp_path / name / "evaluation.json", Evaluation).rows_seen_in_training == 5


def test_evaluate_takes_the_recorded_calibration_and_refuses_options_without_effect(
    toy_manifest: Path, tmp_path: Path
) -> None:
    run = toy_run(toy_manifest, tmp_path, epochs=1)
    run.calibration.num_bins = 40
    train_teacher(run)
    recorded = read_artifact(run_dir(run) / "reliabilitymetrics.json", ReliabilityMetrics).best
    target = EvaluationTarget(checkpoint=str(run_dir(run)), output_dir=str(tmp_path / "out"))
    evaluate(EvaluateRun(evaluate=target))
    result = read_artifact(tmp_path / "out" / "evaluation.json", Evaluation).result
    assert (result.num_bins, result.raw.ece) == (40, recorded.raw.ece)
    for changed, name in (
        (EvaluateRun(evaluate=target, source_filter=SourceFilterConfig(include=["expw_hq"])), "source_filter.include"),
        (EvaluateRun(evaluate=target, data=DataConfig(max_bad_rows=3)), "data.max_bad_rows"),
        (EvaluateRun(evaluate=target, calibration=EvaluationCalibration(num_bins=10)), "calibration.num_bins"),
        (EvaluateRun(evaluate=target, data=DataConfig(manifest=str(toy_manifest), clahe=False)), "data.clahe"),
    ):
        with pytest.raises(FerError, match=f"{name}=.* would have no effect"):
            evaluate(changed)


def test_evaluate_says_which_recorded_manifest_is_not_there(
    toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.csv").write_text(toy_manifest.read_text())
    monkeypatch.chdir(tmp_path)
    run = toy_run(Path("m.csv"), tmp_path, epochs=1)
    run.data.root = str(toy_manifest.parent)
    train_teacher(run)
    monkeypatch.chdir("/")
    with pytest.raises(FerError, match=r"recorded data\.manifest=m\.csv, which is not there"):
        evaluate(EvaluateRun(evaluate=EvaluationTarget(checkpoint=str(run_dir(run)))))


def test_final_files_of_other_weights_are_not_taken_for_the_runs_own(toy_manifest: Path, tmp_path: Path) -> None:
    run = toy_run(toy_manifest, tmp_path, epochs=1)
    train_teacher(run)
    assert final_files_match(run_dir(run), onnx=False)
    assert not final_files_match(run_dir(run), onnx=True)
    content = torch.load(run_dir(run) / "best.pt", weights_only=True)
    content["epoch"] = 5
    torch.save(content, run_dir(run) / "best.pt")
    assert not final_files_match(run_dir(run), onnx=False)
    discard_final_files(run_dir(run))
    assert not (run_dir(run) / "reliabilitymetrics.json").exists()


def test_exports_of_a_paused_run_go_when_training_goes_on(
    toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy_run(toy_manifest, tmp_path, epochs=2)
    save = BestAndLast.on_train_epoch_end

    def save_and_stop(*arguments: Any) -> None:
        save(*arguments)
        raise RuntimeError("stopped after an epoch")

    monkeypatch.setattr(BestAndLast, "on_train_epoch_end", save_and_stop)
    with pytest.raises(RuntimeError, match="stopped after an epoch"):
        train_teacher(run)
    monkeypatch.undo()
    export_onnx(ExportOnnxRun(export=ExportTarget(run_dir=str(run_dir(run)), which=["last"])))
    assert (run_dir(run) / "last.onnx").exists()
    run.run.on_existing = OnExisting.resume
    train_teacher(run)
    assert not (run_dir(run) / "last.onnx").exists()
    assert not (run_dir(run) / "onnx.json").exists()
    assert final_files_match(run_dir(run), onnx=False)


def test_export_verb_rewrites_one_file_and_keeps_the_other(finished: Path) -> None:
    before = sha256_of(finished / "best.onnx")
    export_onnx(ExportOnnxRun(export=ExportTarget(run_dir=str(finished), which=["last"])))
    assert sha256_of(finished / "best.onnx") == before
    record = read_artifact(finished / "onnx.json", OnnxExport)
    assert sorted(parity.file for parity in record.files) == ["best.onnx", "last.onnx"]
    assert all(parity.same_argmax for parity in record.files)


def test_a_finished_run_is_not_resumed_silently(finished: Path, toy_manifest: Path) -> None:
    run = toy_run(toy_manifest, finished.parent.parent, epochs=3, onnx=True)
    run.run.on_existing = OnExisting.resume
    with pytest.raises(FerError, match="trained all 3 of 3 epochs"):
        train_teacher(run)


def test_an_existing_run_is_refused_with_the_ways_out(finished: Path, toy_manifest: Path) -> None:
    same = toy_run(toy_manifest, finished.parent.parent, epochs=3, onnx=True)
    with pytest.raises(FerError, match=r"run\.on_existing=resume"):
        train_teacher(same)
    other = toy_run(toy_manifest, finished.parent.parent, epochs=4, onnx=True)
    with pytest.raises(FerError, match=r"stage\.epochs: recorded 3, now 4"):
        train_teacher(other)


def test_killed_between_training_and_its_end_finishes_on_resume(toy_manifest: Path, tmp_path: Path) -> None:
    run = toy_run(toy_manifest, tmp_path, epochs=1)
    train_teacher(run)
    (run_dir(run) / "reliabilitymetrics.json").unlink()
    run.run.on_existing = OnExisting.resume
    history = (run_dir(run) / "history.json").read_bytes()
    train_teacher(run)
    assert (run_dir(run) / "reliabilitymetrics.json").exists()
    assert (run_dir(run) / "history.json").read_bytes() == history


def test_two_runs_with_one_seed_are_equal_whatever_the_loader(toy_manifest: Path, tmp_path: Path) -> None:
    first = toy_run(toy_manifest, tmp_path, tag="one")
    second = toy_run(toy_manifest, tmp_path, tag="two")
    second.data.num_workers = 2
    for run in (first, second):
        train_teacher(run)
    assert (run_dir(first) / "history.json").read_bytes() == (run_dir(second) / "history.json").read_bytes()
    for name in ("best.pt", "checkpoint_last.pt"):
        assert_same_weights(run_dir(first) / name, run_dir(second) / name)


def test_another_seed_gives_another_run(toy_manifest: Path, tmp_path: Path) -> None:
    first, second = toy_run(toy_manifest, tmp_path, epochs=1), toy_run(toy_manifest, tmp_path, epochs=1)
    second.run.seed = 7
    for run in (first, second):
        train_teacher(run)
    losses = [read_artifact(run_dir(run) / "history.json", History).epochs[0].train_loss for run in (first, second)]
    assert losses[0] != losses[1]


_CHILD = """
import sys
from pathlib import Path
from fer_lightning.runs.config import OnExisting
from fer_lightning.pipeline.train_teacher import train_teacher
from tests.conftest import toy_run
run = toy_run(Path(sys.argv[1]), Path(sys.argv[2]), epochs=4)
run.stage.accumulate = 3
run.imbalance.min_per_class = 1
run.data.num_workers = int(sys.argv[3])
run.run.on_existing = OnExisting.resume
train_teacher(run)
"""


def start_child(manifest: Path, root: Path, num_workers: int) -> "subprocess.Popen[bytes]":
    repository = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    command = [sys.executable, "-c", _CHILD, str(manifest), str(root), str(num_workers)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_run_killed_in_the_middle_equals_an_uninterrupted_one(
    toy_manifest: Path, tmp_path: Path, num_workers: int
) -> None:
    plain = toy_run(toy_manifest, tmp_path / "plain", epochs=4)
    plain.stage.accumulate = 3
    plain.imbalance.min_per_class = 1
    train_teacher(plain)
    killed = tmp_path / "killed" / "teachers" / plain.name
    for epochs_before_kill in (1, 2):
        child = start_child(toy_manifest, tmp_path / "killed", num_workers)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and child.poll() is None:
            history = killed / "history.json"
            if history.exists() and len(json.loads(history.read_text())["epochs"]) >= epochs_before_kill:
                break
            time.sleep(0.02)
        time.sleep(0.15)
        assert child.poll() is None, "the child ended before it could be killed"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert (killed / ".run.lock").exists()
    child = start_child(toy_manifest, tmp_path / "killed", num_workers)
    assert child.wait(timeout=180) == 0
    assert (killed / "history.json").read_bytes() == (run_dir(plain) / "history.json").read_bytes()
    for name in ("best.pt", "checkpoint_last.pt"):
        assert_same_weights(killed / name, run_dir(plain) / name)


def test_a_locked_directory_names_its_holder(toy_manifest: Path, tmp_path: Path) -> None:
    run = toy_run(toy_manifest, tmp_path)
    run_dir(run).mkdir(parents=True)
    with RunLock(run_dir(run)), pytest.raises(RunLockedError, match=f"pid {os.getpid()}"):
        train_teacher(run)


def test_resuming_on_other_rows_is_refused(toy_manifest: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(toy_manifest.read_text())
    run = toy_run(manifest, tmp_path, epochs=2)
    run.data.root = str(toy_manifest.parent)
    train_teacher(run)
    (run_dir(run) / "reliabilitymetrics.json").unlink()
    manifest.write_text(manifest.read_text().replace(",Happy,", ",Sad,", 1))
    run.run.on_existing = OnExisting.resume
    with pytest.raises(FerError, match="started on other data: manifest_sha256"):
        train_teacher(run)


def test_init_from_starts_a_new_run_with_the_weights_of_another(
    finished: Path, toy_manifest: Path, tmp_path: Path
) -> None:
    run = toy_run(toy_manifest, tmp_path, epochs=1)
    run.stage.init_from = str(finished)
    run.optimizer.lr = run.optimizer.min_lr = 1e-12
    run.optimizer.name = OptimizerName.sgd
    train_teacher(run)
    started = read_artifact(run_dir(run) / "alignmentreport.json", AlignmentReport).starting_weights
    assert (started.kind, started.loaded_share) == ("init_from", 1.0)
    assert started.source_sha256 == sha256_of(finished / "best.pt")
    moved, source = weights(run_dir(run) / "best.pt"), weights(finished / "best.pt")
    assert torch.allclose(moved["head.directions"], source["head.directions"], atol=1e-6)


def test_init_from_refuses_another_backbone(finished: Path, toy_manifest: Path, tmp_path: Path) -> None:
    run = toy_run(toy_manifest, tmp_path, epochs=1)
    run.stage.init_from = str(finished)
    run.backbone.name = "test_efficientnet"
    with pytest.raises(FerError, match="backbone.name=test_resnet there, test_efficientnet here"):
        train_teacher(run)


@pytest.mark.parametrize(
    "imbalance",
    [
        ImbalanceConfig(class_weights=ClassWeights.effective_number),
        ImbalanceConfig(class_weights=ClassWeights.inverse_frequency),
        ImbalanceConfig(min_per_class=2),
    ],
)
@pytest.mark.parametrize("optimizer", [OptimizerName.adamw_safe, OptimizerName.sgd])
def test_every_imbalance_correction_and_optimizer_trains(
    toy_manifest: Path, tmp_path: Path, imbalance: ImbalanceConfig, optimizer: OptimizerName
) -> None:
    run = toy_run(toy_manifest, tmp_path, epochs=1)
    run.imbalance = imbalance
    run.optimizer.name = optimizer
    run.optimizer.gradient_clip_norm = 1.0
    train_teacher(run)
    record = read_artifact(run_dir(run) / "history.json", History).epochs[0]
    assert 0 < record.train_loss < 20
    assert (record.row_coverage < 1.0) == bool(imbalance.min_per_class)


def test_a_diverging_run_stops_with_the_ways_out(toy_manifest: Path, tmp_path: Path) -> None:
    run = toy_run(toy_manifest, tmp_path, epochs=1)
    run.optimizer.name = OptimizerName.sgd
    run.optimizer.lr = 1e30
    run.optimizer.warmup_epochs = 0
    with pytest.raises(TrainingError, match=r"training diverged in epoch 1.*optimizer\.gradient_clip_norm"):
        train_teacher(run)
    assert not (run_dir(run) / "best.pt").exists()


def without_fear(toy_manifest: Path, tmp_path: Path) -> TrainTeacherRun:
    """A run whose manifest has no train rows of Fear."""
    lines = toy_manifest.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not (",train," in line and ",Fear," in line)]
    assert len(kept) < len(lines)
    (tmp_path / "manifest.csv").write_text("".join(kept))
    run = toy_run(tmp_path / "manifest.csv", tmp_path)
    run.data.root = str(toy_manifest.parent)
    return run


@pytest.mark.parametrize(
    ("loss", "imbalance", "told"),
    [
        ({"tau": 1.0}, {}, "loss.tau needs .*; set loss.tau=0 or"),
        ({"margin_rad": 0.0, "ldam_margin": 0.2}, {}, "loss.ldam_margin needs .*; set loss.ldam_margin=0 or"),
        (
            {},
            {"class_weights": ClassWeights.effective_number},
            "imbalance.class_weights=effective_number needs .*=none or",
        ),
        ({}, {"min_per_class": 1}, "imbalance.min_per_class=1 needs .*; set imbalance.min_per_class=0 or"),
        ({}, {"sampler": Sampler.class_balanced}, "imbalance.sampler=class_balanced needs .*=shuffle or"),
        ({}, {"sampler": Sampler.source_class_balanced}, "imbalance.sampler=source_class_balanced needs .*=shuffle or"),
    ],
)
def test_an_absent_class_that_the_recipe_needs_is_refused_before_a_directory_is_made(
    toy_manifest: Path, tmp_path: Path, loss: dict[str, Any], imbalance: dict[str, Any], told: str
) -> None:
    run = without_fear(toy_manifest, tmp_path)
    run.loss, run.imbalance = LossConfig(**loss), ImbalanceConfig(**imbalance)
    with pytest.raises(FerError, match=told) as refused:
        train_teacher(run)
    assert "train rows of every class, but there are none of Fear;" in str(refused.value)
    assert not run_dir(run).exists()


def test_an_absent_class_that_no_option_needs_is_a_warning(
    toy_manifest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(select_training_rows(without_fear(toy_manifest, tmp_path)).rows["train"]) > 100
    assert "no train rows of Fear: figures over 7 classes count these as 0" in caplog.text


def written(run: TrainTeacherRun) -> set[str]:
    return {path.name for path in run_dir(run).iterdir() if not path.name.startswith(".")}


def test_patches_that_do_not_cover_the_picture_are_refused_before_anything_is_computed(
    toy_manifest: Path, tmp_path: Path
) -> None:
    run = toy_run(toy_manifest, tmp_path)
    run.backbone.name, run.stage.image_size = "test_vit", 50
    with pytest.raises(
        FerError, match=r"stage.image_size=50 is no multiple of the patches of test_vit \(16\); use 48 or"
    ):
        train_teacher(run)
    assert written(run) == {"config.yaml", "run.log"}


def test_half_precision_without_a_gpu_is_refused(
    toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy_run(toy_manifest, tmp_path)
    run.trainer = TrainerConfig(precision="16-mixed")
    monkeypatch.setattr(fitting, "pick_device", lambda _: torch.device("cpu"))
    told = "precision=16-mixed needs a GPU, and trainer.accelerator=auto finds none here. Use bf16-mixed or 32-true"
    with pytest.raises(FerError, match=told):
        train_teacher(run)
    assert written(run) == {"config.yaml", "run.log"}
    monkeypatch.setattr(fitting, "pick_device", lambda _: torch.device("cuda"))
    fitting.check_precision(run.trainer)


def test_a_run_that_learnt_nothing_says_so(
    toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = toy_run(toy_manifest, tmp_path, epochs=1)
    run.watchdog.enabled = False
    spoil_epochs(monkeypatch, blind, epochs={0})
    train_teacher(run)
    metrics = read_artifact(run_dir(run) / "reliabilitymetrics.json", ReliabilityMetrics).best
    assert sum(f1 > 0 for f1 in metrics.raw.per_class_f1.values()) == 1
    assert f"nothing was learnt: the best val macro-F1, {metrics.raw.macro_f1:.4f}, is no better" in caplog.text
    assert "Look at optimizer.lr=0.002" in caplog.text
    assert "task=check_training" in caplog.text
    assert "never in the 1 epoch of this run (counted from 0): the ArcFace margin" in caplog.text


@pytest.mark.parametrize(
    ("support", "macro_f1", "warned"),
    [
        ({"Happy": 6, "Sad": 4}, 2 * 0.6 / 1.6 / 7, True),  # by hand: precision .6, recall 1, F1 .75
        ({"Happy": 6, "Sad": 4}, 0.75 / 7 + 1e-6, False),
        ({"Happy": 4, "Sad": 6}, 0.01, True),
        ({"Happy": 10, "Sad": 0}, 1 / 7, False),  # one class: nothing can be told
    ],
)
def test_the_figure_of_one_answer_to_everything(
    caplog: pytest.LogCaptureFixture, support: dict[str, int], macro_f1: float, warned: bool
) -> None:
    best: EvaluatedCheckpoint = example(EvaluatedCheckpoint)
    best = replace(best, n=10, support=support, raw=replace(best.raw, macro_f1=macro_f1))
    with caplog.at_level(logging.WARNING):
        _warn_if_nothing_was_learnt(best, lr=3e-4)
    largest = max(support, key=lambda name: support[name])
    assert (f"always answering {largest}, 0.1071" in caplog.text) == warned
    assert bool(caplog.text) == warned
