"""`ensemble.json` is read as it was written, or refused by file and field."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS
from fer_lightning.runs.ensemble import EnsembleTeacher
from fer_lightning.runs.ensemble_file import check_network, ensemble_file, fusion_text, is_ensemble, read_ensemble
from fer_lightning.runs.ensemble_teachers import with_a_share
from tests.runs.ensemble_examples import ensemble_of, teacher, write_ensemble


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"run{number}" / "best.pt" for number in range(2)]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(path.parent.name.encode())
    return paths


def pair(files: list[Path], **changes: Any) -> list[EnsembleTeacher]:
    """Return two teachers; changes are of the second one."""
    second = replace(teacher(files[1], "B3", weight=0.75), **changes)
    return [teacher(files[0].parent, "RN18", weight=0.25), second]


def refusal(folder: Path) -> str:
    with pytest.raises(FerError) as caught:
        read_ensemble(folder, option="export.run_dir")
    said = str(caught.value)
    assert str(folder / "ensemble.json") in said
    return said


def test_what_is_written_is_read(files: list[Path], tmp_path: Path) -> None:
    ensemble = ensemble_of(pair(files))
    folder = write_ensemble(tmp_path / "PAIR", ensemble)
    assert read_ensemble(folder, option="o") == read_ensemble(folder / "ensemble.json", option="o") == ensemble
    for given in (folder, folder / "ensemble.json"):
        assert is_ensemble(str(given))
        assert ensemble_file(given) == folder / "ensemble.json"
    assert is_ensemble(str(tmp_path / "absent" / "ensemble.json"))  # named as one, and refused when it is read
    for other in (tmp_path, files[0], files[0].parent, tmp_path / "absent"):
        assert not is_ensemble(str(other))


def test_a_folder_without_an_ensemble_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "ensemble.json"):
        with pytest.raises(FerError, match=f"o: {tmp_path} holds no ensemble: there is no ensemble.json in it"):
            read_ensemble(path, option="o")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weight": 0.8}, "teachers.weight sums to 1.05"),
        ({"weight": -0.75}, "teachers.1.weight is -0.75"),
        ({"weight": float("nan")}, "teachers.1.weight is nan"),
        ({"weight": float("inf")}, "teachers.1.weight is inf"),
        ({"calibration_temperature": 0.0}, "teachers.1.calibration_temperature is 0.0; it must be positive"),
        ({"calibration_temperature": -2.0}, "teachers.1.calibration_temperature is -2.0"),
        ({"calibration_temperature": float("inf")}, "teachers.1.calibration_temperature is inf"),
        ({"name": "RN18"}, "teachers.name must name each teacher once, got RN18, RN18"),
        ({"name": ""}, "teachers.name must name each teacher once"),
        ({"kind": "guess"}, "teachers.1.kind is 'guess'"),
    ],
)
def test_teachers_that_contradict_themselves_are_refused(
    files: list[Path], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    assert said in refusal(write_ensemble(tmp_path / "PAIR", ensemble_of(pair(files, **changes))))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space": "mean"}, "space is 'mean'; expected one of logit, prob"),
        ({"view": "crop-0"}, "view is 'crop-0'"),
        ({"class_order": sorted(EMOTIONS)}, "class_order has class order"),
        ({"teachers": []}, "teachers is empty"),
    ],
)
def test_an_ensemble_that_cannot_be_computed_is_refused(
    files: list[Path], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    assert said in refusal(write_ensemble(tmp_path / "PAIR", replace(ensemble_of(pair(files)), **changes)))


def test_other_versions_and_broken_files_are_refused(files: list[Path], tmp_path: Path) -> None:
    folder = write_ensemble(tmp_path / "PAIR", ensemble_of(pair(files)))
    content = json.loads((folder / "ensemble.json").read_text())
    for text, said in (
        (json.dumps(content | {"schema_version": 7}), "schema version 1 but of 7"),
        (json.dumps(content | {"surprise": 1}), "surprise"),
        (json.dumps({name: value for name, value in content.items() if name != "space"}), "space"),
        (json.dumps(content)[:100], "Ensemble"),
    ):
        (folder / "ensemble.json").write_text(text)
        assert said in refusal(folder)


def test_weights_whose_sum_was_rounded_are_taken(files: list[Path], tmp_path: Path) -> None:
    folder = write_ensemble(tmp_path / "PAIR", ensemble_of(pair(files, weight=0.75 + 5e-7)))
    assert read_ensemble(folder, option="o").teachers[1].weight == 0.75 + 5e-7


def test_a_network_is_made_of_checkpoints_seen_once(files: list[Path]) -> None:
    foreign = teacher(files[1], "OTHER", kind="foreign", weight=0.75)
    with pytest.raises(FerError, match=r"o: teacher OTHER .* is of kind foreign, and a network is made of checkpoints"):
        check_network(ensemble_of([pair(files)[0], foreign]), where="o")
    with pytest.raises(FerError, match="those of view flip, and a network sees each picture once"):
        check_network(ensemble_of(pair(files), view="flip"), where="o")
    unused = replace(foreign, weight=0.0)
    alone = ensemble_of([replace(pair(files)[0], weight=1.0), unused])
    assert [one.name for one in with_a_share(alone.teachers)] == ["RN18"]
    assert [path for _, path in check_network(alone, where="o")] == [files[0]]


def test_a_fusion_is_told_in_a_line() -> None:
    assert fusion_text("logit", [0.4, 0.0, 0.6], ["RN18", "X", "B3"]) == "logit fusion of 0.4 RN18 + 0.6 B3"
    assert fusion_text("prob", [1 / 3, 2 / 3], ["A", "B"]) == "prob fusion of 0.3333 A + 0.6667 B"
