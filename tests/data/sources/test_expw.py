"""ExpW: boxes or crops, several faces of a photo, confidence."""

from pathlib import Path

import pytest

from fer_lightning.data.sources.config import Pictures, SourceConfig, SourceKind
from fer_lightning.data.sources.expw import read_expw
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError
from tests.data.sources.picture_tree import drops, plant_bytes, plant_text, summary

BY_CODE = ["Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral"]


def line(photo: str, face_id: int, code: object, *, box: str = "10 20 120 110", confidence: str = "75.5") -> str:
    return f"{photo} {face_id} {box} {confidence} {code}"


def plant(root: Path, *lines: str, name: str = "label.lst", photos: str = "image/origin") -> None:
    """Plant the label list and the photos it names."""
    plant_text(root / name, "".join(f"{text}\n" for text in lines))
    plant_bytes(root, *(f"{photos}/{text.rsplit(None, 7)[0]}" for text in lines))


def read(root: Path, min_confidence: float | None = None) -> SourceReading:
    return read_expw(
        SourceConfig(kind=SourceKind.expw, path=str(root), pictures=Pictures.boxes, min_confidence=min_confidence)
    )


def read_crops(root: Path, images: Path | None, min_confidence: float | None = None) -> SourceReading:
    source = SourceConfig(
        kind=SourceKind.expw,
        path=str(root),
        pictures=Pictures.crops,
        images=None if images is None else str(images),
        min_confidence=min_confidence,
    )
    return read_expw(source)


def test_codes_and_boxes(tmp_path: Path) -> None:
    plant(tmp_path, *(line(f"p{code}.jpg", 0, code) for code in range(7)))
    reading = read(tmp_path)
    assert summary(reading, tmp_path) == [(f"image/origin/p{code}.jpg", BY_CODE[code], None) for code in range(7)]
    # top 10, left 20, right 120, bottom 110: the list is in the order of the manifest
    assert {row.bbox for row in reading.rows} == {(10, 20, 120, 110)}
    assert reading.rows[3].columns == {"orig_image": "p3.jpg", "face_id": "0", "confidence": "75.5"}
    assert (reading.dropped, reading.notes) == ([], [])


@pytest.mark.parametrize("photos", ["image/origin", "origin", "image"])
@pytest.mark.parametrize("name", ["label.lst", "label/label.lst"])
def test_places(tmp_path: Path, name: str, photos: str) -> None:
    plant(tmp_path, line("a.jpg", 0, 1), name=name, photos=photos)
    plant_bytes(tmp_path, f"{photos}/unlabelled.jpg", f"{photos}/.DS_Store")
    reading = read(tmp_path)
    assert summary(reading, tmp_path) == [(f"{photos}/a.jpg", "Disgust", None)]
    assert drops(reading) == [(f"{photos}/.DS_Store", "no image file"), (f"{photos}/unlabelled.jpg", "no label")]


def test_bom_crlf_tabs_and_blank_lines_change_nothing(tmp_path: Path) -> None:
    lines = [line("a b.jpg", 0, 1), line("é.jpg", 0, 2)]
    plant(tmp_path, *lines)
    plain = read(tmp_path)
    assert [row.columns["orig_image"] for row in plain.rows] == ["a b.jpg", "é.jpg"]
    text = "\r\n".join([lines[0].replace(" 10 20", " \t10\t20 "), "", f" {lines[1]} ", "", ""])
    plant_text(tmp_path / "label.lst", f"\ufeff{text}")
    assert read(tmp_path) == plain


def test_several_faces_of_a_photo_stay_together(tmp_path: Path) -> None:
    plant(tmp_path, line("a.jpg", 0, 1), line("a.jpg", 1, 2, box="10 130 220 110"))
    reading = read(tmp_path)
    assert [(row.columns["orig_image"], row.columns["face_id"], row.label) for row in reading.rows] == [
        ("a.jpg", "0", "Disgust"),
        ("a.jpg", "1", "Fear"),
    ]


def test_low_confidence_bad_boxes_and_missing_photos(tmp_path: Path) -> None:
    lines = [
        line("a.jpg", 0, 1, confidence="60"),
        line("a.jpg", 1, 1, confidence="59.99"),
        line("b.jpg", 0, 1, box="-3 20 120 110"),
        line("b.jpg", 1, 1, box="10 20 20 110"),
        line("b.jpg", 2, 1, box="10 20 120 10"),
        line("absent.jpg", 0, 1),
        line("absent.jpg", 1, 1, confidence="-5"),
    ]
    plant(tmp_path, *lines)
    (tmp_path / "image/origin/absent.jpg").unlink()
    reading = read(tmp_path, 60)
    assert [(row.columns["orig_image"], row.columns["confidence"]) for row in reading.rows] == [("a.jpg", "60")]
    assert [(drop.item, drop.reason, drop.detail) for drop in reading.dropped] == [
        ("label.lst:2", "low confidence", "59.99"),
        ("label.lst:3", "no usable box", "top, left, right, bottom are -3, 20, 120, 110"),
        ("label.lst:4", "no usable box", "top, left, right, bottom are 10, 20, 20, 110"),
        ("label.lst:5", "no usable box", "top, left, right, bottom are 10, 20, 120, 10"),
        ("label.lst:6", "no such file", "absent.jpg"),
        ("label.lst:7", "low confidence", "-5"),
    ]
    assert read(tmp_path).reasons() == {"no usable box": 3, "no such file": 2}


