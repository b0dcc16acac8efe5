"""Run directories: new, resumed, different, damaged."""

import logging
import re
from pathlib import Path

import pytest
import yaml

from fer_lightning.errors import FerError, RunLockedError
from fer_lightning.models.config import BackboneConfig
from fer_lightning.pipeline.config import TrainTeacherRun
from fer_lightning.pipeline.students.config import DistillStudentRun
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.config import OnExisting, RunConfig
from fer_lightning.runs.lock import LOCK_NAME, RunLock
from fer_lightning.runs.phases import RunPhases
from fer_lightning.runs.run_dir import (
    RunDirectory,
    check_existing_run,
    flat_values,
    open_run_directory,
    plain_values,
    read_config,
    result_options,
)
from fer_lightning.training.config import StageConfig
from fer_lightning.training.distillation.config import DistillationConfig
from fer_lightning.training.recipe.config import ClassWeights, ImbalanceConfig
from tests.runs.examples import write_final_files


def a_run() -> TrainTeacherRun:
    return TrainTeacherRun()


def a_student(**taught_by: str) -> DistillStudentRun:
    return DistillStudentRun(distillation=DistillationConfig(**taught_by))  # type: ignore[arg-type]


def visit(path: Path, run: object, on_existing: OnExisting = OnExisting.fail) -> RunDirectory:
    """Open a run directory and leave it after its first checkpoint."""
    with open_run_directory(path, run, on_existing=on_existing, unlock_stale=False) as directory:
        directory.last.touch()
        return directory


def test_a_new_run_records_its_configuration_under_its_lock(tmp_path: Path) -> None:
    path, before = tmp_path / "teachers" / "R", list(logging.getLogger().handlers)
    with open_run_directory(path, a_run(), on_existing=OnExisting.fail, unlock_stale=False) as directory:
        assert directory.lock is not None
        directory.check_held()
        assert not directory.resuming
        assert read_config(path) == plain_values(a_run())
        logging.getLogger("some.library").warning("a remark for the log")
    assert (directory.best, directory.last) == (path / "best.pt", path / "checkpoint_last.pt")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d [\d:,]+ WARNING some\.library: a remark for the log\n", (path / "run.log").read_text("utf-8")
    )
    assert logging.getLogger().handlers == before
    assert {file.name for file in path.iterdir()} == {"config.yaml", "run.log", ".run.lock.guard"}


def test_the_log_handler_goes_when_the_run_fails(tmp_path: Path) -> None:
    before = list(logging.getLogger().handlers)
    opened = open_run_directory(tmp_path, a_run(), on_existing=OnExisting.fail, unlock_stale=False)
    with pytest.raises(ZeroDivisionError), opened:
        _ = 1 / 0
    assert logging.getLogger().handlers == before
    assert not (tmp_path / LOCK_NAME).exists()


def test_an_existing_run_is_refused_unless_resumed(tmp_path: Path) -> None:
    visit(tmp_path, a_run())
    with pytest.raises(FerError, match=r"already holds a run .*run\.on_existing=resume.*run\.tag=<name>"):
        visit(tmp_path, a_run())
    assert visit(tmp_path, a_run(), OnExisting.resume).resuming
    with pytest.raises(FerError, match="already holds a run"):
        visit(tmp_path, a_run())


@pytest.mark.parametrize("on_existing", OnExisting)
def test_another_configuration_is_refused_with_the_differing_keys(tmp_path: Path, on_existing: OnExisting) -> None:
    visit(tmp_path, a_run())
    recorded = (tmp_path / "config.yaml").read_bytes()
    other = TrainTeacherRun(
        stage=StageConfig(epochs=3),
        imbalance=ImbalanceConfig(class_weights=ClassWeights.effective_number),
        backbone=BackboneConfig(pretrained=False, checkpoint="w.pt"),
    )
    other.source_filter.exclude = ["ferplus"]
    with pytest.raises(FerError) as caught:
        visit(tmp_path, other, on_existing)
    message = str(caught.value)
    assert "stage.epochs: recorded 60, now 3" in message
    assert "imbalance.class_weights: recorded 'none', now 'effective_number'" in message
    assert "backbone.checkpoint: recorded None, now 'w.pt'" in message
    assert "backbone.pretrained: recorded True, now False" in message
    assert "source_filter.exclude: recorded [], now ['ferplus']" in message
    assert message.count("recorded") == 6  # five keys and the way out
    assert "run.tag=<name>" in message
    assert (tmp_path / "config.yaml").read_bytes() == recorded


def test_options_that_change_no_result_may_differ(tmp_path: Path) -> None:
    visit(tmp_path, a_run())
    other = TrainTeacherRun(run=RunConfig(root="elsewhere", on_existing=OnExisting.resume, unlock_stale=True))
    other.data.manifest, other.data.root, other.data.num_workers = "moved/manifest.csv", "moved", 0
    other.trainer.accelerator, other.trainer.onnx = "cpu", False
    visit(tmp_path, other, OnExisting.resume)
    assert read_config(tmp_path)["data"]["manifest"] is None  # the record is of the start


