"""AffectNet in YOLO layout."""

from pathlib import Path

import pytest

from fer_lightning.data.sources.affectnet_yolo import read_affectnet_yolo
from fer_lightning.data.sources.config import SourceConfig, SourceKind
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.data.sources.yolo_files import RelativeBox, pixel_box
from fer_lightning.errors import FerError
from tests.data.sources.picture_tree import drops, plant_bytes, plant_picture, plant_text, summary

NAMES = ["Anger", "Contempt", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"]
LABELS = ["Angry", None, "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"]
WHOLE = "0.5 0.5 1 1"


def plant_classes(root: Path, text: str | None = None) -> None:
    plant_text(root / "data.yaml", text or f"train: ../train/images\nnc: 8\nnames: {NAMES}\n")


def plant(root: Path, name: str, *lines: str, height: int = 20, width: int = 40) -> None:
    """Plant a picture `<split>/<stem>.<suffix>` and its label file."""
    split, _, file = name.partition("/")
    plant_picture(root / split / "images" / file, height=height, width=width)
    stem = file.rpartition(".")[0]
    plant_text(root / split / "labels" / f"{stem}.txt", "".join(f"{text}\n" for text in lines))


def read(root: Path) -> SourceReading:
    return read_affectnet_yolo(SourceConfig(kind=SourceKind.affectnet_yolo, path=str(root)))


def test_classes_go_by_data_yaml(tmp_path: Path) -> None:
    plant_classes(tmp_path)
    for index in range(8):
        plant(tmp_path, f"train/{index}.png", f"{index} {WHOLE}")
    plant(tmp_path, "valid/v.jpg", f"3 {WHOLE}")
    plant(tmp_path, "test/t.png", f"5 {WHOLE}")
    reading = read(tmp_path)
    assert summary(reading, tmp_path) == [
        ("test/images/t.png", "Neutral", "test"),
        *((f"train/images/{index}.png", label, "train") for index, label in enumerate(LABELS) if label),
        ("valid/images/v.jpg", "Fear", "val"),
    ]
    assert all(row.bbox is None for row in reading.rows)
    assert reading.rows[0].columns == {"orig_image": "test/images/t.png", "face_id": "0"}
    assert drops(reading) == [("train/labels/1.txt:1", "contempt")]
    assert reading.notes == [f"classes as in data.yaml: {', '.join(f'{i} {name}' for i, name in enumerate(NAMES))}"]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffnames:\r\n- sad\r\n- 1_Happy\r\n",
        "names: {0: sad, 1: happiness}",
        "names: {'1': joy, '0': sadness}\nnc: 2",
    ],
)
def test_spellings_of_data_yaml(tmp_path: Path, text: str) -> None:
    plant_classes(tmp_path, text)
    plant(tmp_path, "val/a.png", f"0 {WHOLE}", "1 0.25 0.5 0.5 0.5")
    assert [row.label for row in read(tmp_path).rows] == ["Sad", "Happy"]


def test_several_faces_of_a_picture(tmp_path: Path) -> None:
    plant_classes(tmp_path)
    lines = ["4 0.25 0.5 0.5 0.5", "6 0.75 0.5 0.5 1.0", "1 0.1 0.1 0.1 0.1", "0 0.5 0.25 0.1 0.1"]
    plant(tmp_path, "train/a.png", *lines)
    reading = read(tmp_path)
    assert [(row.label, row.bbox, row.columns["face_id"]) for row in reading.rows] == [
        ("Happy", (5, 0, 20, 15), "0"),
        ("Sad", (0, 20, 40, 20), "1"),
        ("Angry", (4, 18, 22, 6), "3"),
    ]
    assert {row.columns["orig_image"] for row in reading.rows} == {"train/images/a.png"}


def relative(left: float, top: float, right: float, bottom: float) -> RelativeBox:
    """Return the relative box of pixel edges in a picture of 100 x 200 pixels."""
    return RelativeBox(1, 0, ((left + right) / 400, (top + bottom) / 200, (right - left) / 200, (bottom - top) / 100))


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ((10, 20, 30, 40), (20, 10, 30, 40)),
        ((10.4, 20.6, 29.6, 40.4), (21, 10, 30, 40)),
        ((-0.9, -0.6, 30, 40), (0, 0, 30, 40)),
        ((10, 20, 200.9, 100.6), (20, 10, 200, 100)),
        ((0, 0, 200, 100), None),
        ((1, 1, 199, 99), None),
        ((-0.9, 0.4, 200.9, 99.6), None),
        ((2, 0, 200, 100), (0, 2, 200, 100)),
        ((0, 0, 200, 98), (0, 0, 200, 98)),
    ],
)
def test_pixels_of_a_box(edges: tuple[float, float, float, float], expected: tuple[int, ...] | None) -> None:
    assert pixel_box(relative(*edges), height=100, width=200) == expected


@pytest.mark.parametrize("edges", [(-1, 0, 50, 50), (0, -1.5, 50, 50), (0, 0, 201, 50), (0, 0, 50, 103)])
def test_box_that_leaves_its_picture(edges: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="leave the picture"):
        pixel_box(relative(*edges), height=100, width=200)


