"""Patience ends a run for good: it is finished, can be judged later, and can be given extra epochs."""

from pathlib import Path

import pytest

from fer_lightning.errors import FinishedRunError
from fer_lightning.pipeline.config import TrainTeacherRun
from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.config import OnExisting
from fer_lightning.runs.finished import final_files_match
from fer_lightning.runs.history import EpochRecord, History
from fer_lightning.training.callbacks.early_stopping import epochs_without_gain
from fer_lightning.training.callbacks.final_reliability import FinalReliability
from fer_lightning.training.callbacks.step_seed import StepSeed
from tests.conftest import toy_run
from tests.training.epochs import blind, epoch_record, spoil_epochs

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")


class KilledError(RuntimeError):
    """Stands for a kill: nothing is written after it."""


def make_run(manifest: Path, root: Path) -> TrainTeacherRun:
    run = toy_run(manifest, root, epochs=6)
    run.run.on_existing = OnExisting.resume
    run.stage.patience = 2
    run.watchdog.enabled = False
    return run


def records(run: TrainTeacherRun) -> list[EpochRecord]:
    return read_artifact(run.directory / "history.json", History).epochs


def test_a_run_without_gain_stops_is_finished_and_takes_extra_epochs(
    toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(toy_manifest, tmp_path)
    spoil_epochs(monkeypatch, blind, epochs={1, 2, 3, 4, 5, 6})
    with caplog.at_level("INFO"):
        train_teacher(run)
    history = records(run)
    assert [record.is_best for record in history] == [True, False, False]
    best = history[0].val_raw.macro_f1
    told = (
        f"stopping early after epoch 3: none since epoch 1 has a val macro-F1 above its {best:.4f} (stage.patience=2)"
    )
    assert told in caplog.text
    fall = best - history[2].val_raw.macro_f1
    assert f"best.pt is epoch 1: val macro-F1 {best:.4f}" in caplog.text
    assert f"the last one, epoch 3, lies {fall:.4f} below" in caplog.text
    assert final_files_match(run.directory, onnx=False)
    told = r"trained 3 of 6 epochs, was stopped early \(best epoch 1\).* stage\.epochs=<more than 6>"
    with pytest.raises(FinishedRunError, match=told):
        train_teacher(run)
    run.stage.epochs = 8
    train_teacher(run)
    assert [record.phase for record in records(run)] == ["all", "all", "all", "polish", "polish"]


def test_a_stopped_run_that_was_killed_before_it_was_judged_is_judged_without_another_step(
    toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(toy_manifest, tmp_path)
    spoil_epochs(monkeypatch, blind, epochs={1, 2, 3})

    def die(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(FinalReliability, "on_fit_end", die)
        with pytest.raises(KilledError):
            train_teacher(run)
    last = (run.directory / "checkpoint_last.pt").read_bytes()
    assert not (run.directory / "reliabilitymetrics.json").exists()
    monkeypatch.setattr(StepSeed, "on_train_batch_start", die)
    train_teacher(run)
    assert len(records(run)) == 3
    assert (run.directory / "checkpoint_last.pt").read_bytes() == last
    assert final_files_match(run.directory, onnx=False)


def test_patience_counts_epochs_after_the_best_in_which_all_was_trained() -> None:
    assert epochs_without_gain([]) == 0
    head = [epoch_record(0, 0.3, is_best=True, phase="head"), epoch_record(1, 0.2, phase="head")]
    late = [*head, epoch_record(2, 0.1, phase="late blocks")]
    assert epochs_without_gain(late) == 0
    assert epochs_without_gain([*late, epoch_record(3, 0.2), epoch_record(4, 0.1)]) == 2
    assert epochs_without_gain([*late, epoch_record(3, 0.2), epoch_record(4, 0.4, is_best=True)]) == 0


def test_extra_epochs_have_the_whole_patience() -> None:
    past = [epoch_record(0, 0.3, is_best=True), epoch_record(1, 0.2), epoch_record(2, 0.2)]
    assert epochs_without_gain(past, first_epoch=3) == 0
    assert epochs_without_gain([*past, epoch_record(3, 0.2, phase="polish")], first_epoch=3) == 1
