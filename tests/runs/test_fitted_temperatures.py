"""Temperatures are taken from where they were fitted: on the ensemble's val rows, of this very checkpoint, on raw logits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.errors import FerError
from fer_lightning.runs.artifacts import CalibrationRecord, EvaluatedCheckpoint, write_artifact
from fer_lightning.runs.ensemble import Ensemble, EnsembleMetrics
from fer_lightning.runs.fitted_temperatures import fitted_temperature, teacher_temperatures
from tests.runs.examples import calibration_record, example
from tests.runs.softlabel_examples import teacher

ROWS = calibration_record().fitted_on_fingerprint
SHA = {"RN18": "18" * 32, "B3": "b3" * 32}


def judged(name: str, calibration: CalibrationRecord | None, **changes: Any) -> EvaluatedCheckpoint:
    made: EvaluatedCheckpoint = example(EvaluatedCheckpoint)
    return replace(made, checkpoint_sha256=SHA[name], calibration=calibration, **changes)


def ensemble(**of_second: Any) -> Ensemble:
    """Return an ensemble of two teachers."""
    teachers = [
        teacher(checkpoint_sha256=SHA["RN18"]),
        teacher(**{"name": "B3", "checkpoint_sha256": SHA["B3"]} | of_second),
    ]
    made: Ensemble = replace(example(Ensemble), teachers=teachers, val_fingerprint=ROWS)
    return made


def write_metrics(folder: Path, teachers: dict[str, list[EvaluatedCheckpoint]]) -> Path:
    write_artifact(folder / "ensemble_metrics.json", replace(example(EnsembleMetrics), teachers=teachers))
    return folder


def test_each_teachers_own_temperature(tmp_path: Path) -> None:
    others = {
        name: [judged(name, calibration_record(value)), judged(name, calibration_record(value), split="test")]
        for name, value in (("B3", 3.5), ("RN18", 1.6))
    }
    assert teacher_temperatures(ensemble(), write_metrics(tmp_path, others)) == [1.6, 3.5]


def test_unknown_where_nothing_fitting_is_recorded(tmp_path: Path) -> None:
    assert teacher_temperatures(ensemble(), tmp_path) == [None, None]
    assert teacher_temperatures(ensemble(), write_metrics(tmp_path, {})) == [None, None]
    known = {"RN18": [judged("RN18", calibration_record(1.6))], "B3": [judged("B3", None)]}
    assert teacher_temperatures(ensemble(), write_metrics(tmp_path, known)) == [1.6, None]
    known["B3"] = [judged("RN18", calibration_record(3.5))]  # another checkpoint under the same name
    assert teacher_temperatures(ensemble(), write_metrics(tmp_path, known)) == [1.6, None]


def test_teacher_scaling_has_fitted_what_is_deployed(tmp_path: Path) -> None:
    scaled = ensemble(calibration_temperature=2.5)
    assert teacher_temperatures(scaled, tmp_path) == [None, 2.5]
    own = {"B3": [judged("B3", calibration_record(2.5))]}
    assert teacher_temperatures(scaled, write_metrics(tmp_path, own)) == [None, 2.5]
    at_bound = ensemble(calibration_temperature=0.01, temperature_at_bound=True)
    assert teacher_temperatures(at_bound, tmp_path) == [None, None]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 1.7),
        ({"method": "temperature_grid"}, 1.7),
        ({"method": "none", "calibration_temperature": 1.0}, None),
        ({"method": "vector", "calibration_temperature": None}, None),
        ({"at_bound": True}, None),
        ({"fitted_on_fingerprint": "ef" * 32}, None),
        ({"fitted_on_split": "test"}, None),
    ],
)
def test_a_temperature_and_nothing_else(changes: dict[str, Any], expected: float | None) -> None:
    assert fitted_temperature(replace(calibration_record(1.7), **changes), ROWS) == expected
    assert fitted_temperature(None, ROWS) is None


def test_damaged_figures_are_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "ensemble_metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(FerError, match=r"ensemble_metrics\.json is not a valid EnsembleMetrics"):
        teacher_temperatures(ensemble(), tmp_path)
