"""The verb `distill_student` from teachers to every verb that takes a student: what it records, resumes and refuses."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import scipy.special
import torch

from fer_lightning.data.config import DataConfig
from fer_lightning.errors import FerError, FinishedRunError
from fer_lightning.files import sha256_of
from fer_lightning.pipeline.archive import archive
from fer_lightning.pipeline.calibrate import calibrate
from fer_lightning.pipeline.compare_runs import compare_runs
from fer_lightning.pipeline.config import (
    CompareRunsRun,
    Comparison,
    ExportOnnxRun,
    ExportTarget,
)
from fer_lightning.pipeline.diagnose_alignment import diagnose_alignment
from fer_lightning.pipeline.distill_student import distill_student
from fer_lightning.pipeline.ensembles.config import EnsembleConfig, FuseEnsembleRun
from fer_lightning.pipeline.evaluate import evaluate
from fer_lightning.pipeline.evaluation.config import (
    CalibrateRun,
    CalibrationComparison,
    Corruption,
    EvaluateRun,
    EvaluationTarget,
    RobustnessConfig,
    RobustnessRun,
    View,
)
from fer_lightning.pipeline.export_onnx import export_onnx
from fer_lightning.pipeline.export_softlabels import export_softlabels
from fer_lightning.pipeline.fuse_ensemble import fuse_ensemble
from fer_lightning.pipeline.housekeeping.config import (
    ArchiveConfig,
    ArchiveRun,
    SummariseRun,
    SummaryConfig,
    TriageConfig,
    TriageRun,
)
from fer_lightning.pipeline.learning.preparation import prepare_training
from fer_lightning.pipeline.logits.config import StoreConfig, StoreLogitsRun
from fer_lightning.pipeline.robustness import robustness
from fer_lightning.pipeline.softlabels.config import DiagnoseAlignmentRun, DiagnosisConfig
from fer_lightning.pipeline.store_logits import store_logits
from fer_lightning.pipeline.students.config import DistillStudentRun
from fer_lightning.pipeline.students.retention import retention_of
from fer_lightning.pipeline.students.signal import open_signal
from fer_lightning.pipeline.summarise import summarise
from fer_lightning.pipeline.triage import triage
from fer_lightning.runs.artifacts import AlignmentReport, ReliabilityMetrics, read_artifact
from fer_lightning.runs.checkpoint import read_checkpoint
from fer_lightning.runs.config import OnExisting, RunConfig
from fer_lightning.runs.distillation import DistillationRecord
from fer_lightning.runs.ensemble import Ensemble, EnsembleMetrics
from fer_lightning.runs.evaluation import Evaluation
from fer_lightning.runs.history import History
from fer_lightning.runs.leaderboard import Leaderboard
from fer_lightning.runs.robustness_report import Robustness
from fer_lightning.runs.summary import Summary
from fer_lightning.runs.triage import Triage
from fer_lightning.training.callbacks.step_seed import StepSeed
from fer_lightning.training.config import CalibrationMethod
from fer_lightning.training.distillation.config import DistillationObjective, TeacherCalibration, TemperatureRule
from tests.pipeline.exported_softlabels import export_run, only_export
from tests.pipeline.toy_students import Lesson, make_lesson, student_run

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")

FILES = {
    "config.yaml",
    "run.log",
    "distillation.json",
    "alignmentreport.json",
    "environment.json",
    "phases.json",
    "history.json",
    "timings.json",
    "calibration.json",
    "reliabilitymetrics.json",
    "best.pt",
    "checkpoint_last.pt",
    "best.onnx",
    "last.onnx",
    "onnx.json",
}

RECORDED = DataConfig(num_workers=0)
"""Rows as the run of a model has recorded them."""


class KilledError(RuntimeError):
    """Stands for a kill: nothing is written after it."""


@pytest.fixture(scope="module")
def lesson(toy_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    """Two toy teachers, their ensemble, and soft labels of it."""
    return make_lesson(toy_manifest, tmp_path_factory.mktemp("lesson"))


@pytest.fixture(scope="module")
def finished(lesson: Lesson) -> Path:
    """A student of two epochs beside its teachers."""
    run = student_run(lesson, lesson.root)
    run.trainer.onnx = True
    distill_student(run)
    return run.directory


def record_of(run_dir: Path) -> DistillationRecord:
    return read_artifact(run_dir / "distillation.json", DistillationRecord)


def recorded(lesson: Lesson, **options: Any) -> DistillationRecord:
    """Return what would be recorded of a lesson, before anything is trained."""
    run = student_run(lesson, Path("nowhere"), **options)
    return open_signal(run, prepare_training(run)).record


def train_logits(lesson: Lesson) -> tuple[Any, Any]:
    """Return exported logits and labels of the train rows, as float64."""
    with np.load(lesson.softlabels / "softlabels.npz") as file:
        logits, labels = file["logits"].astype(np.float64), file["y"].astype(np.int64)
    index = [json.loads(line) for line in (lesson.softlabels / "softlabels_index.jsonl").read_text().splitlines()]
    train = np.array([row["split"] == "train" for row in index])
    return logits[train], labels[train]


def assert_same_weights(first: Path, second: Path) -> None:
    left, right = (read_checkpoint(path, option="test") for path in (first, second))
    assert left.epoch == right.epoch
    assert left.weights.keys() == right.weights.keys()
    assert all(torch.equal(value, right.weights[key]) for key, value in left.weights.items())


def test_a_student_leaves_what_a_teacher_does_and_who_taught_it(finished: Path, lesson: Lesson) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names >= FILES
    assert finished == lesson.root / "students" / "TOY_test_resnet_seed1337_toy_img32_kd"


def test_the_record_of_the_lesson(finished: Path, lesson: Lesson) -> None:
    record = record_of(finished)
    ensemble = read_artifact(lesson.ensemble / "ensemble.json", Ensemble)
    assert (record.teacher, record.source) == ("soft labels", str(lesson.softlabels))
    assert record.source_sha256 == sha256_of(lesson.softlabels / "hash_manifest.json")
    assert record.ensemble == ensemble.name
    assert record.ensemble_sha256 == sha256_of(lesson.ensemble / "ensemble.json")
    assert (record.space, record.teachers) == ("logit", ensemble.teachers)
    assert [teacher.weight for teacher in record.teachers] == [0.6, 0.4]
    sizes = [read_artifact(path / "alignmentreport.json", AlignmentReport).num_parameters for path in lesson.teachers]
    assert record.teacher_parameters == sum(sizes)
    assert (record.teacher_calibration, record.teacher_temperatures, record.ensemble_temperature) == (
        "none",
        [1.0, 1.0],
        1.0,
    )
    rows = read_artifact(finished / "alignmentreport.json", AlignmentReport).train_rows
    assert (record.rows_taught, record.rows_without, record.views) == (rows, 0, [])
    logits, labels = train_logits(lesson)
    probs = scipy.special.softmax(logits / 2.0, axis=1)
    assert (len(probs), record.kd_temperature) == (rows, 2.0)
    assert record.targets is not None
    assert record.targets.mean_max_prob == pytest.approx(probs.max(axis=1).mean(), abs=1e-6)
    assert record.targets.mean_true_prob == pytest.approx(probs[np.arange(rows), labels].mean(), abs=1e-6)
    entropy = scipy.special.entr(probs).sum(axis=1).mean() / np.log(7)
    assert record.targets.mean_entropy_share == pytest.approx(entropy, abs=1e-6)


def test_the_history_tells_both_parts_of_the_loss(finished: Path) -> None:
    for epoch in read_artifact(finished / "history.json", History).epochs:
        assert epoch.lesson is not None
        assert epoch.lesson.kd_temperature == 2.0
        assert epoch.lesson.distillation_weight == 0.5
        expected = 0.5 * epoch.lesson.ce_loss + 0.5 * epoch.lesson.distillation_loss
        assert epoch.train_loss == pytest.approx(expected, rel=1e-4)


def test_three_ways_to_calibrate_teachers_divide_by_three_sets_of_temperatures(lesson: Lesson) -> None:
    ensemble = read_artifact(lesson.ensemble / "ensemble.json", Ensemble)
    alone = read_artifact(lesson.ensemble / "ensemble_metrics.json", EnsembleMetrics).teachers
    assert ensemble.calibration is not None
    fitted = ensemble.calibration.calibration_temperature
    own = []
    for teacher in ensemble.teachers:
        calibration = alone[teacher.name][0].calibration
        assert calibration is not None
        own.append(calibration.calibration_temperature)
    expected = {"none": ([1.0, 1.0], 1.0), "temperature": ([1.0, 1.0], fitted), "per_teacher": (own, 1.0)}
    for way in TeacherCalibration:
        record = recorded(lesson, teacher_calibration=way)
        assert record.teacher_calibration == way.value
        assert (record.teacher_temperatures, record.ensemble_temperature) == expected[way.value]
    assert len({1.0, fitted, *own}) == 4


def test_calibrated_targets_are_as_soft_as_the_temperature_says(lesson: Lesson) -> None:
    record = recorded(lesson, teacher_calibration=TeacherCalibration.temperature)
    probs = scipy.special.softmax(train_logits(lesson)[0] / record.ensemble_temperature / 2.0, axis=1)
    assert record.targets is not None
    assert record.targets.mean_max_prob == pytest.approx(probs.max(axis=1).mean(), abs=1e-6)


def test_the_temperature_of_a_wanted_entropy_reaches_it(lesson: Lesson) -> None:
    record = recorded(lesson, temperature_rule=TemperatureRule.entropy, target_entropy=0.7)
    assert record.kd_temperature is not None
    probs = scipy.special.softmax(train_logits(lesson)[0] / record.kd_temperature, axis=1)
    assert scipy.special.entr(probs).sum(axis=1).mean() / np.log(7) == pytest.approx(0.7, abs=1e-5)
    assert record.targets is not None
    assert record.targets.mean_entropy_share == pytest.approx(0.7, abs=1e-5)


def test_views_and_rows_inferred_again_are_recorded(lesson: Lesson) -> None:
    record = recorded(lesson, views=True, verify_rows=8)
    assert record.views == ["single", "flip", "crop-0"]
    assert record.verified_rows == 8
    assert 0 < record.max_abs_difference < 0.1  # float16 on disk


def kill_at(patch: pytest.MonkeyPatch, epoch: int, batch: int) -> None:
    seed = StepSeed.on_train_batch_start

    def die(self: StepSeed, trainer: lightning.Trainer, module: Any, data: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == (epoch, batch):
            raise KilledError
        seed(self, trainer, module, data, batch_idx)

    patch.setattr(StepSeed, "on_train_batch_start", die)


def interrupted(run: DistillStudentRun) -> None:
    """Train a student up to the middle of its second epoch; the same run goes on from there when it is started again."""
    run.trainer.checkpoint_every_minutes = 1e-9
    run.run.on_existing = OnExisting.resume
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, 1, 4)
        with pytest.raises(KilledError):
            distill_student(run)


def assert_equal_runs(first: Path, second: Path) -> None:
    for name in ("history.json", "phases.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    for name in ("best.pt", "checkpoint_last.pt"):
        assert_same_weights(first / name, second / name)
    assert (first / "best.pt").read_bytes() == (second / "best.pt").read_bytes()


@contextmanager
def moved(folder: Path, elsewhere: Path) -> Iterator[None]:
    """Move a folder away for a while."""
    folder.rename(elsewhere)
    try:
        yield
    finally:
        if folder.exists():
            shutil.rmtree(folder)
        elsewhere.rename(folder)


def test_an_interrupted_student_goes_on_with_the_same_soft_labels_and_no_others(
    finished: Path, lesson: Lesson, tmp_path: Path
) -> None:
    """It then equals the uninterrupted one, so that two students of one seed are equal too."""
    run = student_run(lesson, tmp_path)
    interrupted(run)
    first = (run.directory / "distillation.json").read_bytes()
    elsewhere = lesson.softlabels.with_name("moved")
    with moved(lesson.softlabels, elsewhere):
        export_softlabels(export_run(str(lesson.teachers[0]), root=str(tmp_path), data=RECORDED, verify_rows=0))
        shutil.copytree(only_export(str(tmp_path)), lesson.softlabels)
        with pytest.raises(FerError, match="was taught by something else before it was interrupted: source_sha256"):
            distill_student(run)
        assert (run.directory / "distillation.json").read_bytes() == first
        run.distillation.softlabels = str(elsewhere)
        distill_student(run)
        with pytest.raises(FinishedRunError):
            distill_student(run)
    assert (run.directory / "distillation.json").read_bytes() == first
    assert_equal_runs(run.directory, finished)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"views": True},
        {"temperature_rule": TemperatureRule.curriculum},
        {"self_teaching": True, "softlabels": None},
        {"objective": DistillationObjective.none},
        {"objective": DistillationObjective.dist, "teacher_calibration": TeacherCalibration.per_teacher},
    ],
)
def test_an_interrupted_student_of_any_lesson_equals_an_uninterrupted_one(
    lesson: Lesson, tmp_path: Path, options: dict[str, Any]
) -> None:
    plain = student_run(lesson, tmp_path / "plain", **options)
    distill_student(plain)
    killed = student_run(lesson, tmp_path / "killed", **options)
    interrupted(killed)
    distill_student(killed)
    assert_equal_runs(killed.directory, plain.directory)


@pytest.mark.slow
def test_extra_epochs_of_a_student_are_taught_by_the_same(finished: Path, lesson: Lesson, tmp_path: Path) -> None:
    run = student_run(lesson, tmp_path, epochs=3)
    run.run.on_existing = OnExisting.resume
    shutil.copytree(finished, run.directory)
    distill_student(run)
    assert record_of(run.directory) == record_of(finished)
    lessons = [epoch.lesson for epoch in read_artifact(run.directory / "history.json", History).epochs]
    before = [epoch.lesson for epoch in read_artifact(finished / "history.json", History).epochs]
    assert lessons[:2] == before
    assert lessons[2] is not None
    assert 0 < lessons[2].distillation_loss < 10


def test_labels_then_kd_then_dkd_each_start_from_the_weights_alone_of_the_one_before(
    lesson: Lesson, tmp_path: Path
) -> None:
    labels = student_run(lesson, tmp_path, epochs=1, objective=DistillationObjective.none)
    distill_student(labels)
    assert record_of(labels.directory).teacher == "labels only"
    before = labels.directory
    stages: list[dict[str, Any]] = [{}, {"name": "dkd", "objective": DistillationObjective.dkd, "ce_weight": 1.0}]
    for options in stages:
        run = student_run(lesson, tmp_path, epochs=1, **options)
        run.stage.init_from = str(before)
        run.optimizer.lr = run.optimizer.min_lr = 1e-12
        distill_student(run)
        started = read_artifact(run.directory / "alignmentreport.json", AlignmentReport).starting_weights
        assert (started.kind, started.loaded_share) == ("init_from", 1.0)
        assert (started.source, started.source_sha256) == (f"{before}/best.pt", sha256_of(before / "best.pt"))
        new, old = (read_checkpoint(folder / "best.pt", option="x").weights for folder in (run.directory, before))
        parameters = [name for name in old if name.endswith(("weight", "bias"))]
        assert all(torch.allclose(new[name], old[name], atol=1e-6) for name in parameters)
        (epoch,) = read_artifact(run.directory / "history.json", History).epochs
        assert epoch.epoch == 0
        before = run.directory


def test_rows_without_soft_labels_learn_from_their_labels(lesson: Lesson, toy_manifest: Path, tmp_path: Path) -> None:
    """Eight train rows more than were exported."""
    header, *lines = toy_manifest.read_text(encoding="utf-8").splitlines()
    manifest = toy_manifest.with_name("with_more.csv")
    more = [line for line in lines if ",train," in line][:8]
    for number, line in enumerate(more):
        source = toy_manifest.parent / line.split(",")[0]
        copy = source.with_name(f"more{number}{source.suffix}")
        shutil.copyfile(source, copy)
        more[number] = line.replace(line.split(",")[0], copy.relative_to(toy_manifest.parent).as_posix())
    manifest.write_text("\n".join([header, *lines, *more]) + "\n", encoding="utf-8")
    longer = replace(lesson, manifest=manifest)
    refused = student_run(longer, tmp_path)
    with pytest.raises(FerError, match="8 of .* rows have no soft labels"):
        distill_student(refused)
    assert not tmp_path.joinpath("students").exists()
    run = student_run(longer, tmp_path, epochs=1, allow_missing=True)
    distill_student(run)
    record = record_of(run.directory)
    assert (record.rows_taught, record.rows_without) == (len(train_logits(lesson)[0]), 8)


def evaluated(checkpoint: Path, out: Path, **target: Any) -> Evaluation:
    given = EvaluationTarget(
        checkpoint=str(checkpoint), num_resamples=100, output_dir=str(out), accelerator="cpu", **target
    )
    evaluate(EvaluateRun(run=RunConfig(root=str(out.parent / "root")), evaluate=given, data=RECORDED))
    return read_artifact(out / "evaluation.json", Evaluation)


def test_a_student_is_evaluated_as_a_teacher_is(finished: Path, tmp_path: Path) -> None:
    own = read_artifact(finished / "reliabilitymetrics.json", ReliabilityMetrics).best
    val = evaluated(finished, tmp_path / "val")
    assert val.raw.macro_f1 == pytest.approx(own.raw.macro_f1)
    assert val.raw.nll == pytest.approx(own.raw.nll, abs=1e-5)
    assert val.rows_seen_in_training == 0
    onnx = evaluated(finished / "best.onnx", tmp_path / "onnx")
    assert onnx.raw.nll == pytest.approx(own.raw.nll, abs=1e-4)
    test = evaluated(finished, tmp_path / "test", split="test", view=View.flip)
    assert (test.result.split, test.view, test.rows_seen_in_training) == ("test", "flip", 0)


def test_a_students_calibrator_is_compared_chosen_and_exported(finished: Path, tmp_path: Path) -> None:
    calibrate(
        CalibrateRun(
            run=RunConfig(root=str(tmp_path)),
            evaluate=EvaluationTarget(checkpoint=str(finished), num_resamples=100, accelerator="cpu"),
            data=RECORDED,
            calibrate=CalibrationComparison(methods=[CalibrationMethod.temperature]),
        )
    )
    (chosen,) = (tmp_path / "calibrations").glob("*/calibrator.json")
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / "best.onnx").unlink()
    export_onnx(ExportOnnxRun(export=ExportTarget(run_dir=str(copy), which=["best"], calibrator=str(chosen))))
    before, after = (evaluated(folder / "best.onnx", tmp_path / f"of_{folder.name}") for folder in (finished, copy))
    assert before.raw == after.raw


def test_a_student_under_corruptions(finished: Path, tmp_path: Path) -> None:
    robustness(
        RobustnessRun(
            run=RunConfig(root=str(tmp_path)),
            evaluate=EvaluationTarget(checkpoint=str(finished), num_resamples=100, accelerator="cpu"),
            data=RECORDED,
            robustness=RobustnessConfig(corruptions=[Corruption.blur], severities=[3], clahe=False),
        )
    )
    (file,) = (tmp_path / "robustness").glob("*/robustness.json")
    assert read_artifact(file, Robustness).checkpoint_sha256 == sha256_of(finished / "best.pt")


def test_a_student_and_its_teacher_are_stored_fused_and_exported_as_one(
    finished: Path, lesson: Lesson, tmp_path: Path
) -> None:
    members = [str(finished), str(lesson.teachers[0])]
    run, target = RunConfig(root=str(tmp_path)), EvaluationTarget(accelerator="cpu")
    store_logits(StoreLogitsRun(run=run, evaluate=target, data=RECORDED, store=StoreConfig(models=members)))
    stored = {path.name.partition("__")[0] for path in (tmp_path / "logits").iterdir()}
    assert stored == {Path(member).name for member in members}
    fuse_ensemble(
        FuseEnsembleRun(
            run=run,
            evaluate=EvaluationTarget(num_resamples=100, accelerator="cpu"),
            data=RECORDED,
            ensemble=EnsembleConfig(teachers=members, weights=[0.5, 0.5], num_weight_resamples=100),
        )
    )
    (folder,) = (path for path in (tmp_path / "ensembles").iterdir() if path.is_dir())
    assert [one.given for one in read_artifact(folder / "ensemble.json", Ensemble).teachers] == members
    export_onnx(ExportOnnxRun(export=ExportTarget(run_dir=str(folder))))
    assert (folder / "ensemble.onnx").is_file()
    export_softlabels(export_run(str(finished), root=str(tmp_path), data=RECORDED, verify_rows=2))
    softlabels = str(only_export(str(tmp_path)))
    diagnose_alignment(
        DiagnoseAlignmentRun(
            evaluate=EvaluationTarget(accelerator="cpu"), diagnose=DiagnosisConfig(softlabels=softlabels, verify_rows=3)
        )
    )
    again = recorded(lesson, softlabels=softlabels)
    assert [teacher.given for teacher in again.teachers] == [str(finished)]


def test_housekeeping_knows_students_and_what_they_need(finished: Path, lesson: Lesson, tmp_path: Path) -> None:
    root = RunConfig(root=str(lesson.root))
    summarise(SummariseRun(run=root, summary=SummaryConfig(output_dir=str(tmp_path))))
    runs = {Path(run.run).name: run for run in read_artifact(tmp_path / "summary.json", Summary).runs}
    assert (runs[finished.name].kind, runs[finished.name].state, runs[finished.name].seeds) == (
        "students",
        "finished",
        [1337],
    )
    for needed in (lesson.softlabels, lesson.ensemble, *lesson.teachers):
        assert any(name.endswith(f"students/{finished.name}") for name in runs[needed.name].needed_by)
    triage(TriageRun(run=root, triage=TriageConfig(folders=[str(finished.parent)], output_dir=str(tmp_path))))
    (table,) = read_artifact(tmp_path / "_ensemble_triage.json", Triage).tables
    assert (Path(table.runs[0].run).name, table.runs[0].best, table.runs[0].bad) == (finished.name, True, False)
    archive_run = ArchiveRun(run=root, archive=ArchiveConfig(runs=[str(lesson.softlabels)], dry_run=True))
    with pytest.raises(FerError, match=f"referred to by .*students/{finished.name}"):
        archive(archive_run)


def test_what_a_student_keeps_of_its_ensemble(finished: Path, lesson: Lesson) -> None:
    kept = retention_of(finished)
    own = read_artifact(finished / "reliabilitymetrics.json", ReliabilityMetrics).best
    of_ensemble = read_artifact(lesson.ensemble / "ensemble_metrics.json", EnsembleMetrics).evaluated[0]
    assert kept is not None
    assert kept.share == own.raw.macro_f1 / of_ensemble.raw.macro_f1
    assert kept.teacher_parameters == record_of(finished).teacher_parameters
    assert (lesson.softlabels / "ensemble.json").read_bytes() == (lesson.ensemble / "ensemble.json").read_bytes()


def test_a_table_of_the_teachers_and_their_student(finished: Path, lesson: Lesson, tmp_path: Path) -> None:
    given = Comparison(runs=[str(lesson.root)], output_dir=str(tmp_path))
    compare_runs(CompareRunsRun(run=RunConfig(root=str(lesson.root)), compare=given))
    (table,) = read_artifact(tmp_path / "leaderboard.json", Leaderboard).tables
    runs = {recipe.options["task"]: [Path(run).name for run in recipe.runs] for recipe in table.recipes}
    assert runs == {"train_teacher": [path.name for path in lesson.teachers], "distill_student": [finished.name]}
