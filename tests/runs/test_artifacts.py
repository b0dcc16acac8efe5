"""Round trip and refusals of every artifact."""

import dataclasses
import importlib
import inspect
import json
import math
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

import fer_lightning.runs
from fer_lightning.errors import FerError
from fer_lightning.runs.artifacts import (
    STRICT,
    Metrics,
    OnnxRecord,
    ReliabilityMetrics,
    from_json,
    read_artifact,
    to_json,
    write_artifact,
)
from fer_lightning.runs.history import History
from fer_lightning.runs.lock import LockHolder
from tests.runs.examples import example

MODULES = [
    importlib.import_module(f"fer_lightning.runs.{found.name}")
    for found in pkgutil.iter_modules(fer_lightning.runs.__path__)
]
KINDS: list[type[Any]] = [
    kind
    for module in MODULES
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if kind.__module__ == module.__name__ and getattr(kind, "__pydantic_config__", None) is STRICT
]
VERSIONED = [kind for kind in KINDS if hasattr(kind, "schema_version")]


def test_every_file_of_a_run_has_its_kind_and_version() -> None:
    assert {kind.__name__ for kind in VERSIONED} == {
        "AlignmentReport",
        "Calibration",
        "DistillationRecord",
        "Sweep",
        "SweepJob",
        "Environment",
        "AuditReport",
        "BuildReport",
        "CalibrationReport",
        "Calibrator",
        "Evaluation",
        "EvaluationBoard",
        "EvaluationCurves",
        "History",
        "Leaderboard",
        "OnnxExport",
        "OnnxRecord",
        "ReliabilityMetrics",
        "Robustness",
        "RunPhases",
        "SourceMatrix",
        "StoredLogitsRecord",
        "Timings",
        "TrainingCheck",
        "Ensemble",
        "EnsembleMetrics",
        "WeightSearchReport",
        "ClassOrder",
        "HashManifest",
        "SoftLabelAlignment",
        "EnsembleBoard",
        "Triage",
        "ArchiveEntry",
        "Summary",
        "Diagnosis",
        "SharpnessReport",
        "StudentComparison",
    }
    assert {kind.__name__: kind.schema_version for kind in VERSIONED if kind.schema_version > 1} == {
        "AlignmentReport": 3,
        "Calibration": 2,
        "Evaluation": 5,
        "HashManifest": 2,
        "History": 4,
        "OnnxRecord": 3,
        "ReliabilityMetrics": 3,
        "SoftLabelAlignment": 2,
        "StoredLogitsRecord": 2,
    }


@pytest.mark.parametrize("number", [0.1, 1e-300, 1.7976931348623157e308, 2.0, -0.0, math.inf, -math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind: type[Any], number: float, tmp_path: Path) -> None:
    written = example(kind, number=number)
    write_artifact(tmp_path / "a.json", written)
    read = read_artifact(tmp_path / "a.json", kind)
    assert read == written
    assert repr(read) == repr(written)  # -0.0, and 2.0 against 2
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_of_nan(kind: type[Any], tmp_path: Path) -> None:
    written = example(kind, number=math.nan)
    write_artifact(tmp_path / "a.json", written)
    assert repr(read_artifact(tmp_path / "a.json", kind)) == repr(written)


def test_files_are_plain_json_with_utf8_and_a_last_newline(tmp_path: Path) -> None:
    write_artifact(tmp_path / "a.json", example(Metrics, number=math.inf))
    data = (tmp_path / "a.json").read_bytes()
    assert data.endswith(b"}\n")
    assert b"\r" not in data
    assert json.loads(data)["nll"] == "Infinity"  # a bare Infinity is not JSON
    assert json.loads(data)["per_class_f1"] == {"é": "Infinity"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_missing_or_unknown_is_refused(kind: type[Any], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    whole = json.loads(to_json(example(kind)))
    for name in whole:
        path.write_text(json.dumps({key: value for key, value in whole.items() if key != name}), encoding="utf-8")
        with pytest.raises(FerError, match=re.escape(str(path))) as caught:
            read_artifact(path, kind)
        assert name in str(caught.value).replace("schema version", "schema_version")
    path.write_text(json.dumps(whole | {"surprise": 1}), encoding="utf-8")
    with pytest.raises(FerError, match=rf"{re.escape(str(path))} is not a valid {kind.__name__}: surprise"):
        read_artifact(path, kind)


@pytest.mark.parametrize("kind", VERSIONED)
def test_another_schema_version_is_refused_by_its_number(kind: type[Any]) -> None:
    content = json.loads(to_json(example(kind)))
    known = kind.schema_version
    content["schema_version"] = known + 1
    content["field_of_the_next_version"] = True
    with pytest.raises(FerError, match=f"here is no {kind.__name__} of schema version {known} but of {known + 1}"):
        from_json(json.dumps(content), kind, where="here")


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_refused_wherever_it_ends(kind: type[Any], tmp_path: Path) -> None:
    text = to_json(example(kind)).encode()
    path = tmp_path / "a.json"
    for length in {0, 1, len(text) // 3, len(text) // 2, len(text) - 1}:
        path.write_bytes(text[:length])
        with pytest.raises(FerError, match=re.escape(str(path))):
            read_artifact(path, kind)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"[]", b"null", b"3", b'"x"', b"{}{}", b"\x00" * 9, b"{" * 5000])
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(FerError, match="here is not a valid History"):
        from_json(data, History, where="here")


@pytest.mark.parametrize(("field", "value"), [("n", 1.5), ("n", "many"), ("support", [1]), ("raw", None)])
def test_a_value_of_another_type_is_refused_with_its_place(field: str, value: object) -> None:
    content = json.loads(to_json(example(ReliabilityMetrics)))
    content["last"][field] = value
    with pytest.raises(FerError, match=rf"here is not a valid ReliabilityMetrics: last\.{field}"):
        from_json(json.dumps(content), ReliabilityMetrics, where="here")


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(FerError, match=f"^no file {re.escape(str(tmp_path / 'a.json'))}$"):
        read_artifact(tmp_path / "a.json", History)
    with pytest.raises(FerError, match=f"cannot read {re.escape(str(tmp_path))}"):
        read_artifact(tmp_path, History)


def test_canonical_numbers_keep_their_types() -> None:
    record = dataclasses.replace(example(OnnxRecord), canonical={"a": 8, "b": 2.0, "c": True, "d": False})
    read = from_json(to_json(record), OnnxRecord, where="here")
    assert [type(value) for value in read.canonical.values()] == [int, float, bool, bool]


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_artifact(path, example(History))
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_artifact(path, example(History, number=0.5))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_artifacts_are_frozen() -> None:
    for kind in [*KINDS, LockHolder]:
        name = dataclasses.fields(kind)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(example(kind), name, None)