def test_a_run_on_another_manifest_is_no_run_to_resume(tmp_path: Path) -> None:
    first, other = a_run(), a_run()
    first.data.manifest, other.data.manifest = "a.csv", "b.csv"
    visit(tmp_path, first)
    with pytest.raises(FerError, match=r"on another manifest: recorded data\.manifest=a\.csv, now b\.csv") as caught:
        visit(tmp_path, other)
    assert "resume" not in str(caught.value)
    assert "run.tag=<name>" in str(caught.value)
    with pytest.raises(FerError, match=r"already holds a run of this configuration.*run\.on_existing=resume"):
        visit(tmp_path, first)
    assert visit(tmp_path, other, OnExisting.resume).resuming  # it may have moved; rows are compared by digest


def test_a_run_of_another_teacher_is_no_run_to_resume(tmp_path: Path) -> None:
    first, other, live = a_student(softlabels="a"), a_student(softlabels="b"), a_student(ensemble="e")
    visit(tmp_path, first)
    for run, named in ((other, r"=a, now b"), (live, r"=a, now None")):
        expected = r"from another teacher: recorded distillation\.softlabels" + named
        with pytest.raises(FerError, match=expected) as caught:
            visit(tmp_path, run)
        assert "resume" not in str(caught.value)
    assert visit(tmp_path, other, OnExisting.resume).resuming  # it may have moved; soft labels are compared by digest


def test_a_start_that_trained_nothing_leaves_the_directory_free(tmp_path: Path) -> None:
    visit(tmp_path, a_run()).last.unlink()
    other = a_run()
    other.backbone.pretrained = False
    visit(tmp_path, other)
    assert read_config(tmp_path)["backbone"]["pretrained"] is False


@pytest.mark.parametrize(
    "key", ["run.seed", "data.clahe", "trainer.precision", "trainer.deterministic", "optimizer.lr", "loss.margin_rad"]
)
def test_an_option_that_changes_results_may_not(tmp_path: Path, key: str) -> None:
    visit(tmp_path, a_run())
    values = read_config(tmp_path)
    group, name = key.split(".")
    values[group][name] = "another"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(FerError, match=rf"{key}: recorded 'another'"):
        visit(tmp_path, a_run(), OnExisting.resume)


def test_an_option_unknown_to_one_side_is_shown(tmp_path: Path) -> None:
    visit(tmp_path, a_run())
    values = read_config(tmp_path)
    del values["loss"]["scale"]
    values["loss"]["retired"] = 3
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(FerError) as caught:
        visit(tmp_path, a_run(), OnExisting.resume)
    assert "loss.retired: recorded 3, now '(absent)'" in str(caught.value)
    assert "loss.scale: recorded '(absent)', now 30.0" in str(caught.value)


def test_foreign_files_are_not_joined(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(FerError, match=r"holds files but no run \(holiday\.jpg\)"):
        visit(tmp_path, a_run(), OnExisting.resume)
    assert not (tmp_path / "config.yaml").exists()
    assert not (tmp_path / "run.log").exists()
    assert not (tmp_path / LOCK_NAME).exists()


@pytest.mark.parametrize("leftover", [".config.yaml.4711.tmp", "..run.lock.4711.tmp"])
def test_what_a_killed_process_was_writing_is_no_foreign_file(tmp_path: Path, leftover: str) -> None:
    (tmp_path / leftover).write_text("half a", encoding="utf-8")
    assert visit(tmp_path, a_run()).path == tmp_path


def test_nothing_is_written_to_a_locked_directory(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        with pytest.raises(RunLockedError):
            visit(tmp_path, a_run())
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_path_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "R").touch()
    with pytest.raises(FerError, match=f"cannot make the run directory {tmp_path / 'R'}"):
        visit(tmp_path / "R", a_run())
    with pytest.raises(FerError, match="cannot make the run directory"):
        visit(tmp_path / "R" / "S", a_run())


@pytest.mark.parametrize("text", ["", "- a\n", "text", "a: [", "\x00", "a: !!python/object:os.system {}"])
def test_a_damaged_config_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "checkpoint_last.pt").touch()
    with pytest.raises(FerError, match=r"config\.yaml is damaged"):
        visit(tmp_path, a_run(), OnExisting.resume)


def test_no_run_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FerError, match=f"{tmp_path} is not a run directory"):
        read_config(tmp_path)


def test_plain_values_come_back_from_yaml() -> None:
    run = TrainTeacherRun(run=RunConfig(tag="no", seed=7), stage=StageConfig(name="1e3"))
    run.optimizer.lr = 1e-5
    values = plain_values(run)
    assert yaml.safe_load(yaml.safe_dump(values)) == values
    assert plain_values([Path("a"), (1, OnExisting.fail)]) == [Path("a"), [1, "fail"]]
    assert flat_values(run)["run.tag"] == "no"
    assert flat_values(run)["optimizer.name"] == "adamw"
    assert flat_values(run)["data.group_columns"] == ["subject", "orig_image"]


