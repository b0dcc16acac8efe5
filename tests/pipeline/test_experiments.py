"""Every experiment file runs: at once with a tiny network of its family, and in the slow tests with its own."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from fer_lightning.config import conf_dir, register_schemas, to_run
from fer_lightning.pipeline.config import TrainTeacherRun
from fer_lightning.pipeline.distill_student import distill_student
from fer_lightning.pipeline.ensembles.config import FuseEnsembleRun
from fer_lightning.pipeline.fuse_ensemble import fuse_ensemble
from fer_lightning.pipeline.students.config import DistillStudentRun
from fer_lightning.pipeline.teachers.two_stage_config import TrainTwoStageRun
from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.pipeline.train_two_stage import train_two_stage
from fer_lightning.runs.artifacts import ReliabilityMetrics, read_artifact
from fer_lightning.runs.ensemble import Ensemble
from fer_lightning.runs.history import History
from tests.runs.stored_teachers import write_teachers

EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
STUDENTS = [name for name in EXPERIMENTS if "student" in name and "comparison" not in name]
ONE_STAGE = [
    name
    for name in EXPERIMENTS
    if not name.startswith("two_stage") and "ensemble" not in name and "student" not in name
]
ENSEMBLES = [name for name in EXPERIMENTS if "ensemble" in name]
TWO_STAGES = [name for name in EXPERIMENTS if name.startswith("two_stage")]
FAMILIES = {
    "resnet": "test_resnet",
    "efficientnet": "test_efficientnet",
    "convnext": "test_convnext",
    "vit": "test_vit",
}
"""timm's own test models: half a million parameters each."""
QUICK = ["stage.epochs=1", "backbone.pretrained=false", "trainer=cpu", "trainer.onnx=false", "data.num_workers=0"]

pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")


def run_of(name: str, manifest: Path, root: Path, *overrides: str) -> TrainTeacherRun | TrainTwoStageRun:
    """Compose an experiment for the toy set."""
    register_schemas()
    options = [
        f"+experiment={name}",
        f"data.manifest={manifest}",
        f"run.root={root}",
        f"data.cache_dir={root / 'cache'}",
    ]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        run = to_run(compose("config", overrides=[*options, *QUICK, *overrides]))
    assert isinstance(run, TrainTeacherRun | TrainTwoStageRun)
    return run


def tiny(name: str, manifest: Path, root: Path, *overrides: str) -> TrainTeacherRun | TrainTwoStageRun:
    """Compose an experiment with a tiny network of its family."""
    backbone = run_of(name, manifest, root, *overrides).backbone.name
    model = next(test for family, test in FAMILIES.items() if family in backbone)
    small = [f"backbone.name={model}", "backbone.short=TOY", "backbone.embedding_dim=32", "stage.image_size=32"]
    return run_of(name, manifest, root, *overrides, *small)


def trained(run: TrainTeacherRun | TrainTwoStageRun) -> ReliabilityMetrics:
    """Train a single-stage run and return its figures; its checkpoints load with weights only."""
    assert isinstance(run, TrainTeacherRun)
    train_teacher(run)
    directory = Path(run.run.root) / "teachers" / run.name
    for checkpoint in ("best.pt", "checkpoint_last.pt"):
        assert "state_dict" in torch.load(directory / checkpoint, weights_only=True)
    return read_artifact(directory / "reliabilitymetrics.json", ReliabilityMetrics)


def first_stage_of(name: str, manifest: Path, root: Path, *, toy: bool) -> list[str]:
    """Train what a second stage starts from, and return the option that names it."""
    if not name.startswith("stageB"):
        return []
    compose_run = tiny if toy else run_of
    first = compose_run(name.replace("stageB", "stageA"), manifest, root, *([] if toy else ["stage.image_size=48"]))
    trained(first)
    return [f"stage.init_from={root / 'teachers' / first.name}"]


@pytest.mark.parametrize("name", ONE_STAGE)
def test_every_recipe_trains_a_tiny_network(name: str, toy_manifest: Path, tmp_path: Path) -> None:
    start = first_stage_of(name, toy_manifest, tmp_path, toy=True)
    metrics = trained(tiny(name, toy_manifest, tmp_path, *start))
    assert metrics.last.epoch == 0
    assert 0 < metrics.last.raw.nll < 30


@pytest.mark.parametrize("name", TWO_STAGES)
def test_two_stages_judge_their_own_val_rows(name: str, toy_manifest: Path, tmp_path: Path) -> None:
    run = tiny(name, toy_manifest, tmp_path, "stage_b.image_size=48", "stage_b.epochs=1")
    assert isinstance(run, TrainTwoStageRun)
    train_two_stage(run)
    first, second = (
        read_artifact(path, ReliabilityMetrics).last
        for path in sorted(tmp_path.glob("teachers/*/reliabilitymetrics.json"))
    )
    assert second.n < first.n  # FERPlus is left out
    assert second.row_set_fingerprint != first.row_set_fingerprint


@pytest.mark.parametrize("name", ENSEMBLES)
def test_every_ensemble_is_fused_from_logits_at_hand(name: str, tmp_path: Path) -> None:
    register_schemas()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        documented = to_run(compose("config", overrides=[f"+experiment={name}"]))
        assert isinstance(documented, FuseEnsembleRun)
        names = ("RN18", "B3", "CNXT")[: len(documented.ensemble.teachers)]
        teachers = ",".join(write_teachers(tmp_path / "t", names=names, num_val=120, num_test=60))
        options = [f"ensemble.teachers=[{teachers}]", f"run.root={tmp_path}", "evaluate.num_resamples=100"]
        run = to_run(compose("config", overrides=[f"+experiment={name}", *options]))
    assert isinstance(run, FuseEnsembleRun)
    fuse_ensemble(run)
    (folder,) = (tmp_path / "ensembles").iterdir()
    ensemble = read_artifact(folder / "ensemble.json", Ensemble)
    weights = [teacher.weight for teacher in ensemble.teachers]
    assert sum(weights) == pytest.approx(1)
    if documented.ensemble.weights:
        assert weights == documented.ensemble.weights


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_recipe_trains_a_tiny_network(name: str, toy_manifest: Path, tmp_path: Path) -> None:
    register_schemas()
    small = [
        "backbone.name=test_efficientnet",
        "backbone.short=TOY",
        "backbone.embedding_dim=32",
        "stage.image_size=32",
    ]
    places = [f"data.manifest={toy_manifest}", f"run.root={tmp_path}", f"data.cache_dir={tmp_path / 'cache'}"]
    taught = name.endswith("kd") or name.startswith("demo")
    # Soft labels have tests of their own.
    teacher = ["distillation.self_teaching=true", "distillation.teacher_calibration=none"] if taught else []
    given = [f"+experiment={name}", *places, *QUICK, *small, *teacher, "stage.epochs=2", "stage.batch_size=64"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        run = to_run(compose("config", overrides=given))
    assert isinstance(run, DistillStudentRun)
    distill_student(run)
    lessons = [epoch.lesson for epoch in read_artifact(run.directory / "history.json", History).epochs]
    assert lessons[-1] is not None
    assert (lessons[-1].distillation_loss > 0) == bool(teacher)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_STAGE)
def test_every_experiment_trains_its_own_network(name: str, toy_manifest: Path, tmp_path: Path) -> None:
    start = first_stage_of(name, toy_manifest, tmp_path, toy=False)
    metrics = trained(run_of(name, toy_manifest, tmp_path, "stage.image_size=48", "data.limit_rows=70", *start))
    assert metrics.last.epoch == 0
    assert 0 < metrics.last.raw.nll < 30
