"""Extra epochs of a finished toy run: a recorded phase that goes on with everything the run had."""

import shutil
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from fer_lightning.errors import FerError, FinishedRunError
from fer_lightning.files import sha256_of
from fer_lightning.models.config import NeckKind
from fer_lightning.pipeline.config import TrainTeacherRun
from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.runs.artifacts import ReliabilityMetrics, read_artifact
from fer_lightning.runs.checkpoint import read_checkpoint
from fer_lightning.runs.config import OnExisting
from fer_lightning.runs.finished import final_files_match
from fer_lightning.runs.history import EpochRecord, History
from fer_lightning.runs.phases import read_phases
from fer_lightning.training.callbacks.step_seed import StepSeed
from tests.conftest import toy_run

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")

EVERY_STEP = 1e-9

Rates = dict[int, float]


class KilledError(RuntimeError):
    """Stands for a kill: nothing is written after it."""


def make_run(manifest: Path, root: Path, *, epochs: int) -> TrainTeacherRun:
    run = toy_run(manifest, root, epochs=epochs)
    run.run.on_existing = OnExisting.resume
    run.stage.accumulate = 2
    run.optimizer.ema_decay = 0.9
    return run


def records(run: TrainTeacherRun) -> list[EpochRecord]:
    return read_artifact(run.directory / "history.json", History).epochs


