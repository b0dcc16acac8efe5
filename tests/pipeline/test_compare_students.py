"""Students of several arms and seeds: the runs they would be by themselves, judged on the same rows, continued where left."""

import csv
import logging
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from fer_lightning.errors import FerError, RunLockedError
from fer_lightning.files import sha256_of
from fer_lightning.pipeline import compare_students as verb
from fer_lightning.pipeline.compare_students import compare_students
from fer_lightning.pipeline.distill_student import distill_student
from fer_lightning.pipeline.logits import infer_logits
from fer_lightning.pipeline.students import comparison as scoring
from fer_lightning.pipeline.students.arms import plan_comparison
from fer_lightning.pipeline.students.comparison import scored_ensemble
from fer_lightning.pipeline.students.comparison_config import CompareStudentsRun, ComparisonConfig
from fer_lightning.pipeline.students.config import DistillStudentRun
from fer_lightning.runs.artifacts import AlignmentReport, read_artifact, write_artifact
from fer_lightning.runs.config import OnExisting
from fer_lightning.runs.distillation import DISTILLATION_FILE, DistillationRecord
from fer_lightning.runs.history import History
from fer_lightning.runs.lock import RunLock
from fer_lightning.runs.run_dir import read_config
from fer_lightning.runs.stored_logits import read_stored_logits
from fer_lightning.runs.student_comparison import StudentComparison
from fer_lightning.training.distillation.config import DistillationConfig, DistillationObjective
from tests.pipeline.toy_students import Lesson, make_lesson, student_run

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")

NAME = "TOY_test_resnet_toy_img32"
SEEDS = [1, 2]
FILES = {f"student_comparison.{ending}" for ending in ("json", "md", "csv", "png")}
ARMS = {
    "kd": DistillationConfig(),
    "labels": DistillationConfig(objective=DistillationObjective.none, ce_weight=1.0),
    "dkd": DistillationConfig(objective=DistillationObjective.dkd, ce_weight=1.0, weight=1.0),
}


def make_run(lesson: Lesson, root: Path, *, resume: bool = False, **comparison: Any) -> CompareStudentsRun:
    """Labels, KD, and DKD that starts from KD: one epoch each at 32 px."""
    common = vars(student_run(lesson, root, epochs=1, objective=DistillationObjective.none))
    options: dict[str, Any] = {"softlabels": str(lesson.softlabels), "seeds": SEEDS, "starts": {"dkd": "kd"}}
    run = CompareStudentsRun(
        **{name: value for name, value in common.items() if name not in {"task", "distillation"}},
        arms=ARMS,
        comparison=ComparisonConfig(**{**options, "num_resamples": 100, **comparison}),
    )
    run.run.on_existing = OnExisting.resume if resume else OnExisting.fail
    return run


def two_arms(lesson: Lesson, root: Path, **options: Any) -> CompareStudentsRun:
    """Labels and KD, one seed."""
    run = make_run(lesson, root, **{"seeds": [1], "starts": {}, **options})
    return replace(run, arms={name: ARMS[name] for name in ("kd", "labels")})


