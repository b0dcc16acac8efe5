"""A student before its training: what its stored soft labels become, and every reason for which it does not start on them."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from fer_lightning.data.rows.manifest import read_manifest
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.distill_student import distill_student
from fer_lightning.pipeline.export_softlabels import export_softlabels
from fer_lightning.pipeline.learning.preparation import prepare_training
from fer_lightning.pipeline.students.config import DistillStudentRun
from fer_lightning.pipeline.students.signal import open_signal
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.softlabels import ClassOrder
from fer_lightning.training.distillation.config import DistillationObjective, TemperatureRule
from fer_lightning.training.distillation.signal import TeacherSignal
from tests.data.conftest import Workshop, make_row
from tests.pipeline.exported_softlabels import export_run, only_export, write_ensemble
from tests.pipeline.recorded_teachers import record_rows, three_splits, write_teacher
from tests.pipeline.toy_students import Lesson, student_run
from tests.runs.test_softlabels_file import change_arrays, vouch_again

A, B = Path("runs/A_tiny"), Path("runs/B_tiny")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of three splits, two teachers of them, and their soft labels in the plain view and a crop."""
    root = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        made = Workshop(root)
        made.write(three_splits(), draw=True)
        record_rows(write_teacher(A, seed=1), made.manifest)
        record_rows(write_teacher(B, seed=2, size=40), made.manifest)
        ensemble = write_ensemble(Path("AB"), [str(A), str(B)], weights=[0.7, 0.3], temperatures=[2.0, 1.0])
        export_softlabels(export_run(ensemble, dtype="float32", splits=["train", "val"], crops=1, verify_rows=0))
    return root


@pytest.fixture(autouse=True)
def workshop(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A copy of it all, in the working directory."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Workshop(tmp_path)


@pytest.fixture
def lesson() -> Lesson:
    """What can be taught there."""
    return Lesson(Path(), Path("manifest.csv"), (A, B), Path("AB"), only_export())


def signal_of(run: DistillStudentRun) -> TeacherSignal:
    return open_signal(run, prepare_training(run))


def refused(run: DistillStudentRun, *messages: str) -> None:
    """Make sure that a student does not start, and leaves nothing."""
    with pytest.raises(FerError) as refusal:
        distill_student(run)
    assert refusal.value.exit_code == 2
    for message in messages:
        assert message in str(refusal.value)
    assert not Path(run.run.root).exists()


def plain(lesson: Lesson, **options: Any) -> DistillStudentRun:
    return student_run(lesson, Path("students_of_a_test"), **options)


def rewrite(change: Callable[[str], str]) -> None:
    file = Path("manifest.csv")
    file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")


def arrays_of(lesson: Lesson) -> dict[str, Any]:
    with np.load(lesson.softlabels / "softlabels.npz") as file:
        return dict(file)


def taught(signal: TeacherSignal, position: int, view: int = -1) -> Any:
    """Return the (M, 7) logits of a train row, by its position."""
    assert signal.row_logits is not None
    return signal.row_logits.logits(np.array([position]), np.array([view]))[0]


def test_rows_are_joined_by_their_id_wherever_they_stand(lesson: Lesson, caplog: pytest.LogCaptureFixture) -> None:
    rewrite(lambda text: "\n".join([(lines := text.splitlines())[0], *lines[:0:-1]]) + "\n")
    signal = signal_of(plain(lesson))
    assert "has other bytes than the manifest of the soft labels" in caplog.text
    arrays, manifest = arrays_of(lesson), read_manifest(Path("manifest.csv"))
    place = {row_id.decode(): number for number, row_id in enumerate(arrays["row_ids"].tolist())}
    train = np.flatnonzero(manifest.splits == "train")
    assert signal.row_logits is not None
    assert len(signal.row_logits) == len(train) == 14
    for position, row in enumerate(train.tolist()):
        expected = arrays["logits"][place[manifest.row_ids[row]]]
        np.testing.assert_array_equal(taught(signal, position), expected[None])


def test_a_row_that_is_gone(lesson: Lesson, workshop: Workshop) -> None:
    workshop.draw("pictures/new.png")
    rewrite(lambda text: text.replace("pictures/train001.png", "pictures/new.png"))
    refused(
        plain(lesson),
        "manifest.csv is another manifest than the soft labels were exported from",
        "pictures/train001.png (ferplus, train) is not in it",
    )


def test_another_label(lesson: Lesson) -> None:
    rewrite(lambda text: text.replace("train004.png,Sad,", "train004.png,Fear,"))
    refused(plain(lesson), "another manifest", "line 6, pictures/train004.png: label is Fear, was Sad")


def test_a_row_of_another_split(lesson: Lesson) -> None:
    rewrite(lambda text: text.replace("val003.png,Happy,val", "val003.png,Happy,train"))
    refused(plain(lesson), "pictures/val003.png: split is train, was val")


def test_another_class_order(lesson: Lesson) -> None:
    swapped = [EMOTIONS[1], EMOTIONS[0], *EMOTIONS[2:]]
    vouch_again(lesson.softlabels, class_order=swapped)
    refused(plain(lesson), "distillation.softlabels", "class order", EMOTIONS[1])


def test_another_class_order_in_its_own_file(lesson: Lesson) -> None:
    write_artifact(lesson.softlabels / "classorder.json", ClassOrder(emotions=list(EMOTIONS[::-1])))
    refused(plain(lesson), "class order of classorder.json")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("clahe", False, "clahe is True there, False here"),
        ("clahe_clip_limit", 4.0, "clahe_clip_limit is 2.0 there, 4.0 here"),
        ("clahe_tiles", 4, "clahe_tiles is 8 there, 4 here"),
    ],
)
def test_pictures_that_are_prepared_otherwise(lesson: Lesson, option: str, value: object, message: str) -> None:
    run = plain(lesson)
    setattr(run.data, option, value)
    refused(run, "teacher A_tiny saw pictures that were prepared in another way", message, f"data.{option}")