def kill_at(monkeypatch: pytest.MonkeyPatch, epoch: int, batch: int) -> None:
    seed = StepSeed.on_train_batch_start

    def die(self: StepSeed, trainer: lightning.Trainer, module: Any, data: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == (epoch, batch):
            raise KilledError
        seed(self, trainer, module, data, batch_idx)

    monkeypatch.setattr(StepSeed, "on_train_batch_start", die)


def first_rates(monkeypatch: pytest.MonkeyPatch) -> Rates:
    """Note the head's learning rate in the first step of each epoch."""
    rates: Rates = {}
    seed = StepSeed.on_train_batch_start

    def note(self: StepSeed, trainer: lightning.Trainer, module: Any, data: Any, batch_idx: int) -> None:
        groups = trainer.optimizers[0].param_groups
        rates.setdefault(trainer.current_epoch, next(group["lr"] for group in groups if group["name"] == "head"))
        seed(self, trainer, module, data, batch_idx)

    monkeypatch.setattr(StepSeed, "on_train_batch_start", note)
    return rates


@pytest.fixture(scope="module")
def finished(toy_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a finished run of two epochs."""
    root = tmp_path_factory.mktemp("finished")
    train_teacher(make_run(toy_manifest, root, epochs=2))
    return root


@pytest.fixture(scope="module")
def polished(finished: Path, toy_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rates]:
    """The directory of that run with two more epochs, and the first rate of each."""
    root = tmp_path_factory.mktemp("polished") / "root"
    shutil.copytree(finished, root)
    run = make_run(toy_manifest, root, epochs=4)
    with pytest.MonkeyPatch.context() as patch:
        rates = first_rates(patch)
        train_teacher(run)
    return run.directory, rates


def test_extra_epochs_are_a_recorded_phase(finished: Path, polished: tuple[Path, Rates], toy_manifest: Path) -> None:
    before, after = make_run(toy_manifest, finished, epochs=2).directory, polished[0]
    phases = read_phases(after)
    assert [(phase.first_epoch, phase.num_epochs, phase.lr_ratio) for phase in phases] == [(0, 2, 1.0), (2, 2, 0.1)]
    assert phases[1].reason == "stage.epochs raised from 2"
    assert phases[:1] == read_phases(before)
    assert (after / "config.yaml").read_bytes() == (before / "config.yaml").read_bytes()
    history = read_artifact(after / "history.json", History).epochs
    assert [record.epoch for record in history] == [0, 1, 2, 3]
    assert history[:2] == read_artifact(before / "history.json", History).epochs
    assert [record.phase for record in history] == ["all", "all", "polish", "polish"]
    assert [record.optimizer_steps for record in history] == [5, 10, 15, 20]
    assert history[3].margin_rad == 0.35  # the ramp goes on and stays at its end


def test_extra_epochs_start_at_their_own_rate(polished: tuple[Path, Rates]) -> None:
    assert polished[1] == {2: pytest.approx(0.1 * 2e-3), 3: pytest.approx((0.1 * 2e-3 + 1e-5) / 2)}


def test_the_best_so_far_and_the_final_files_are_those_of_the_whole_run(
    finished: Path, polished: tuple[Path, Rates], toy_manifest: Path
) -> None:
    before, after = make_run(toy_manifest, finished, epochs=2).directory, polished[0]
    history = read_artifact(after / "history.json", History).epochs
    best_so_far = -1.0
    for record in history:
        assert record.is_best == (record.val_raw.macro_f1 > best_so_far)
        best_so_far = max(best_so_far, record.val_raw.macro_f1)
    metrics = read_artifact(after / "reliabilitymetrics.json", ReliabilityMetrics)
    assert metrics.best.epoch == max(record.epoch for record in history if record.is_best)
    assert metrics.last.epoch == 3
    assert final_files_match(after, onnx=False)
    replaced = sha256_of(after / "best.pt") != sha256_of(before / "best.pt")
    assert replaced == any(record.is_best for record in history[2:])


@pytest.mark.parametrize(("epoch", "batch"), [(2, 0), (2, 3), (3, 8)])
def test_a_polish_killed_at_any_point_equals_an_uninterrupted_one(
    finished: Path,
    polished: tuple[Path, Rates],
    toy_manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epoch: int,
    batch: int,
) -> None:
    shutil.copytree(finished, tmp_path / "root")
    run = make_run(toy_manifest, tmp_path / "root", epochs=4)
    run.trainer.checkpoint_every_minutes = EVERY_STEP
    with monkeypatch.context() as patch:
        kill_at(patch, epoch, batch)
        with pytest.raises(KilledError):
            train_teacher(run)
    path = run.directory
    assert len(read_phases(path)) == 2
    with pytest.raises(FerError, match=r"is not finished.*stage\.epochs=5.*with stage\.epochs=4 first"):
        train_teacher(make_run(toy_manifest, tmp_path / "root", epochs=5))
    train_teacher(run)
    for name in ("history.json", "phases.json"):
        assert (path / name).read_bytes() == (polished[0] / name).read_bytes()
    for name in ("best.pt", "checkpoint_last.pt"):
        left, right = (read_checkpoint(folder / name, option="test") for folder in (path, polished[0]))
        assert left.epoch == right.epoch
        assert left.weights.keys() == right.weights.keys()
        assert all(torch.equal(value, right.weights[key]) for key, value in left.weights.items())
    with pytest.raises(FinishedRunError, match=r"trained all 4 of 4 epochs .* stage\.epochs=<more than 4>"):
        train_teacher(run)


def still_run(manifest: Path, root: Path, *, epochs: int) -> TrainTeacherRun:
    """A run without statistics that move by themselves, at rates too small to change an answer: epochs tie."""
    run = toy_run(manifest, root, epochs=epochs)
    run.run.on_existing = OnExisting.resume
    run.backbone.name, run.backbone.neck = "test_vit", NeckKind.layernorm
    run.optimizer.lr = run.optimizer.min_lr = 1e-12
    return run


def test_best_is_replaced_by_something_better_only(toy_manifest: Path, tmp_path: Path) -> None:
    run = still_run(toy_manifest, tmp_path, epochs=1)
    train_teacher(run)
    best = sha256_of(run.directory / "best.pt")
    run.stage.epochs, run.stage.polish_lr_ratio = 2, 0.5
    train_teacher(run)
    first, second = records(run)
    assert second.val_raw.macro_f1 == first.val_raw.macro_f1
    assert (first.is_best, second.is_best) == (True, False)
    assert sha256_of(run.directory / "best.pt") == best
    assert read_phases(run.directory)[1].lr_ratio == 0.5


def test_a_run_that_was_stopped_early_goes_on_where_it_ended(toy_manifest: Path, tmp_path: Path) -> None:
    run = still_run(toy_manifest, tmp_path, epochs=6)
    run.stage.patience = 2
    train_teacher(run)
    stopped = records(run)
    assert [record.epoch for record in stopped] == [0, 1, 2]
    with pytest.raises(FinishedRunError, match=r"trained 3 of 6 epochs, was stopped early"):
        train_teacher(run)
    run.stage.epochs = 8
    train_teacher(run)
    phases = read_phases(run.directory)
    assert [(phase.first_epoch, phase.num_epochs) for phase in phases] == [(0, 6), (3, 5)]
    assert phases[1].reason == "stage.epochs raised from 6, of which 3 were trained before it was stopped early"
    history = records(run)
    assert history[:3] == stopped
    assert [record.phase for record in history] == [*["all"] * 3, "polish", "polish"]  # its patience is a new one
    assert final_files_match(run.directory, onnx=False)
    with pytest.raises(FinishedRunError, match=r"trained 5 of 8 epochs, was stopped early"):
        train_teacher(run)


def test_a_refused_command_records_no_phase(finished: Path, toy_manifest: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "root")
    run = make_run(toy_manifest, tmp_path / "root", epochs=3)
    run.data.manifest, run.data.root = str(tmp_path / "other.csv"), str(toy_manifest.parent)
    text = toy_manifest.read_text("utf-8").replace(",Happy,", ",Sad,", 1)
    (tmp_path / "other.csv").write_text(text, encoding="utf-8")
    with pytest.raises(FerError, match="started on other data: manifest_sha256"):
        train_teacher(run)
    assert len(read_phases(run.directory)) == 1
    assert final_files_match(run.directory, onnx=False)
    run = make_run(toy_manifest, tmp_path / "root", epochs=2)
    with pytest.raises(FinishedRunError, match="trained all 2 of 2 epochs"):
        train_teacher(run)