@pytest.mark.parametrize("edges", [(10, 10, 10.3, 20), (10, 20, 30, 20), (30, 20, 10, 40)])
def test_box_without_area(edges: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="hold no pixel"):
        pixel_box(relative(*edges), height=100, width=200)


def test_what_does_not_fit_is_accounted_for(tmp_path: Path) -> None:
    plant_classes(tmp_path)
    plant(tmp_path, "train/good.png", f"4 {WHOLE}")
    plant(tmp_path, "train/empty.png")
    plant(tmp_path, "train/outside.png", "4 0.9 0.5 0.5 0.5", "4 0.5 0.5 0 0.5")
    plant(tmp_path, "train/twice.png", "4 0.5 0.5 0.5 0.5", "4 0.5 0.5 0.5 0.50")
    plant(tmp_path, "train/torn.png", "4 0.5 0.5 0.5 0.5", "5 0.5 0.5 0.5 0.5")
    plant(tmp_path, "train/broken.png", f"4 {WHOLE}")
    (tmp_path / "train/images/broken.png").write_bytes(b"no picture")
    plant(tmp_path, "train/two.png", f"4 {WHOLE}")
    plant_picture(tmp_path / "train/images/two.jpg")
    plant_picture(tmp_path / "train/images/unlabelled.png")
    plant_bytes(tmp_path, "train/images/._good.png", "train/labels/.DS_Store", "train/labels.cache", "README.txt")
    plant_text(tmp_path / "train/labels/absent.txt", f"4 {WHOLE}")
    plant_text(tmp_path / "train/labels/classes.json", "{}")
    reading = read(tmp_path)
    assert [(place, row.bbox) for (place, _, _), row in zip(summary(reading, tmp_path), reading.rows, strict=True)] == [
        ("train/images/good.png", None),
        ("train/images/twice.png", (5, 10, 30, 15)),
    ]
    assert drops(reading) == [
        ("train/images/._good.png", "no image file"),
        ("train/images/two.jpg", "several pictures of one label file"),
        ("train/images/two.png", "several pictures of one label file"),
        ("train/images/unlabelled.png", "no label"),
        ("train/labels/.DS_Store", "no label file"),
        ("train/labels/absent.txt", "no such file"),
        ("train/labels/broken.txt:1", "unreadable picture"),
        ("train/labels/classes.json", "no label file"),
        ("train/labels/empty.txt", "empty label file"),
        ("train/labels/outside.txt:1", "no usable box"),
        ("train/labels/outside.txt:2", "no usable box"),
        ("train/labels/torn.txt:1", "labels disagree"),
        ("train/labels/torn.txt:2", "labels disagree"),
        ("train/labels/twice.txt:2", "given twice"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "4 0.5 0.5 1",
        "4 0.1 0.1 0.9 0.1 0.9 0.9",
        "8 0.5 0.5 1 1",
        "-1 0.5 0.5 1 1",
        "4.0 0.5 0.5 1 1",
        "4 0.5 0.5 1 wide",
        "4 0.5 0.5 1 nan",
    ],
)
def test_line_of_another_form(tmp_path: Path, text: str) -> None:
    plant_classes(tmp_path)
    plant(tmp_path, "train/a.png", f"4 {WHOLE}", "", text)
    with pytest.raises(FerError, match=r"train/labels/a.txt:3 reads .*; expected '<class 0 to 7> <centre x>"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no .*data.yaml; the class order is in its 'names' and is never guessed"),
        ("", "data.yaml has no 'names'"),
        ("nc: 8\n", "data.yaml has no 'names'"),
        ("names: []\n", "data.yaml has no 'names'"),
        ("names: sad\n", "data.yaml has no 'names'"),
        ("names: {1: sad, 2: happy}\n", "data.yaml has no 'names'"),
        ("- sad\n", "data.yaml has no 'names'"),
        ("names: [sad, happy]\nnc: 8\n", "has 2 names but nc: 8"),
        ("names: [sad, dog]\n", "names the class 'dog', which is no known expression"),
        ("names: [sad\n", "data.yaml is not YAML"),
    ],
)
def test_class_order_is_never_guessed(tmp_path: Path, text: str | None, message: str) -> None:
    plant(tmp_path, "train/a.png", f"0 {WHOLE}")
    if text is not None:
        plant_text(tmp_path / "data.yaml", text)
    with pytest.raises(FerError, match=message):
        read(tmp_path)


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    plant_classes(tmp_path)
    with pytest.raises(FerError, match="no split folder .* expected data.yaml, and <split>/images and <split>/labels"):
        read(tmp_path)
    plant_picture(tmp_path / "train/images/a.png")
    with pytest.raises(FerError, match="no folder .*train/labels"):
        read(tmp_path)
    (tmp_path / "train/labels").mkdir()
    with pytest.raises(FerError, match="has a usable line in its file in <split>/labels; left out: 1 no label"):
        read(tmp_path)
    plant(tmp_path, "val/a.png", f"0 {WHOLE}")
    plant(tmp_path, "valid/a.png", f"0 {WHOLE}")
    with pytest.raises(FerError, match="holds val and valid, both of the split val; keep one"):
        read(tmp_path)