@pytest.fixture(scope="module")
def lesson(toy_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    return make_lesson(toy_manifest, tmp_path_factory.mktemp("lesson"))


@pytest.fixture(scope="module")
def root(lesson: Lesson, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a finished comparison."""
    root = tmp_path_factory.mktemp("compared")
    compare_students(make_run(lesson, root))
    return root


@pytest.fixture
def folder(root: Path) -> Path:
    return root / "comparisons" / NAME


@pytest.fixture
def comparison(folder: Path) -> StudentComparison:
    return read_artifact(folder / "student_comparison.json", StudentComparison)


@pytest.fixture
def copied(lesson: Lesson, folder: Path, tmp_path: Path) -> CompareStudentsRun:
    """The finished comparison, copied to where a test may spoil it."""
    shutil.copytree(folder, tmp_path / "comparisons" / NAME)
    run = make_run(lesson, tmp_path, resume=True)
    for seed in SEEDS:  # where a student started is part of its configuration
        config = run.student("dkd", seed).directory / "config.yaml"
        text = config.read_text(encoding="utf-8").replace(folder.as_posix(), run.directory.as_posix())
        config.write_text(text, encoding="utf-8")
    return run


def test_each_student_is_the_run_it_would_be_by_itself(
    lesson: Lesson, root: Path, folder: Path, tmp_path: Path
) -> None:
    names = [f"TOY_test_resnet_seed{seed}_toy_img32_{arm}" for seed in SEEDS for arm in ARMS]
    assert sorted(path.name for path in (folder / "students").iterdir()) == sorted(names)
    alone = student_run(lesson, tmp_path, epochs=1, seed=2)
    distill_student(alone)
    assert alone.name == "TOY_test_resnet_seed2_toy_img32_kd"
    for name in ("history.json", DISTILLATION_FILE):
        assert (alone.directory / name).read_bytes() == (folder / "students" / alone.name / name).read_bytes()
    mine, its = read_config(folder / "students" / alone.name), read_config(alone.directory)
    assert mine["run"].pop("root") == (root / "comparisons" / NAME).as_posix()
    assert its["run"].pop("root") == str(tmp_path)
    assert mine == its


def test_the_record_says_what_each_arm_was_given(folder: Path, lesson: Lesson, comparison: StudentComparison) -> None:
    assert (comparison.name, comparison.baseline, comparison.seeds) == (NAME, "labels", SEEDS)
    labels, kd, dkd = comparison.arms
    assert [arm.name for arm in comparison.arms] == ["labels", "kd", "dkd"]
    assert [arm.distils for arm in comparison.arms] == [False, True, True]
    assert (labels.options, labels.kd_temperatures) == ({}, [None, None])
    assert kd.options == {
        "objective": "kd",
        "ce_weight": "0.5",
        "softlabels": str(lesson.softlabels),
    }
    assert kd.kd_temperatures == [2.0, 2.0]
    steps = [read_artifact(folder / run / "history.json", History).epochs[-1].optimizer_steps for run in dkd.runs]
    assert [arm.budget.epochs for arm in comparison.arms] == [1, 1, 2]
    assert [arm.budget.optimizer_steps for arm in comparison.arms] == [steps[0], steps[0], 2 * steps[0]]
    assert [start.kind for start in labels.budget.init] == ["random", "random"]
    started = [(start.kind, start.sha256) for start in dkd.budget.init]
    assert started == [("init_from", sha256_of(folder / run / "best.pt")) for run in kd.runs]
    assert [digest for _, digest in started] == kd.checkpoint_sha256s
    report = read_artifact(folder / dkd.runs[0] / "alignmentreport.json", AlignmentReport)
    assert comparison.student.num_parameters == report.num_parameters
    assert {arm.budget.train_rows for arm in comparison.arms} == {report.train_rows}


def test_figures_are_those_of_the_logits(root: Path, comparison: StudentComparison) -> None:
    assert [judged.split for judged in comparison.splits] == ["val", "test"]
    for judged in comparison.splits:
        for arm in comparison.arms:
            of_seeds = []
            for run in arm.runs:
                (logits,) = (root / "logits").glob(f"{Path(run).name}__best.pt_*__{judged.split}_*")
                stored = read_stored_logits(logits, option="test")
                assert stored.record.row_set_fingerprint == judged.row_set_fingerprint
                predictions, labels = stored.logits.argmax(1).numpy(), stored.labels.numpy()
                of_seeds.append(f1_score(labels, predictions, labels=range(7), average="macro", zero_division=0))
            figure = judged.arms[arm.name].raw.figures["macro_f1"]
            assert figure.values == pytest.approx(of_seeds)
            assert figure.mean == pytest.approx(np.mean(of_seeds))
    assert comparison.verdict is not None
    assert (comparison.verdict.chosen_on, comparison.verdict.judged_on) == ("val", "test")


def test_the_ensemble_of_the_soft_labels_is_judged_beside_them(
    lesson: Lesson, folder: Path, comparison: StudentComparison
) -> None:
    assert comparison.ensemble is not None
    assert (folder / comparison.ensemble.path).resolve() == lesson.softlabels.resolve()
    assert comparison.ensemble.sha256 == sha256_of(lesson.ensemble / "ensemble.json")
    of_teachers = [
        read_artifact(path / "alignmentreport.json", AlignmentReport).num_parameters for path in lesson.teachers
    ]
    assert comparison.ensemble.num_parameters == sum(of_teachers)
    metrics = (lesson.ensemble / "ensemble_metrics.json").read_text(encoding="utf-8")
    for judged in comparison.splits:
        assert judged.ensemble is not None
        assert judged.row_set_fingerprint in metrics
        retained = judged.arms["kd"].raw.figures["macro_f1"].mean / judged.ensemble.raw["macro_f1"]
        assert judged.arms["kd"].retention == pytest.approx(retained)


def test_all_files_are_there_and_say_that_budgets_differ(folder: Path, comparison: StudentComparison) -> None:
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".run.lock")} == {*FILES, "students"}
    rows = list(csv.DictReader((folder / "student_comparison.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["arm"] for row in rows} == {*ARMS, "ensemble"}
    page = (folder / "student_comparison.md").read_text(encoding="utf-8")
    assert "NOT AN EQUAL BUDGET: epochs differ: labels 1; kd 1; dkd 2" in page
    assert matplotlib.image.imread(folder / "student_comparison.png").std() > 0.05
    for arm in comparison.arms:
        assert all((folder / run / "best.pt").is_file() for run in arm.runs)


def test_a_second_call_trains_and_infers_nothing(
    lesson: Lesson, root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = {name: sha256_of(folder / name) for name in FILES - {"student_comparison.png"}}
    (folder / "student_comparison.md").unlink()
    monkeypatch.setattr(verb, "distill_student", lambda _: pytest.fail("trained again"))
    monkeypatch.setattr(infer_logits, "infer_logits", lambda *_, **__: pytest.fail("inferred again"))
    with caplog.at_level(logging.INFO):
        compare_students(make_run(lesson, root, resume=True))
    assert "6 students, 6 of them finished" in caplog.text
    assert {name: sha256_of(folder / name) for name in before} == before
    with pytest.raises(FerError, match="already holds a comparison.*run.on_existing=resume.*comparison.name="):
        compare_students(make_run(lesson, root))


def test_an_interrupted_comparison_goes_on_and_ends_where_an_uninterrupted_one_does(
    lesson: Lesson, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trained: list[str] = []

    def interrupted(run: DistillStudentRun) -> None:
        if trained:
            raise KeyboardInterrupt
        trained.append(run.name)
        distill_student(run)

    monkeypatch.setattr(verb, "distill_student", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare_students(two_arms(lesson, tmp_path))
    assert trained == ["TOY_test_resnet_seed1_toy_img32_kd"]
    there = tmp_path / "comparisons" / NAME
    assert [path.name for path in there.iterdir()] == ["students"]
    monkeypatch.undo()
    with pytest.raises(FerError, match="arm kd, seed 1: .*Continue it with run.on_existing=resume"):
        compare_students(two_arms(lesson, tmp_path))
    with caplog.at_level(logging.INFO):
        compare_students(two_arms(lesson, tmp_path, resume=True))
    assert "2 students, 1 of them finished" in caplog.text
    assert "student 2 of 2: arm labels, seed 1" in caplog.text
    for path in (there / "students").iterdir():
        assert (path / "history.json").read_bytes() == (folder / "students" / path.name / "history.json").read_bytes()
    judged = read_artifact(there / "student_comparison.json", StudentComparison)
    assert judged.splits[0].arms["kd"].raw.figures["macro_f1"].values == pytest.approx(
        read_artifact(folder / "student_comparison.json", StudentComparison)
        .splits[0]
        .arms["kd"]
        .raw.figures["macro_f1"]
        .values[:1]
    )


def test_time_left_is_that_of_students_trained_from_the_start(
    lesson: Lesson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(range(0, 1000, 30))
    monkeypatch.setattr(verb, "distill_student", lambda _: None)
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    plan = plan_comparison(make_run(lesson, tmp_path))
    monkeypatch.setattr(verb, "has_begun", lambda student: student == plan.students[0])
    with caplog.at_level(logging.INFO):
        verb._train(plan)
    told = [message.rpartition(": ")[2] for message in caplog.messages if message.startswith("student ")]
    assert told == [
        "arm kd, seed 1",
        "arm labels, seed 1",
        "arm dkd, seed 1, about 2 min left",
        "arm kd, seed 2, about 90 s left",
        "arm labels, seed 2, about 60 s left",
        "arm dkd, seed 2, about 30 s left",
    ]


def test_teachers_of_any_arm_are_refused_before_the_first_training(lesson: Lesson, tmp_path: Path) -> None:
    run = make_run(lesson, tmp_path)
    gone = replace(run, arms={**ARMS, "nkd": DistillationConfig(softlabels=str(tmp_path / "gone"))})
    with pytest.raises(FerError, match="arm nkd: distillation.softlabels: .*gone holds no soft labels"):
        compare_students(gone)
    rows = list(csv.DictReader(lesson.manifest.read_text(encoding="utf-8").splitlines()))
    changed = next(row for row in rows if row["split"] == "train")
    changed["label"] = "Happy" if changed["label"] != "Happy" else "Sad"
    path = tmp_path / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    run.data.manifest, run.data.root = str(path), str(lesson.manifest.parent)
    with pytest.raises(FerError, match="arm kd: distillation.softlabels"):
        compare_students(run)
    assert not (tmp_path / "comparisons").exists()


def test_a_configuration_that_differs_from_that_on_disk_is_refused(copied: CompareStudentsRun) -> None:
    copied.arms = {**ARMS, "kd": replace(ARMS["kd"], kd_temperature=4.0)}
    with pytest.raises(
        FerError, match="arm kd, seed 1: .*another configuration:\n  distillation.kd_temperature: recorded 2.0"
    ):
        compare_students(copied)


def test_a_student_taught_by_something_else_is_refused(copied: CompareStudentsRun) -> None:
    path = copied.student("kd", 2).directory / DISTILLATION_FILE
    record = read_artifact(path, DistillationRecord)
    write_artifact(path, replace(record, source_sha256="ab" * 32))
    with pytest.raises(FerError, match="arm kd, seed 2 in .* was taught by something else: source_sha256 was abab"):
        compare_students(copied)
    write_artifact(path, replace(record, source="elsewhere"))  # soft labels may have moved
    plan_comparison(copied)


def test_a_student_of_other_rows_is_refused(copied: CompareStudentsRun) -> None:
    path = copied.student("labels", 1).directory / "alignmentreport.json"
    report = read_artifact(path, AlignmentReport)
    write_artifact(path, replace(report, row_set_fingerprints={**report.row_set_fingerprints, "train": "ab" * 32}))
    with pytest.raises(FerError, match="arm labels, seed 1 in .* was trained on other rows: train rows of"):
        compare_students(copied)


def test_a_start_that_has_changed_or_goes_on_is_refused(copied: CompareStudentsRun) -> None:
    first, second = copied.student("kd", 1).directory, copied.student("dkd", 1).directory
    path = second / "alignmentreport.json"
    report = read_artifact(path, AlignmentReport)
    other = replace(report.starting_weights, source_sha256="ab" * 32)
    write_artifact(path, replace(report, starting_weights=other))
    with pytest.raises(FerError, match="arm dkd, seed 1 was started from .*best.pt, which has changed since"):
        compare_students(copied)
    (first / "reliabilitymetrics.json").unlink()
    with pytest.raises(
        FerError, match="arm dkd, seed 1 has begun in .*arm kd, seed 1, .*is not finished with stage.epochs=1"
    ):
        compare_students(copied)


def test_without_test_rows_val_alone_judges(lesson: Lesson, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = list(csv.DictReader(lesson.manifest.read_text(encoding="utf-8").splitlines()))
    path = tmp_path / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in rows if row["split"] != "test")
    run = make_run(lesson, tmp_path, starts={})
    run.data.manifest, run.data.root = str(path), str(lesson.manifest.parent)
    run.arms = {"labels": ARMS["labels"], "self": DistillationConfig(self_teaching=True)}
    with caplog.at_level(logging.WARNING):
        assert [*plan_comparison(run).rows] == ["val"]
    assert "judged on val rows alone, which best.pt was chosen on" in caplog.text
    run.comparison.splits = ["test"]
    with pytest.raises(FerError, match=r"comparison.splits=\[test\]: .* has no test rows"):
        plan_comparison(run)
    run.comparison.splits = ["val"]
    plan = plan_comparison(run)
    assert ([*plan.rows], scored_ensemble(run, plan)) == (["val"], None)


def test_test_rows_that_a_teacher_was_trained_on_are_refused(lesson: Lesson, tmp_path: Path) -> None:
    """The student's test rows are train rows of its teachers."""
    rows = list(csv.DictReader(lesson.manifest.read_text(encoding="utf-8").splitlines()))
    taken = {row["subject"] for row in rows[:20]}
    for row in rows:
        row["split"] = "test" if row["split"] == "train" and row["subject"] in taken else row["split"]
    path = tmp_path / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    run = make_run(lesson, tmp_path, softlabels=None, ensemble=str(lesson.ensemble))
    run.data.manifest, run.data.root = str(path), str(lesson.manifest.parent)
    with pytest.raises(FerError, match="arm kd: .*which the model started from or was taught by, was trained on"):
        plan_comparison(run)


def test_an_ensemble_that_cannot_be_scored_is_left_out_unless_it_is_named(
    lesson: Lesson, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(lesson, root, resume=True)
    plan = plan_comparison(run)

    def gone(*_: object) -> None:
        raise FerError("a teacher is gone")

    monkeypatch.setattr(scoring, "_scores", gone)
    assert scored_ensemble(run, plan) is None
    assert "is not judged on val: a teacher is gone" in caplog.text
    run.comparison.ensemble = str(lesson.ensemble)
    with pytest.raises(FerError, match="a teacher is gone"):
        scored_ensemble(run, plan)


def test_the_ensemble_that_is_named_is_the_one_judged(lesson: Lesson, root: Path) -> None:
    run = make_run(lesson, root, resume=True, ensemble=str(lesson.ensemble))
    named = scored_ensemble(run, plan_comparison(run))
    run.comparison.ensemble = None
    found = scored_ensemble(run, plan_comparison(run))
    assert named is not None
    assert found is not None
    assert (named.folder, found.folder) == (lesson.ensemble, lesson.softlabels)
    for split, stored in named.scores.items():
        torch.testing.assert_close(stored.logits, found.scores[split].logits, atol=0, rtol=0)


def test_a_comparison_being_written_is_locked(lesson: Lesson, root: Path, folder: Path) -> None:
    with RunLock(folder), pytest.raises(RunLockedError):
        compare_students(make_run(lesson, root, resume=True))