def a_finished_run(path: Path, *, epochs: int = 60, trained: int | None = None) -> TrainTeacherRun:
    """Fill a directory as a run that has ended leaves it."""
    run = TrainTeacherRun(stage=StageConfig(epochs=epochs))
    directory = visit(path, run)
    write_artifact(path / "phases.json", RunPhases(phases=directory.phases))
    write_final_files(path, last_epoch=(trained or epochs) - 1)
    return run


def spans(directory: RunDirectory) -> list[tuple[int, int, float]]:
    return [(phase.first_epoch, phase.num_epochs, phase.lr_ratio) for phase in directory.phases]


@pytest.mark.parametrize(("trained", "second"), [(60, (60, 10, 0.1)), (41, (41, 29, 0.1))])
def test_a_finished_run_takes_extra_epochs(tmp_path: Path, trained: int, second: tuple[int, int, float]) -> None:
    assert spans(visit(tmp_path / "new", a_run())) == [(0, 60, 1.0)]
    run = a_finished_run(tmp_path / "R", trained=trained)
    recorded = (tmp_path / "R" / "config.yaml").read_bytes()
    run.stage.epochs = 70
    with pytest.raises(
        FerError, match=r"(?s)stage\.epochs: recorded 60, now 70.*Extra epochs .*run\.on_existing=resume"
    ):
        visit(tmp_path / "R", run)
    directory = visit(tmp_path / "R", run, OnExisting.resume)
    assert directory.resuming
    assert spans(directory) == [(0, 60, 1.0), second]
    assert (tmp_path / "R" / "config.yaml").read_bytes() == recorded


def test_extra_epochs_start_where_the_command_says_and_go_on_as_recorded(tmp_path: Path) -> None:
    run = a_finished_run(tmp_path)
    run.stage.epochs, run.stage.polish_lr_ratio = 70, 0.3
    directory = visit(tmp_path, run, OnExisting.resume)
    assert spans(directory)[1] == (60, 10, 0.3)
    write_artifact(tmp_path / "phases.json", RunPhases(phases=directory.phases))
    assert visit(tmp_path, run, OnExisting.resume).phases == directory.phases  # killed before its first epoch was over
    run.stage.polish_lr_ratio = 0.1
    with pytest.raises(FerError, match=r"stage\.polish_lr_ratio: recorded 0\.3, now 0\.1"):
        visit(tmp_path, run, OnExisting.resume)
    run.stage.epochs = 80
    with pytest.raises(FerError, match=r"not finished.*stage\.epochs=80.*with stage\.epochs=70 first.*run\.tag=<name>"):
        visit(tmp_path, run, OnExisting.resume)
    write_final_files(tmp_path, last_epoch=69)
    assert spans(visit(tmp_path, run, OnExisting.resume)) == [(0, 60, 1.0), (60, 10, 0.3), (70, 10, 0.1)]
    assert (result_options(tmp_path)["stage.epochs"], result_options(tmp_path)["stage.polish_lr_ratio"]) == (70, 0.3)


@pytest.mark.parametrize("epochs", [1, 59])
def test_fewer_epochs_are_refused(tmp_path: Path, epochs: int) -> None:
    run = a_finished_run(tmp_path)
    run.stage.epochs = epochs
    with pytest.raises(FerError, match=f"stage.epochs: recorded 60, now {epochs}") as caught:
        visit(tmp_path, run, OnExisting.resume)
    assert "Extra epochs" not in str(caught.value)


def test_an_unfinished_run_takes_no_extra_epochs(tmp_path: Path) -> None:
    visit(tmp_path, a_run())
    more = TrainTeacherRun(stage=StageConfig(epochs=61))
    with pytest.raises(FerError, match=r"not finished.*stage\.epochs=61.*continue it with stage\.epochs=60 first"):
        visit(tmp_path, more, OnExisting.resume)


def test_extra_epochs_change_nothing_else(tmp_path: Path) -> None:
    run = a_finished_run(tmp_path)
    run.stage.epochs, run.optimizer.lr = 70, 1e-3
    with pytest.raises(FerError) as caught:
        visit(tmp_path, run, OnExisting.resume)
    assert "optimizer.lr: recorded 0.0003, now 0.001" in str(caught.value)
    assert "stage.epochs: recorded 60, now 70" in str(caught.value)
    assert "Extra epochs" not in str(caught.value)


def test_a_directory_is_checked_without_a_trace(tmp_path: Path) -> None:
    check_existing_run(tmp_path / "absent", a_run(), on_existing=OnExisting.fail)
    assert not (tmp_path / "absent").exists()
    run = a_finished_run(tmp_path)
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    check_existing_run(tmp_path, run, on_existing=OnExisting.resume)
    with pytest.raises(FerError, match="already holds a run of this configuration"):
        check_existing_run(tmp_path, run, on_existing=OnExisting.fail)
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before
