"""AffectNet's own lists and photos."""

from pathlib import Path

import pytest

from fer_lightning.data.sources.affectnet_csv import read_affectnet_csv
from fer_lightning.data.sources.config import SourceConfig, SourceKind
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError
from tests.data.sources.picture_tree import drops, plant_bytes, plant_text, summary

HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
BY_CODE = ["Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Angry"]
PHOTOS = "Manually_Annotated_Images"


def line(picture: str, code: object, *, box: str = "10,20,100,110", affect: str = "-0.5,0.25") -> str:
    return f"{picture},{box},1.5;2.5;3;4,{code},{affect}"


def plant(path: Path, *lines: str, header: str = HEADER) -> Path:
    return plant_text(path, "".join(f"{text}\n" for text in (header, *lines)))


def plant_photos(root: Path, *names: str, folder: str = PHOTOS) -> None:
    plant_bytes(root, *(f"{folder}/{name}" if folder else name for name in names))


def read(root: Path) -> SourceReading:
    return read_affectnet_csv(SourceConfig(kind=SourceKind.affectnet_csv, path=str(root)))


def test_codes_and_boxes_of_both_lists(tmp_path: Path) -> None:
    names = [f"{code}/a{code}.jpg" for code in range(11)]
    plant(tmp_path / "training.csv", *(line(name, code) for code, name in enumerate(names)))
    plant(tmp_path / "validation.csv", line("1/v.png", 4, box="0,7,3,5", affect="0.1,-2"))
    plant_photos(tmp_path, *names, "1/v.png")
    reading = read(tmp_path)
    assert summary(reading, tmp_path) == [
        (f"{PHOTOS}/1/v.png", "Fear", "val"),
        *((f"{PHOTOS}/{name}", label, "train") for name, label in zip(names, BY_CODE, strict=False)),
    ]
    assert [row.bbox for row in reading.rows[:2]] == [(7, 0, 3, 12), (20, 10, 110, 130)]
    assert reading.rows[0].columns == {"orig_image": "1/v.png", "valence": "0.1", "arousal": "-2"}
    assert drops(reading) == [
        ("training.csv:10", "no expression"),
        ("training.csv:11", "uncertain"),
        ("training.csv:12", "no face"),
        ("training.csv:9", "contempt"),
    ]
    assert reading.notes == ["labels are from validation.csv, training.csv"]


@pytest.mark.parametrize(
    ("lists", "photos"),
    [
        ("", PHOTOS),
        ("Manually_Annotated_file_lists", PHOTOS),
        ("Manually_Annotated_file_lists", f"Manually_Annotated/{PHOTOS}"),
        ("", ""),
        ("Manually_Annotated_file_lists", ""),
    ],
)
def test_places_of_lists_and_photos(tmp_path: Path, lists: str, photos: str) -> None:
    plant(tmp_path / lists / "training.csv", line("1/a.jpg", 1), line("2/b.jpg", 2))
    plant_photos(tmp_path, "1/a.jpg", "2/b.jpg", "2/unlisted.jpg", "2/._b.jpg", folder=photos)
    reading = read(tmp_path)
    prefix = f"{photos}/" if photos else ""
    assert [place for place, _, _ in summary(reading, tmp_path)] == [f"{prefix}1/a.jpg", f"{prefix}2/b.jpg"]
    assert drops(reading) == [(f"{prefix}2/._b.jpg", "no image file"), (f"{prefix}2/unlisted.jpg", "no label")]


def test_automatic_labels_are_train(tmp_path: Path) -> None:
    plant(tmp_path / "training.csv", line("1/a.jpg", 1))
    plant(tmp_path / "Automatically_annotated_file_list/automatically_annotated.csv", line("1/auto.jpg", 2))
    plant_photos(tmp_path, "1/a.jpg")
    plant_photos(tmp_path, "1/auto.jpg", folder="Automatically_Annotated/Automatically_Annotated_Images")
    reading = read(tmp_path)
    assert [(label, split) for _, label, split in summary(reading, tmp_path)] == [("Happy", "train"), ("Sad", "train")]
    assert reading.notes == [
        "labels are from training.csv, Automatically_annotated_file_list/automatically_annotated.csv"
    ]


def test_bom_crlf_blank_lines_column_order_and_no_header_change_nothing(tmp_path: Path) -> None:
    lines = [line("1/a.jpg", 1), line("1/b.jpg", 6)]
    plant_photos(tmp_path, "1/a.jpg", "1/b.jpg")
    path = plant(tmp_path / "training.csv", *lines)
    plain = read(tmp_path).rows
    plant_text(path, "\ufeff" + "\r\n".join([HEADER, *lines, "", "", ""]))
    assert read(tmp_path).rows == plain
    plant_text(path, "\n".join(lines))
    assert read(tmp_path).rows == plain
    others = "expression,arousal,valence,face_height,face_width,face_y,face_x,subDirectory_filePath"
    plant(path, "1,0.25,-0.5,110,100,20,10,1/a.jpg", "6,0.25,-0.5,110,100,20,10,1\\b.jpg", header=others)
    assert read(tmp_path).rows == plain


