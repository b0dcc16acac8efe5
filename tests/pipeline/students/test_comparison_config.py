"""The run of a comparison: who teaches an arm, where it starts, how many epochs it has had, and how arms compose."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from fer_lightning.config import composition_message, conf_dir, register_schemas, to_run
from fer_lightning.errors import FerError
from fer_lightning.models.config import BackboneConfig
from fer_lightning.pipeline.students.comparison_config import CompareStudentsRun, ComparisonConfig
from fer_lightning.runs.config import RunConfig
from fer_lightning.training.distillation.config import DistillationConfig, DistillationObjective, TemperatureRule
from fer_lightning.training.recipe.config import HeadKind, LossConfig

LABELS = DistillationConfig(name="labels", objective=DistillationObjective.none, ce_weight=1.0)
ARMS = ("+distillation@arms.labels=none", "+distillation@arms.kd=kd")


def make_run(arms: dict[str, DistillationConfig] | None = None, **comparison: Any) -> CompareStudentsRun:
    """A comparison of labels, KD, DKD and a student of itself."""
    given = {
        "labels": LABELS,
        "kd": DistillationConfig(),
        "dkd": DistillationConfig(objective=DistillationObjective.dkd),
        "self": DistillationConfig(self_teaching=True),
    }
    options: dict[str, Any] = {"softlabels": "s", "seeds": [1, 2], **comparison}
    return CompareStudentsRun(
        arms=arms or given,
        comparison=ComparisonConfig(**options),
        backbone=BackboneConfig(name="resnet18", short="RN18"),
        loss=LossConfig(name="cross-entropy", head=HeadKind.linear, margin_rad=0.0),
    )


@pytest.fixture
def _hydra() -> Iterator[None]:
    register_schemas()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        yield


def composed(*overrides: str) -> CompareStudentsRun:
    run = to_run(compose("config", overrides=["task=compare_students", *overrides]))
    assert isinstance(run, CompareStudentsRun)
    return run


def test_the_common_teacher_goes_to_arms_that_distil_and_name_none() -> None:
    own = DistillationConfig(objective=DistillationObjective.nkd, softlabels="own")
    run = make_run(
        {"labels": LABELS, "kd": DistillationConfig(), "nkd": own, "self": DistillationConfig(self_teaching=True)}
    )
    taught = {arm: run.student(arm, 1).distillation for arm in run.arms}
    assert {arm: lesson.softlabels for arm, lesson in taught.items()} == {
        "labels": None,
        "kd": "s",
        "nkd": "own",
        "self": None,
    }
    assert [lesson.name for lesson in taught.values()] == ["labels", "kd", "nkd", "self"]
    live = make_run({"labels": LABELS, "kd": DistillationConfig()}, softlabels=None, ensemble="e")
    assert live.student("kd", 1).distillation.ensemble == "e"
    both = make_run({"labels": LABELS, "kd": DistillationConfig()}, ensemble="e")
    assert (both.student("kd", 1).distillation.softlabels, both.student("kd", 1).distillation.ensemble) == ("s", None)


def test_students_lie_below_the_comparison_that_is_named_after_what_they_share() -> None:
    run = make_run()
    assert run.directory.as_posix() == "experiments/comparisons/RN18_resnet18_stageA_img224"
    student = run.student("kd", 2)
    assert student.directory == run.directory / "students" / "RN18_resnet18_seed2_stageA_img224_kd"
    assert (student.task, student.run.seed) == ("distill_student", 2)
    named = replace(run, comparison=replace(run.comparison, name="mine"), run=RunConfig(root="out", tag="t"))
    assert named.directory.as_posix() == "out/comparisons/mine_t"
    assert named.student("labels", 1).directory.name == "RN18_resnet18_seed1_stageA_img224_labels_t"


def test_an_arm_that_starts_from_another_has_had_its_epochs_too() -> None:
    run = make_run(starts={"dkd": "kd", "kd": "labels"})
    assert [run.epochs_of(arm) for arm in ("labels", "kd", "dkd", "self")] == [60, 120, 180, 60]
    assert run.starts_of("dkd") == ["kd", "labels"]
    student = run.student("dkd", 2)
    assert student.stage.init_from == run.student("kd", 2).directory.as_posix()
    assert not student.backbone.pretrained
    first = run.student("labels", 2)
    assert (first.stage.init_from, first.backbone.pretrained) == (None, True)


def test_the_baseline_comes_first() -> None:
    assert make_run(baseline="dkd").arms_in_order() == ["dkd", "labels", "kd", "self"]


@pytest.mark.usefixtures("_hydra")
def test_arms_compose_from_the_command_line() -> None:
    run = composed(
        *ARMS,
        "+distillation@arms.kd4=kd",
        "arms.kd4.kd_temperature=4",
        "+distillation@arms.soft=curriculum",
        "+comparison.starts.kd4=kd",
        "comparison.softlabels=s",
    )
    assert {type(arm) for arm in run.arms.values()} == {DistillationConfig}
    assert [arm.kd_temperature for arm in run.arms.values()] == [2.0, 2.0, 4.0, 2.0]
    assert run.arms["labels"].objective is DistillationObjective.none
    assert run.arms["soft"].temperature_rule is TemperatureRule.curriculum
    assert run.comparison.starts == {"kd4": "kd"}
    assert list(composed(*ARMS, "+distillation@arms.x=dkd", "~arms.kd", "comparison.softlabels=s").arms) == [
        "labels",
        "x",
    ]


@pytest.mark.usefixtures("_hydra")
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("arms.kd.kd_temprature=4", "unknown option arms.kd.kd_temprature; did you mean arms.kd.kd_temperature?"),
        ("arms.nkd.gamma=2", "there is no arm nkd: +distillation@arms.nkd=<option> adds it"),
        ("arms.nkd.shoe=2", "unknown option arms.nkd.shoe; --help lists the options"),
        ("comparison.starts.kd=labels", "an arm that starts from another is added: +comparison.starts.ARM=<arm>"),
    ],
)
def test_a_misspelt_arm_says_how_it_is_spelt(override: str, message: str) -> None:
    with pytest.raises(HydraException) as caught:
        composed(*ARMS, override)
    assert composition_message(caught.value) == message


@pytest.mark.usefixtures("_hydra")
def test_an_arm_is_checked_as_a_student_by_itself() -> None:
    with pytest.raises(FerError, match="arm kd: arms.kd.views has no effect without soft labels or an ensemble"):
        composed(*ARMS, "comparison.ensemble=e", "arms.kd.views=true")
    with pytest.raises(FerError, match="arms.kd.temperature_rule=entropy looks at all targets beforehand"):
        composed(*ARMS, "comparison.ensemble=e", "arms.kd.temperature_rule=entropy")
    with pytest.raises(FerError, match="arms.kd.kd_temperature must be positive, got -1"):
        composed(*ARMS, "comparison.softlabels=s", "arms.kd.kd_temperature=-1")
    assert composed(*ARMS, "comparison.softlabels=s", "arms.kd.views=true").student("kd", 1).distillation.views