def test_another_checkpoint_in_the_place_of_a_teacher(lesson: Lesson) -> None:
    write_teacher(B, seed=5, size=40)
    refused(plain(lesson), "runs/B_tiny/best.pt is another model than the one that taught as B_tiny")


def test_a_teacher_that_is_gone_is_said(lesson: Lesson, caplog: pytest.LogCaptureFixture) -> None:
    (B / "best.pt").unlink()
    assert signal_of(plain(lesson)).record.teacher_parameters is None
    assert "nothing is left of B_tiny to compare with what taught" in caplog.text


def add_rows(workshop: Workshop) -> None:
    """Append two train rows that nobody taught."""
    rows = [make_row(f"pictures/extra{number}.png", "Sad") for number in range(2)]
    for row in rows:
        workshop.draw(row["image_path"])
    added = "".join(",".join(row.values()) + "\n" for row in rows)
    rewrite(lambda text: text + added)


def test_rows_without_soft_labels_are_named(lesson: Lesson, workshop: Workshop) -> None:
    add_rows(workshop)
    refused(
        plain(lesson),
        "2 of 16 rows have no soft labels",
        "line 51, pictures/extra0.png (ferplus, train)",
        "line 52, pictures/extra1.png (ferplus, train)",
    )


def test_rows_without_soft_labels_where_they_are_allowed(lesson: Lesson, workshop: Workshop) -> None:
    add_rows(workshop)
    signal = signal_of(plain(lesson, allow_missing=True))
    assert (signal.record.rows_taught, signal.record.rows_without) == (14, 2)
    assert np.isfinite(taught(signal, 13)).all()
    assert np.isnan(taught(signal, 14)).all()


def test_soft_labels_of_no_train_row_at_all(lesson: Lesson) -> None:
    export_softlabels(export_run(str(A), root="val_only", splits=["val"], verify_rows=0))
    of_val = str(only_export("val_only"))
    refused(plain(lesson, softlabels=of_val), "14 of 14 rows have no soft labels, which are of val rows")
    refused(plain(lesson, softlabels=of_val, allow_missing=True), "none of the 14 train rows has soft labels")


def cut_arrays(folder: Path) -> None:
    file = folder / "softlabels.npz"
    file.write_bytes(file.read_bytes()[:-100])


def lose_arrays(folder: Path) -> None:
    (folder / "softlabels.npz").unlink()


def lose_report(folder: Path) -> None:
    (folder / "alignmentreport.json").unlink()


def edit_index(folder: Path) -> None:
    file = folder / "softlabels_index.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace('"y": 0', '"y": 1', 1), encoding="utf-8")


def edit_record(folder: Path) -> None:
    file = folder / "hash_manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "space": "prob"}), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_arrays, "softlabels.npz"),
        (lose_arrays, "holds no soft labels; make them with task=export_softlabels"),
        (lose_report, "is an export that was not finished"),
        (edit_index, "SHA-256 of softlabels_index.jsonl"),
        (edit_record, "is not what was exported: "),
    ],
)
def test_damaged_soft_labels(lesson: Lesson, damage: Callable[[Path], None], message: str) -> None:
    damage(lesson.softlabels)
    refused(plain(lesson), "distillation.softlabels", message)