def test_boxes_that_cannot_be_used_matter_for_kept_rows_only(tmp_path: Path) -> None:
    boxes = ["-1,-1,-1,-1", "NULL,NULL,NULL,NULL", "5,5,0,9", "5,5,9,-9", "-1,5,9,9", "5,5,9,1.5", "5.0,5,9,9"]
    plant(
        tmp_path / "training.csv",
        *(line(f"1/{number}.jpg", 3, box=box) for number, box in enumerate(boxes)),
        line("1/none.jpg", 10, box="NULL,NULL,NULL,NULL"),
    )
    plant_photos(tmp_path, *(f"1/{number}.jpg" for number in range(len(boxes))), "1/none.jpg")
    reading = read(tmp_path)
    assert [row.bbox for row in reading.rows] == [(5, 5, 14, 14)]
    assert reading.reasons() == {"no usable box": 6, "no face": 1}
    assert reading.dropped[1].detail == "x, y, width, height are NULL, NULL, NULL, NULL"


def test_missing_photos_and_repeated_faces_are_accounted_for(tmp_path: Path) -> None:
    plant(
        tmp_path / "training.csv",
        line("1/a.jpg", 1),
        line("1/absent.jpg", 1),
        line("1/twice.jpg", 1),
        line("1/twice.jpg", 1),
        line("1/two_faces.jpg", 1, box="0,0,5,5"),
        line("1/two_faces.jpg", 2, box="9,9,5,5"),
        line("1/torn.jpg", 1),
        line("1/torn.jpg", 2),
        line("1/val.jpg", 5),
    )
    plant(tmp_path / "validation.csv", line("1/val.jpg", 5))
    plant_photos(tmp_path, *(f"1/{name}.jpg" for name in ("a", "twice", "two_faces", "torn", "val")))
    reading = read(tmp_path)
    assert [(row.path[len(f"{tmp_path.as_posix()}/{PHOTOS}/1/") :], row.split) for row in reading.rows] == [
        ("val.jpg", "val"),
        ("a.jpg", "train"),
        ("twice.jpg", "train"),
        ("two_faces.jpg", "train"),
        ("two_faces.jpg", "train"),
    ]
    assert [(drop.item, drop.reason, drop.detail) for drop in reading.dropped] == [
        ("training.csv:3", "no such file", "1/absent.jpg"),
        ("training.csv:5", "given twice", "1/twice.jpg is also training.csv:4"),
        ("training.csv:8", "labels disagree", "1/torn.jpg is also training.csv:9"),
        ("training.csv:9", "labels disagree", "1/torn.jpg is also training.csv:8"),
        ("training.csv:10", "given twice", "1/val.jpg is also validation.csv:2"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no face is listed in training.csv"),
        (f"{HEADER}\n", r"no face is listed in training.csv"),
        ("a,b\n1,2\n", r"training.csv has the columns a,b; expected subDirectory_filePath,face_x"),
        (
            f"{HEADER}\n{line('1/a.jpg', 1)}\n{line('1/b.jpg', 11)}\n",
            r"training.csv:3 reads .*an expression of 0 to 10",
        ),
        (f"{HEADER}\n{line('1/a.jpg', 'Happy')}\n", r"training.csv:2 reads .*1/a.jpg.*Happy.*an expression of 0 to 10"),
        (f"{HEADER}\n1/a.jpg,1,2\n", r"training.csv:2 reads '1/a.jpg,1,2'; expected 9 fields"),
        (f"{HEADER}\n{line('1/a.jpg', 7)}\n", r"becomes a row; left out: 1 contempt"),
        (f'{HEADER}\n"1/a.jpg,1,2\n', "is not a UTF-8 CSV file"),
        (
            f"{HEADER}\n{line('9/z.jpg', 1)}\n",
            rf"none of the 1 pictures that training.csv names is found, .*9/z.jpg.*{PHOTOS}",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    plant_text(tmp_path / "training.csv", text)
    plant_photos(tmp_path, "1/a.jpg")
    with pytest.raises(FerError, match=message):
        read(tmp_path)


def test_no_list_or_two_of_a_name(tmp_path: Path) -> None:
    plant_photos(tmp_path, "1/a.jpg")
    with pytest.raises(FerError, match="no validation.csv, training.csv, automatically_annotated.csv in .*file_lists"):
        read(tmp_path)
    for folder in (tmp_path, tmp_path / "Manually_Annotated_file_lists"):
        plant(folder / "training.csv", line("1/a.jpg", 1))
    with pytest.raises(FerError, match="training.csv is there more than once"):
        read(tmp_path)
