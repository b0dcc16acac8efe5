"""Every lesson in conf/distillation trains a student, and two processes train one together."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import TypeAdapter

from fer_lightning.pipeline.distill_student import distill_student
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.distillation import DistillationRecord
from fer_lightning.runs.history import History
from fer_lightning.training.distillation.config import DistillationConfig, DistillationObjective, TemperatureRule
from tests.pipeline.test_ddp import finish, options
from tests.pipeline.toy_students import Lesson, make_lesson, student_run

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")]

LESSONS = sorted((Path(__file__).parents[3] / "conf" / "distillation").glob("*.yaml"))


@pytest.fixture(scope="module")
def lesson(toy_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    return make_lesson(toy_manifest, tmp_path_factory.mktemp("lesson"))


def configured(file: Path, lesson: Lesson) -> DistillationConfig:
    """Return the options of a file, with a live ensemble where a teacher is needed and one will do."""
    given: dict[str, Any] = yaml.safe_load(file.read_text())
    if given["objective"] != "none" and not given.get("self_teaching"):
        stored = given.get("temperature_rule") == TemperatureRule.entropy.value
        given |= {"softlabels": str(lesson.softlabels)} if stored else {"ensemble": str(lesson.ensemble)}
    return TypeAdapter(DistillationConfig).validate_python(given)


@pytest.mark.parametrize("file", LESSONS, ids=lambda file: file.stem)
def test_every_lesson_trains_a_student(file: Path, lesson: Lesson, tmp_path: Path) -> None:
    run = student_run(lesson, tmp_path, epochs=2)
    run.distillation = configured(file, lesson)
    distill_student(run)
    assert run.directory.name.endswith(f"_{run.distillation.name}")
    record = read_artifact(run.directory / "distillation.json", DistillationRecord)
    taught = [epoch.lesson for epoch in read_artifact(run.directory / "history.json", History).epochs]
    losses = [epoch.distillation_loss > 0 for epoch in taught if epoch is not None]
    if run.distillation.objective is DistillationObjective.none:
        assert (losses, record.kd_temperature) == ([False, False], None)
        return
    assert losses == [not run.distillation.self_teaching, True]
    assert record.kd_temperature is not None


def test_two_processes_bring_their_own_logits_together(toy_manifest: Path, tmp_path: Path) -> None:
    """In the first epoch no row has a teacher: the learned temperature has a gradient all the same."""
    more = ["task=distill_student", "distillation=self", "distillation.temperature_rule=curriculum", "stage.epochs=2"]
    code, said = finish(*options(toy_manifest, tmp_path / "runs", *more), folder=tmp_path)
    assert code == 0, said
    (folder,) = (tmp_path / "runs" / "students").iterdir()
    kept = torch.load(folder / "checkpoint_last.pt", weights_only=True)["fer_lightning_own_logits"]
    seen = kept["table"].isfinite().all(dim=1)
    train = read_artifact(folder / "distillation.json", DistillationRecord).rows_without
    assert int(seen.sum()) == train
    assert [len(of_rank["rows"]) for of_rank in kept["kept"]] == [0, 0]