def test_rows_are_inferred_again_where_it_is_asked_for(lesson: Lesson) -> None:
    record = signal_of(plain(lesson, verify_rows=9)).record
    assert record.verified_rows == 9
    assert 0 <= record.max_abs_difference < 1e-3
    assert signal_of(plain(lesson)).record.verified_rows == 0


def test_logits_of_other_rows_with_digests_made_anew_are_found_by_inference_alone(lesson: Lesson) -> None:
    def roll(arrays: dict[str, Any]) -> None:
        for name, axis in (("logits", 0), ("view_logits", 1), ("teacher_logits", 2)):
            arrays[name] = np.roll(arrays[name], 1, axis=axis)

    change_arrays(lesson.softlabels, roll)
    signal_of(plain(lesson))
    refused(plain(lesson, verify_rows=5), "5 of 5 rows that were inferred again are not those in the soft labels")


def test_views_are_taught_with_their_own_logits(lesson: Lesson) -> None:
    signal, arrays = signal_of(plain(lesson, views=True)), arrays_of(lesson)
    assert signal.record.views == ["single", "crop-0"]
    for position in (0, 13):  # train rows come first in the export, as in the manifest
        np.testing.assert_array_equal(taught(signal, position, 0), arrays["logits"][position][None])
        np.testing.assert_array_equal(taught(signal, position, 1), arrays["view_logits"][0, position][None])
    assert signal_of(plain(lesson)).record.views == []


def test_recorded_targets_are_those_that_are_followed(lesson: Lesson) -> None:
    """Standardised logits of seven classes cannot be sharper than .385 at temperature 2."""
    plainly, standardised = (signal_of(plain(lesson, standardize=on)).record.targets for on in (False, True))
    assert plainly is not None
    assert standardised is not None
    arrays, manifest = arrays_of(lesson), read_manifest(Path("manifest.csv"))
    place = {row_id.decode(): number for number, row_id in enumerate(arrays["row_ids"].tolist())}
    rows = np.flatnonzero(manifest.splits == "train").tolist()
    logits = arrays["logits"][[place[manifest.row_ids[row]] for row in rows]].astype(np.float64)
    scores = (logits - logits.mean(1, keepdims=True)) / logits.std(1, keepdims=True, ddof=1)
    for found, followed in ((plainly, logits), (standardised, scores)):
        assert found.mean_max_prob == pytest.approx(softmax(followed / 2, axis=1).max(1).mean(), rel=1e-5)
    assert standardised.mean_max_prob < 0.385


def test_views_that_were_not_exported(lesson: Lesson) -> None:
    export_softlabels(export_run(str(A), root="without", verify_rows=0))
    refused(plain(lesson, softlabels=str(only_export("without")), views=True), "the plain view only")


def test_negatives_that_the_manifest_does_not_have(lesson: Lesson) -> None:
    refused(plain(lesson, negative_weight=0.1), "neg_label")


def test_an_entropy_that_no_temperature_gives(lesson: Lesson) -> None:
    def make_equal(arrays: dict[str, Any]) -> None:
        for name in ("logits", "view_logits", "teacher_logits"):
            arrays[name] = np.zeros_like(arrays[name])

    change_arrays(lesson.softlabels, make_equal)
    refused(
        plain(lesson, temperature_rule=TemperatureRule.entropy, target_entropy=0.5),
        "distillation.target_entropy=0.5: no KD temperature gives it to these targets",
    )


def test_a_student_without_teachers_has_a_record_of_that(lesson: Lesson, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    signal = signal_of(plain(lesson, objective=DistillationObjective.none))
    record = signal.record
    assert (record.teacher, record.source_sha256, record.teachers) == ("labels only", None, [])
    assert (record.rows_taught, record.rows_without) == (0, 14)
    assert signal.row_logits is None
    assert "taught by" not in caplog.text


def test_a_folder_that_holds_none_is_refused_before_torch() -> None:
    code = (
        "import sys\n"
        "from fer_lightning.errors import FerError\n"
        "from fer_lightning.pipeline.students.config import DistillStudentRun\n"
        "from fer_lightning.pipeline.distill_student import distill_student\n"
        "from fer_lightning.training.distillation.config import DistillationConfig\n"
        "run = DistillStudentRun(distillation=DistillationConfig(softlabels='runs'))\n"
        "try:\n"
        "    distill_student(run)\n"
        "except FerError as error:\n"
        "    assert 'runs holds no soft labels' in str(error), error\n"
        "    sys.exit(3 if 'torch' not in sys.modules else 4)\n"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