def test_faces_given_twice(tmp_path: Path) -> None:
    lines = [line("a.jpg", 0, 1), line("a.jpg", 1, 2), line("a.jpg", 0, 1), line("a.jpg", 1, 3), line("a.jpg", 2, 3)]
    plant(tmp_path, *lines)
    reading = read(tmp_path)
    assert [row.columns["face_id"] for row in reading.rows] == ["0", "2"]
    assert [(drop.item, drop.reason, drop.detail) for drop in reading.dropped] == [
        ("label.lst:2", "labels disagree", "a.jpg face 1, also line 4"),
        ("label.lst:3", "given twice", "a.jpg face 0, also line 1"),
        ("label.lst:4", "labels disagree", "a.jpg face 1, also line 2"),
    ]


def test_crops_have_no_box(tmp_path: Path) -> None:
    lines = [line("a.jpg", 0, 1), line("a.jpg", 1, 3, box="-5 0 0 0"), line("b.jpg", 0, 4), line("c.jpg", 0, 5)]
    plant_text(tmp_path / "label.lst", "\n".join([*lines, line("d.jpg", 0, 5, confidence="1")]))
    crops = tmp_path / "crops"
    plant_bytes(crops, "a_0.png", "sub/a_face1.jpg", "b_0.webp", "d_0.png", "z_0.png", "b_0.png", "notes.txt")
    reading = read_crops(tmp_path, crops, 60)
    assert summary(reading, crops) == [
        ("a_0.png", "Disgust", None),
        ("sub/a_face1.jpg", "Happy", None),
        ("b_0.png", "Sad", None),
    ]
    assert {row.bbox for row in reading.rows} == {None}
    assert reading.rows[1].columns == {"orig_image": "a.jpg", "face_id": "1", "confidence": "75.5"}
    assert drops(reading) == [
        ("b_0.webp", "no label"),
        ("label.lst:4", "no such file"),
        ("label.lst:5", "low confidence"),
        ("notes.txt", "no image file"),
        ("z_0.png", "no label"),
    ]


def test_a_crop_that_two_photos_may_be_cut_to(tmp_path: Path) -> None:
    plant_text(tmp_path / "label.lst", "\n".join([line("a.jpg", 0, 1), line("a.png", 0, 3), line("b.png", 0, 3)]))
    plant_bytes(tmp_path / "crops", "a_0.png", "b_0.png")
    reading = read_crops(tmp_path, tmp_path / "crops")
    assert [row.columns["orig_image"] for row in reading.rows] == ["b.png"]
    assert [(drop.reason, drop.detail) for drop in reading.dropped] == [
        ("crop of two photos", "a_0.png may be of a.jpg, a.png")
    ] * 2


def test_boxes_and_crops_never_both(tmp_path: Path) -> None:
    plant(tmp_path, line("a.jpg", 0, 1))
    with pytest.raises(FerError, match="pictures=crops needs images="):
        read_crops(tmp_path, None)
    with pytest.raises(FerError, match="no folder .*crops; images is the folder of the crops"):
        read_crops(tmp_path, tmp_path / "crops")
    source = SourceConfig(kind=SourceKind.expw, path=str(tmp_path), pictures=Pictures.boxes, images=str(tmp_path))
    with pytest.raises(FerError, match="images names a folder of crops; it belongs to pictures=crops"):
        read_expw(source)
    plant_bytes(tmp_path, "crops/a.jpg")
    with pytest.raises(
        FerError, match="none of the 1 pictures that .*label.lst names .* such as a_0 or a_face0; looked in .*crops"
    ):
        read_crops(tmp_path, tmp_path / "crops")


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg 0 1 2 3 4 5",
        "0 1 2 3 4 5 6",
        "a.jpg x 1 2 3 4 5 6",
        "a.jpg -1 1 2 3 4 5 6",
        "a.jpg 0 1 2 3 4.5 5 6",
        "a.jpg 0 1 2 3 4 high 6",
        "a.jpg 0 1 2 3 4 nan 6",
        "a.jpg 0 1 2 3 4 5 7",
        "a.jpg 0 1 2 3 4 5 happy",
    ],
)
def test_line_of_another_form(tmp_path: Path, text: str) -> None:
    plant(tmp_path, line("a.jpg", 0, 1))
    plant_text(tmp_path / "label.lst", f"{line('a.jpg', 0, 1)}\n\n{text}\n")
    with pytest.raises(
        FerError, match=r"label.lst:3 reads '.*'; expected '<photo> <face id> <top> <left> <right> <bottom>"
    ):
        read(tmp_path)


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FerError, match="no label list at .*label.lst or .*label/label.lst"):
        read(tmp_path)
    plant_text(tmp_path / "label.lst", "\n")
    with pytest.raises(FerError, match="label.lst is empty; expected lines such as"):
        read(tmp_path)
    plant_text(tmp_path / "label.lst", line("a.jpg", 0, 1, confidence="1"))
    with pytest.raises(FerError, match="no photos of ExpW: none of the folders .*image/origin, .* is there"):
        read(tmp_path)
    plant_bytes(tmp_path, "image/origin/b.jpg")
    with pytest.raises(FerError, match="none of the 1 pictures that .* such as a.jpg; looked in .*image/origin"):
        read(tmp_path)
    plant_bytes(tmp_path, "image/origin/a.jpg")
    with pytest.raises(FerError, match="becomes a row; left out: 1 low confidence, 1 no label"):
        read(tmp_path, 60)
    (tmp_path / "label.lst").write_bytes(b"\xff\xfe")
    with pytest.raises(FerError, match="label.lst is not UTF-8 text"):
        read(tmp_path)
