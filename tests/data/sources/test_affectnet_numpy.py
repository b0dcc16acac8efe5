"""AffectNet with one numpy file per annotation."""

from pathlib import Path

import numpy as np
import pytest

from fer_lightning.data.sources.affectnet_numpy import read_affectnet_numpy
from fer_lightning.data.sources.config import SourceConfig, SourceKind
from fer_lightning.data.sources.npy_scalars import ScalarReader
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError
from tests.data.sources.picture_tree import drops, plant_bytes, summary

BY_CODE = ["Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Angry"]


def save(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(value), allow_pickle=True)


def plant(
    root: Path, stem: str, code: object, *, folder: str = "train_set", affect: tuple[object, object] = ("0.5", "-0.25")
) -> None:
    """Plant a face and its annotations."""
    plant_bytes(root, f"{folder}/images/{stem}.jpg")
    for suffix, value in (("exp", code), ("val", affect[0]), ("aro", affect[1]), ("lnd", np.zeros(136))):
        save(root / f"{folder}/annotations/{stem}_{suffix}.npy", value)


def read(root: Path) -> SourceReading:
    return read_affectnet_numpy(SourceConfig(kind=SourceKind.affectnet_numpy, path=str(root)))


def test_codes_of_both_sets(tmp_path: Path) -> None:
    for code in range(8):
        plant(tmp_path, str(code), str(code))
    plant(tmp_path, "0", "3", folder="val_set", affect=("-0.579365", "0.1"))
    reading = read(tmp_path)
    assert summary(reading, tmp_path) == [
        *((f"train_set/images/{code}.jpg", label, "train") for code, label in enumerate(BY_CODE)),
        ("val_set/images/0.jpg", "Surprise", "val"),
    ]
    assert reading.rows[-1].columns == {"valence": "-0.579365", "arousal": "0.1"}
    assert all(row.bbox is None for row in reading.rows)
    assert drops(reading) == [("train_set/images/7.jpg", "contempt")]
    assert reading.notes == []


@pytest.mark.parametrize(
    "code", ["5", b"5", 5, 5.0, np.uint8(5), np.float32(5), np.asarray(["5"]), np.asarray([[5]], dtype=">i8"), " 5 "]
)
def test_code_as_text_or_number_of_any_type(tmp_path: Path, code: object) -> None:
    plant(tmp_path, "a", code, affect=(0.25, np.float32(-0.5)))
    row = read(tmp_path).rows[0]
    assert (row.label, row.columns) == ("Disgust", {"valence": "0.25", "arousal": "-0.5"})


def test_what_does_not_fit_is_accounted_for(tmp_path: Path) -> None:
    plant(tmp_path, "good", 1)
    plant(tmp_path, "none", 8)
    plant(tmp_path, "high", 11)
    plant(tmp_path, "half", 1.5)
    plant(tmp_path, "word", "happy")
    plant(tmp_path, "many", [1, 2])
    plant(tmp_path, "nan", float("nan"))
    plant(tmp_path, "pickled", np.asarray({"code": 1}, dtype=object))
    plant(tmp_path, "cut", 1)
    cut = tmp_path / "train_set/annotations/cut_exp.npy"
    cut.write_bytes(cut.read_bytes()[:-1])
    plant(tmp_path, "empty", 1)
    (tmp_path / "train_set/annotations/empty_exp.npy").write_bytes(b"")
    plant(tmp_path, "text", 1)
    (tmp_path / "train_set/annotations/text_exp.npy").write_text("1")
    plant_bytes(
        tmp_path, "train_set/images/unlabelled.jpg", "train_set/images/._good.jpg", "train_set/images/deep/a.jpg"
    )
    save(tmp_path / "train_set/annotations/absent_exp.npy", 1)
    plant_bytes(tmp_path, "train_set/annotations/notes.txt", "train_set/annotations/._good_exp.npy")
    reading = read(tmp_path)
    assert summary(reading, tmp_path) == [("train_set/images/good.jpg", "Happy", "train")]
    assert drops(reading) == [
        ("train_set/annotations/._good_exp.npy", "no annotation file"),
        ("train_set/annotations/absent_exp.npy", "no such file"),
        ("train_set/annotations/notes.txt", "no annotation file"),
        ("train_set/images/._good.jpg", "no image file"),
        *((f"train_set/images/{name}.jpg", "unreadable label") for name in ("cut",)),
        ("train_set/images/deep", "folder inside a folder"),
        *((f"train_set/images/{name}.jpg", "unreadable label") for name in ("empty", "half", "high", "many", "nan")),
        ("train_set/images/none.jpg", "no expression"),
        *((f"train_set/images/{name}.jpg", "unreadable label") for name in ("pickled", "text")),
        ("train_set/images/unlabelled.jpg", "no label"),
        ("train_set/images/word.jpg", "unreadable label"),
    ]
    details = {drop.item[len("train_set/images/") :]: drop.detail for drop in reading.dropped}
    assert details["pickled.jpg"] == "pickled_exp.npy: a pickled object"
    assert details["many.jpg"] == "many_exp.npy: an array of shape (2,) instead of one value"
    assert details["high.jpg"] == "high_exp.npy is '11'; expected 0 to 10"
    assert reading.notes == ["there is no val_set"]


def test_faces_without_affect_stay(tmp_path: Path) -> None:
    plant(tmp_path, "a", 1)
    plant(tmp_path, "b", 2)
    (tmp_path / "train_set/annotations/a_val.npy").unlink()
    (tmp_path / "train_set/annotations/b_aro.npy").write_bytes(b"?")
    reading = read(tmp_path)
    assert [row.columns for row in reading.rows] == [{"arousal": "-0.25"}, {"valence": "0.5"}]
    assert reading.notes == ["there is no val_set", "2 faces are without a readable valence or arousal"]


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FerError, match="no folder train_set or val_set in"):
        read(tmp_path)
    plant_bytes(tmp_path, "val_set/images/0.jpg")
    with pytest.raises(FerError, match="no folder .*val_set/annotations; expected val_set/images/0.jpg and"):
        read(tmp_path)
    (tmp_path / "val_set/annotations").mkdir()
    with pytest.raises(FerError, match="no picture in .* has a label that can be used; left out: 1 no label"):
        read(tmp_path)


def test_a_file_with_another_version_of_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.asarray(1), version=(2, 0))
    with pytest.raises(ValueError, match="no .npy file of version 1.0"):
        ScalarReader().read(str(path))
