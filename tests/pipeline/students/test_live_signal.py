"""What a live ensemble brings to a student, and which ensembles are refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.selection import Selection, select_rows
from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.pipeline.students.config import DistillStudentRun
from fer_lightning.pipeline.students.live_signal import open_live
from fer_lightning.runs.artifacts import EvaluatedCheckpoint, write_artifact
from fer_lightning.runs.ensemble import ENSEMBLE_METRICS_FILE, EnsembleMetrics
from fer_lightning.training.config import StageConfig
from fer_lightning.training.distillation.config import DistillationConfig, TeacherCalibration, TeacherWeighting
from fer_lightning.training.distillation.signal import TeacherSignal
from tests.pipeline.recorded_teachers import record_rows, write_teacher
from tests.runs.ensemble_examples import ensemble_of, teacher, write_ensemble
from tests.runs.examples import calibration_record, example

ROWS = calibration_record().fitted_on_fingerprint


def write_teachers(parent: Path, manifest: Path, **data: object) -> list[Path]:
    """Write run directories of two tiny teachers that were trained on a manifest."""
    folders = [write_teacher(parent / f"T{seed}", seed=seed) for seed in (0, 1)]
    for folder in folders:
        record_rows(folder, manifest, **data)
    return folders


def write_pair(root: Path, folders: Sequence[Path], *, weights: Sequence[float] = (0.4, 0.6), **changes: Any) -> Path:
    """Write an ensemble of them, the second one divided by 1.5, and return its folder."""
    teachers = [
        teacher(folder, folder.name, weight=weight, calibration_temperature=temperature)
        for folder, weight, temperature in zip(folders, weights, (1.0, 1.5), strict=True)
    ]
    return write_ensemble(root / "PAIR", ensemble_of(teachers, **{"val_fingerprint": ROWS} | changes))


@pytest.fixture(scope="module")
def selection(toy_manifest: Path) -> Selection:
    data = DataConfig(manifest=str(toy_manifest), num_workers=0)
    return select_rows(data, SourceFilterConfig(), splits=("train", "val"), check_leaks=True)


@pytest.fixture
def teachers(toy_manifest: Path, tmp_path: Path) -> list[Path]:
    return write_teachers(tmp_path, toy_manifest)


def opened(folder: Path, selection: Selection, *, size: int = 32, clahe: bool = True, **options: Any) -> TeacherSignal:
    run = DistillStudentRun(
        data=DataConfig(manifest=str(selection.manifest.path), num_workers=0),
        stage=StageConfig(image_size=size),
        distillation=DistillationConfig(ensemble=str(folder), kd_temperature=3.0, **options),
    )
    return open_live(run, selection, CanonicalSpec(size=size, clahe=clahe), folder)


def test_teachers_are_fused_as_the_ensemble_says(selection: Selection, teachers: list[Path], tmp_path: Path) -> None:
    folder = write_pair(tmp_path, teachers, space="prob")
    signal = opened(folder, selection)
    fusion = signal.fusion
    assert (fusion.space, fusion.weights, fusion.temperatures) == ("prob", [0.4, 0.6], [1.0, 1.5])
    assert (fusion.ensemble_temperature, signal.kd_temperature) == (1.0, 3.0)
    assert signal.row_logits is None
    sha256 = sha256_of(folder / "ensemble.json")
    record = signal.record
    assert [signal.ensemble_sha256, record.ensemble_sha256, record.source_sha256] == [sha256] * 3
    assert (record.teacher, record.source, record.ensemble) == ("live ensemble", folder.as_posix(), "PAIR")
    assert (record.rows_taught, record.rows_without) == (len(selection.rows["train"]), 0)
    assert record.teacher_parameters == 2 * 9  # as their run directories tell
    assert [taught.name for taught in record.teachers] == ["T0", "T1"]


def test_the_ensembles_temperature_divides_the_fused_logits(
    selection: Selection, teachers: list[Path], tmp_path: Path
) -> None:
    signal = opened(write_pair(tmp_path, teachers), selection, teacher_calibration=TeacherCalibration.temperature)
    assert signal.fusion.ensemble_temperature == signal.record.ensemble_temperature == 1.3
    assert signal.fusion.temperatures == [1.0, 1.5]


@pytest.mark.parametrize("changes", [{"calibration": None}, {"val_fingerprint": "00" * 32}])
def test_an_ensemble_without_a_temperature_is_refused(
    selection: Selection, teachers: list[Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = write_pair(tmp_path, teachers, **changes)
    with pytest.raises(FerError, match=r"teacher_calibration=temperature divides by .* for PAIR, which has none"):
        opened(folder, selection, teacher_calibration=TeacherCalibration.temperature)


def test_each_teachers_own_temperature(selection: Selection, teachers: list[Path], tmp_path: Path) -> None:
    folder = write_pair(tmp_path, teachers)
    with pytest.raises(FerError, match=r"teacher_calibration=per_teacher .* is not known of T0\. Fuse the teachers"):
        opened(folder, selection, teacher_calibration=TeacherCalibration.per_teacher)
    judged: EvaluatedCheckpoint = example(EvaluatedCheckpoint)
    sha256 = sha256_of(teachers[0] / "best.pt")
    own = [replace(judged, checkpoint_sha256=sha256, calibration=calibration_record(2.2))]
    write_artifact(folder / ENSEMBLE_METRICS_FILE, replace(example(EnsembleMetrics), teachers={"T0": own}))
    signal = opened(folder, selection, teacher_calibration=TeacherCalibration.per_teacher)
    assert signal.fusion.temperatures == signal.record.teacher_temperatures == [2.2, 1.5]
    assert signal.fusion.ensemble_temperature == 1.0


def test_a_teacher_without_a_share_is_not_asked(selection: Selection, teachers: list[Path], tmp_path: Path) -> None:
    folder = write_pair(tmp_path, teachers, weights=(0.0, 1.0))
    signal = opened(folder, selection, teacher_calibration=TeacherCalibration.per_teacher)
    assert (signal.fusion.weights, signal.fusion.temperatures) == ([1.0], [1.5])


@pytest.mark.parametrize("weighting", [TeacherWeighting.loss, TeacherWeighting.confidence])
def test_one_teacher_is_not_weighed(
    selection: Selection, teachers: list[Path], tmp_path: Path, weighting: TeacherWeighting
) -> None:
    folder = write_pair(tmp_path, teachers, weights=(0.0, 1.0))
    with pytest.raises(FerError, match=r"teacher_weighting weighs several teachers .* has one with a share: T1"):
        opened(folder, selection, teacher_weighting=weighting)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"size": 48},
            r"expect pictures of 32 px, and stage\.image_size=48: live .* Train at stage\.image_size=32, or use stored soft labels",
        ),
        (
            {"clahe": False},
            r"expect pictures made with data\.clahe=True \(here False\): live teachers see the student's own",
        ),
    ],
)
def test_other_pictures_than_the_students_are_refused(
    selection: Selection, teachers: list[Path], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(FerError, match=message):
        opened(write_pair(tmp_path, teachers), selection, **options)


def test_teachers_of_the_students_val_rows_are_refused(selection: Selection, tmp_path: Path) -> None:
    """The same pictures, train and val swapped."""
    manifest, other = selection.manifest.path, tmp_path / "other.csv"
    swapped = manifest.read_text().replace(",train,", ",held,").replace(",val,", ",train,").replace(",held,", ",val,")
    other.write_text(swapped)
    folder = write_pair(tmp_path, write_teachers(tmp_path, other, root=str(manifest.parent)))
    with pytest.raises(FerError, match="val rows"):
        opened(folder, selection)


def test_an_ensemble_that_is_no_network_is_refused(selection: Selection, teachers: list[Path], tmp_path: Path) -> None:
    with pytest.raises(FerError, match=r"distillation\.ensemble: .* a network sees each picture once"):
        opened(write_pair(tmp_path, teachers, view="flip"), selection)
