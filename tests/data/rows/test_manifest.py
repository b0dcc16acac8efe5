"""Every way a manifest can be wrong."""

import csv
import hashlib
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer_lightning.data.rows.manifest import Manifest, inspect_manifest, missing_files, read_manifest
from fer_lightning.data.rows.row_id import row_id
from fer_lightning.errors import FerError
from tests.data.conftest import Row, Workshop, cycle_rows, make_box, make_row

HEADER = "image_path,label,split,source"


def read_bytes(workshop: Workshop, content: bytes, *, max_bad_rows: int = 0, root: Path | None = None) -> Manifest:
    workshop.manifest.write_bytes(content)
    return read_manifest(workshop.manifest, root=root, max_bad_rows=max_bad_rows)


def read_text(workshop: Workshop, *lines: str, max_bad_rows: int = 0, root: Path | None = None) -> Manifest:
    return read_bytes(workshop, "\n".join(lines).encode(), max_bad_rows=max_bad_rows, root=root)


def refusal(workshop: Workshop, *lines: str) -> str:
    with pytest.raises(FerError) as caught:
        read_text(workshop, *lines)
    return str(caught.value)


def refusal_of(workshop: Workshop, rows: list[Row]) -> str:
    with pytest.raises(FerError) as caught:
        workshop.read(rows)
    return str(caught.value)


def test_columns_of_a_plain_manifest(workshop: Workshop) -> None:
    manifest = read_text(workshop, HEADER, "a.png,Angry,train,ferplus", "b/c.png,Neutral,test,expw_hq")
    assert manifest.image_paths == ("a.png", "b/c.png")
    assert manifest.labels.tolist() == [0, 6]
    assert manifest.splits.tolist() == ["train", "test"]
    assert manifest.sources.tolist() == ["ferplus", "expw_hq"]
    assert manifest.lines.tolist() == [2, 3]
    assert manifest.bboxes.tolist() == [[-1] * 4] * 2
    assert not manifest.has_bbox.any()
    assert manifest.row_ids == (row_id("a.png", None), row_id("b/c.png", None))
    assert manifest.root == workshop.root
    assert manifest.sha256 == hashlib.sha256(workshop.manifest.read_bytes()).hexdigest()
    assert (len(manifest), manifest.rows_left_out, manifest.unknown_columns) == (2, 0, ())


@pytest.mark.parametrize("ending", [b"\r\n", b"\r", b"\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_byte_order_mark_and_line_endings(workshop: Workshop, ending: bytes, mark: bytes) -> None:
    lines = [HEADER.encode(), b"a.png,Sad,val,s", b"", b"b.png,Fear,val,s", b""]
    manifest = read_bytes(workshop, mark + ending.join(lines))
    assert manifest.image_paths == ("a.png", "b.png")
    assert manifest.labels.tolist() == [4, 2]
    assert manifest.lines.tolist() == [2, 4]


def test_quoted_fields_and_other_alphabets(workshop: Workshop) -> None:
    lines = (HEADER + ",note", '"a, b/""c"".png",Sad,val,s,"x,y"', "表情/Zoë.png,Fear,val,ソース,é")
    manifest = read_text(workshop, *lines)
    assert manifest.image_paths == ('a, b/"c".png', "表情/Zoë.png")
    assert manifest.sources.tolist() == ["s", "ソース"]
    assert manifest.extras == {"note": ("x,y", "é")}
    for name in manifest.image_paths:
        workshop.draw(name)
    assert missing_files(manifest, np.arange(2)) == []


def test_backslashes_are_folders(workshop: Workshop) -> None:
    workshop.draw("a/b/c.png")
    manifest = read_text(workshop, HEADER, "a\\b\\c.png,Sad,val,s")
    assert manifest.image_paths == ("a/b/c.png",)
    assert missing_files(manifest, np.arange(1)) == []


def test_unknown_columns_are_kept_and_listed(workshop: Workshop) -> None:
    extra = {"subject": "7", "vote_Happy": "3", "camera": "front", "Subject": "8"}
    manifest = workshop.read([make_row("a.png", **extra, **make_box(1, 2, 30, 40)), make_row("b.png")])
    assert manifest.unknown_columns == ("camera", "Subject")
    assert manifest.extras == {name: (value, "") for name, value in extra.items()}
    assert manifest.bboxes.tolist() == [[1, 2, 30, 40], [-1] * 4]
    assert manifest.has_bbox.tolist() == [True, False]


@pytest.mark.parametrize("label", ["Contempt", "happy", "Happy ", "3", ""])
def test_unknown_label(workshop: Workshop, label: str) -> None:
    message = refusal(workshop, HEADER, "a.png,Sad,val,s", f"b.png,{label},val,s")
    expected = "expected one of Angry, Disgust, Fear, Happy, Sad, Surprise, Neutral"
    meant = "; did you mean Happy?" if label.strip().lower() == "happy" else ""
    assert f"1 faulty row:\n  line 3: unknown label; {expected}{meant} (label={label!r})\n" in message


@pytest.mark.parametrize("split", ["dev", "Train", "train ", "valid", ""])
def test_unknown_split(workshop: Workshop, split: str) -> None:
    message = refusal(workshop, HEADER, f"a.png,Sad,{split},s")
    assert f"line 2: unknown split; expected one of train, val, test (split={split!r})" in message


def test_empty_source(workshop: Workshop) -> None:
    assert "line 2: empty source (source=' ')" in refusal(workshop, HEADER, "a.png,Sad,val, ")


@pytest.mark.parametrize("row", ["a.png,Sad,val", "a.png,Sad,val,s,more"])
def test_ragged_row(workshop: Workshop, row: str) -> None:
    message = refusal(workshop, HEADER, "x.png,Sad,val,s", row, "y.png,Dread,val,s")
    count = row.count(",") + 1
    assert f"2 faulty rows:\n  line 3: expected 4 fields (row='{count}')\n  line 4: unknown label" in message


def test_only_ragged_rows(workshop: Workshop) -> None:
    assert "2 faulty rows" in refusal(workshop, HEADER, "a.png", "b.png,Sad")
    with pytest.raises(FerError, match=r"no row is left of .*manifest.csv: all 2 are faulty"):
        read_text(workshop, HEADER, "a.png", "b.png,Sad", max_bad_rows=5)


@pytest.mark.parametrize(
    "path", ["../a.png", "a/../../b.png", "..\\a.png", "/elsewhere/a.png", "C:\\faces\\a.png", ".."]
)
def test_path_that_leaves_the_root(workshop: Workshop, path: str) -> None:
    message = refusal(workshop, HEADER, f"{path},Sad,val,s")
    assert f"line 2: path leaves the root {workshop.root}; set data.root (image_path={path!r})" in message


def test_empty_path(workshop: Workshop) -> None:
    assert "line 2: empty path (image_path='')" in refusal(workshop, HEADER, ",Sad,val,s")


def test_dots_that_stay_inside_are_fine(workshop: Workshop) -> None:
    manifest = read_text(workshop, HEADER, "a/../b.png,Sad,val,s", "..c/d.png,Sad,val,s", "...png,Sad,val,s")
    assert manifest.row_ids[0] == row_id("b.png", None)


def test_absolute_path_inside_the_root_is_made_relative(workshop: Workshop) -> None:
    manifest = read_text(workshop, HEADER, f"{workshop.root}/a/b.png,Sad,val,s")
    assert manifest.image_paths == ("a/b.png",)
    assert manifest.row_ids == (row_id("a/b.png", None),)
    neighbour = f"{workshop.root}2/a.png"
    assert "path leaves the root" in refusal(workshop, HEADER, f"{neighbour},Sad,val,s")


@pytest.mark.parametrize("root", [".", "faces/..", "faces/../.", ""])
def test_absolute_path_inside_a_root_spelt_another_way(workshop: Workshop, root: str) -> None:
    (workshop.root / "faces").mkdir()
    manifest = read_text(workshop, HEADER, f"{workshop.root}/a.png,Sad,val,s", root=Path(root))
    assert manifest.image_paths == ("a.png",)


def test_other_root(workshop: Workshop) -> None:
    workshop.draw("elsewhere/a.png")
    manifest = read_text(workshop, HEADER, "a.png,Sad,val,s", root=workshop.root / "elsewhere")
    assert missing_files(manifest, np.arange(1)) == []


def test_duplicate_row(workshop: Workshop) -> None:
    message = refusal(workshop, HEADER, "a/b.png,Sad,val,s", "x.png,Sad,val,s", "a//b.png,Fear,train,t")
    assert "1 faulty row:\n  line 4: duplicate of line 2 (same path and box) (image_path='a//b.png')" in message


def test_duplicate_by_other_spelling_of_accents(workshop: Workshop) -> None:
    name = unicodedata.normalize("NFD", "é.png")
    assert "duplicate of line 2" in refusal(workshop, HEADER, "é.png,Sad,val,s", f"{name},Sad,val,s")


def test_two_faces_of_one_photo_are_two_rows(workshop: Workshop) -> None:
    boxes = [make_box(0, 0, 5, 5), make_box(5, 5, 9, 9)]
    manifest = workshop.read([make_row("a.png", **box) for box in boxes])
    assert len(set(manifest.row_ids)) == 2
    assert "duplicate of line 2" in refusal_of(workshop, [make_row("a.png", **boxes[0])] * 2)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (make_box(1, 2, 30, ""), "a box needs four numbers (top,left,right,bottom)"),
        (make_box("", "", "", 4), "a box needs four numbers (top,left,right,bottom)"),
        (make_box("one", 2, 30, 40), "a box needs four numbers (top,left,right,bottom)"),
        (make_box(1.5, 2, 30, 40), "box corners are whole pixels"),
        (make_box("nan", 2, 30, 40), "box corners are whole pixels"),
        (make_box(1, 2, "inf", 40), "box corners are whole pixels"),
        (make_box(40, 2, 30, 1), "box is outside its image or has no area"),
        (make_box(1, 30, 2, 40), "box is outside its image or has no area"),
        (make_box(1, 2, 2, 40), "box is outside its image or has no area"),
        (make_box(1, 2, 30, 1), "box is outside its image or has no area"),
        (make_box(-1, 2, 30, 40), "box is outside its image or has no area"),
        (make_box(-1, -1, -1, -1), "box is outside its image or has no area"),
        (make_box(1, 2, "1e30", 40), "box is outside its image or has no area"),
    ],
)
def test_broken_box(workshop: Workshop, box: Row, reason: str) -> None:
    value = ",".join(box.values())
    assert f"line 3: {reason} (bbox={value!r})" in refusal_of(workshop, [make_row("a.png"), make_row("b.png", **box)])


def test_whole_numbers_written_as_floats_are_a_box(workshop: Workshop) -> None:
    plain, as_floats = make_box(1, 2, 30, 40), make_box("1.0", " 2", "3e1", "40.00")
    first, second = (workshop.read([make_row("a.png", **box)]) for box in (plain, as_floats))
    assert first.bboxes.tolist() == second.bboxes.tolist() == [[1, 2, 30, 40]]
    assert first.row_ids == second.row_ids


def test_box_columns_are_found_by_name(workshop: Workshop) -> None:
    columns = "bbox_bottom,bbox_right,bbox_left,bbox_top"
    manifest = read_text(workshop, f"{columns},{HEADER}", "40,30,2,1,a.png,Sad,val,s")
    assert manifest.bboxes.tolist() == [[1, 2, 30, 40]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image_path,label,split\na.png,Sad,val", "lacks the column source; it has image_path, label, split"),
        (b"path,emotion\n", "lacks the columns image_path, label, split, source; it has path, emotion"),
        (b"", "is empty"),
        (
            b"image_path;label;split;source\na.png;Sad;val;s",
            "separates its columns by ';'; a manifest is separated by commas",
        ),
        (HEADER.encode() + b",label\na.png,Sad,val,s,Sad", "names the column label twice"),
        (HEADER.encode() + b",bbox_top\na.png,Sad,val,s,1", "has bbox_top but a box needs bbox_top, bbox_left"),
        (HEADER.encode() + b"\n", "has a header but no rows"),
        (HEADER.encode() + b"\n\xe9.png,Sad,val,s", "is not a UTF-8 CSV file"),
        (HEADER.encode("utf-16"), "is not a UTF-8 CSV file"),
        (HEADER.encode() + b'\n"a.png,Sad,val,s', "is not a UTF-8 CSV file: unexpected end of data"),
    ],
)
def test_broken_file(workshop: Workshop, content: bytes, message: str) -> None:
    with pytest.raises(FerError, match=message):
        read_bytes(workshop, content)


def test_no_file(workshop: Workshop) -> None:
    with pytest.raises(FerError, match="no manifest at nowhere.csv"):
        read_manifest(Path("nowhere.csv"))
    workshop.write([make_row("a.png")])
    with pytest.raises(FerError, match=rf"{workshop.root} is a folder; name the manifest file, such as manifest.csv"):
        read_manifest(workshop.root)


def test_bad_rows_up_to_the_cap_are_left_out(workshop: Workshop) -> None:
    lines = (HEADER, "a.png,Sad,val,s", "b.png,Dread,val,s", "c.png,Sad", "../d.png,Sad,dev,s", "e.png,Fear,test,t")
    manifest = read_text(workshop, *lines, max_bad_rows=3)
    assert manifest.image_paths == ("a.png", "e.png")
    assert manifest.labels.tolist() == [4, 2]
    assert manifest.lines.tolist() == [2, 6]
    assert manifest.rows_left_out == 3
    with pytest.raises(FerError, match=r"3 faulty rows"):
        read_text(workshop, *lines, max_bad_rows=2)
    with Path(f"manifest_{manifest.sha256[:8]}.faults.csv").open(newline="", encoding="utf-8") as file:
        assert [(row["line"], row["kind"], row["column"]) for row in csv.DictReader(file)] == [
            ("3", "unknown_label", "label"),
            ("4", "wrong_field_count", "row"),
            ("5", "leaves_root", "image_path"),
            ("5", "unknown_split", "split"),
        ]


def test_inspection_collects_every_fault_and_stops_at_none(workshop: Workshop) -> None:
    lines = (
        HEADER + ",weight",
        "a.png,Sad,val,s,1",
        "b.png,Dread,val,s,-2",
        "c.png,Sad",
        "../d.png,Sad,dev,s,",
        "a.png,Sad,val,,",
    )
    workshop.manifest.write_text("\n".join(lines))
    inspection = inspect_manifest(workshop.manifest)
    assert sorted((fault.line, str(fault.kind), fault.related) for fault in inspection.faults) == [
        (3, "bad_number", ()),
        (3, "unknown_label", ()),
        (4, "wrong_field_count", ()),
        (5, "leaves_root", ()),
        (5, "unknown_split", ()),
        (6, "duplicate_row", (2,)),
        (6, "empty_source", ()),
    ]
    assert inspection.manifest.lines.tolist() == [2]
    assert inspection.every_row.lines.tolist() == [2, 3, 5, 6]
    assert inspection.every_row.labels.tolist() == [4, -1, 4, 4]


def test_inspection_of_faulty_rows_alone_and_of_none(workshop: Workshop) -> None:
    workshop.manifest.write_text(HEADER + "\na.png\n")
    inspection = inspect_manifest(workshop.manifest)
    assert (len(inspection.manifest), len(inspection.every_row), len(inspection.faults)) == (0, 0, 1)
    inspection = inspect_manifest(workshop.write([make_row("a.png")]))
    assert (len(inspection.manifest), inspection.faults) == (1, ())
    assert inspection.every_row is inspection.manifest


@pytest.mark.parametrize("column", ["confidence", "weight", "vote_Happy", "vote_Neutral"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "many", "1e999", "1_0", "-0.5"])
def test_numbers_that_are_none(workshop: Workshop, column: str, value: str) -> None:
    rows = [make_row("a.png", **{column: "0.5"}), make_row("b.png", **{column: value}), make_row("c.png")]
    if (column, value) == ("confidence", "-0.5"):
        assert len(workshop.read(rows)) == 3
    else:
        allowed = "not a finite number" + ("" if column == "confidence" else " of at least 0")
        assert f"line 3: {allowed} ({column}={value!r})" in refusal_of(workshop, rows)


@pytest.mark.parametrize("value", ["0", "3", "2.50", " 7 ", "1e-3"])
def test_numbers_are_kept_as_text(workshop: Workshop, value: str) -> None:
    assert workshop.read([make_row("a.png", weight=value)]).extras["weight"] == (value,)


@pytest.mark.parametrize("value", ["Happy", "Sad|Fear", "Angry|Disgust|Neutral"])
def test_negative_labels(workshop: Workshop, value: str) -> None:
    assert workshop.read([make_row("a.png", neg_label=value)]).extras["neg_label"] == (value,)


@pytest.mark.parametrize("value", ["happy", "Sad,Fear", "Sad|", "Sad | Fear", "3"])
def test_negative_labels_that_are_no_emotions(workshop: Workshop, value: str) -> None:
    message = refusal_of(workshop, [make_row("a.png", neg_label=value)])
    assert "line 2: not names among Angry, " in message
    assert f"(neg_label={value!r})" in message


CROPPED = [
    ("photo_1.png", "photo.png"),
    ("crops/photo.png", "other.png"),
    ("crops/photo_1.jpg", "photo"),
    ("photo.jpg", "photo.png"),
    ("photo.jpg.png", "photo.jpg"),
]
WHOLE = [
    ("photo.png", "photo.png"),
    ("photos/photo.png", "photo.png"),
    ("photo.png", "elsewhere/photo.png"),
    ("photo.png", "elsewhere\\photo.png"),
    ("photos/photo.png", "photo"),
    ("photos/1.5m.png", "1.5m"),
    ("photos/é.png", unicodedata.normalize("NFD", "é.png")),
    ("photo_1.png", ""),
]


@pytest.mark.parametrize(("path", "original"), CROPPED)
def test_a_crop_that_kept_the_box_of_its_photo(workshop: Workshop, path: str, original: str) -> None:
    row = make_row(path, orig_image=original, **make_box(10, 10, 60, 60))
    message = refusal_of(workshop, [row])
    assert f"line 2: a crop of {original} that still carries the box of its photo" in message
    boxless = {name: "" if name.startswith("bbox") else value for name, value in row.items()}
    assert len(workshop.read([boxless])) == 1


@pytest.mark.parametrize(("path", "original"), WHOLE)
def test_a_face_of_a_photo_has_its_box(workshop: Workshop, path: str, original: str) -> None:
    rows = [make_row(path, orig_image=original, **make_box(10 * face, 10, 60, 60 + face)) for face in range(2)]
    assert len(workshop.read(rows)) == 2


def test_one_long_value_does_not_cost_memory_in_every_row(workshop: Workshop) -> None:
    manifest = read_text(workshop, HEADER, "a.png,Sad,val,s", f"b.png,Sad,{'x' * 9000},s", max_bad_rows=1)
    assert manifest.splits.itemsize == 5 * 4  # "train" in UCS-4


def test_every_missing_file_is_found(workshop: Workshop) -> None:
    manifest = workshop.read(cycle_rows(4), draw=True)
    rows = np.arange(4)
    assert missing_files(manifest, rows) == []
    (workshop.root / manifest.image_paths[2]).unlink()
    (fault,) = missing_files(manifest, rows)
    where = f"no such file under {workshop.root}"
    assert str(fault) == f"line 4: {where} (image_path='pictures/train002.png')"
    assert missing_files(manifest, rows[:2]) == []
    elsewhere = replace(manifest, root=workshop.root / "nowhere")
    assert [fault.line for fault in missing_files(elsewhere, rows)] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("written", "on_disk", "hint"),
    [
        ("Image/aligned/a.png", "Image/aligned/aligned/a.png", "; it is in Image/aligned/aligned"),
        ("aligned/train/a.png", "aligned/aligned/train/a.png", "; it is in aligned/aligned/train"),
        ("aligned/aligned/a.png", "aligned/a.png", "; it is in aligned"),
        ("faces/é.png", unicodedata.normalize("NFD", "faces/é.png"), "; a file there has this name in another Unicode"),
        ("faces/a.PNG", "faces/a.png", "; a file there is called a.png"),
        ("faces/a.png", "faces/b.png", " (image_path="),
    ],
)
def test_where_a_missing_file_may_be(workshop: Workshop, written: str, on_disk: str, hint: str) -> None:
    workshop.draw(on_disk)
    (fault,) = missing_files(workshop.read([make_row(written)]), np.arange(1))
    assert f"no such file under {workshop.root}{hint}" in str(fault)


def test_folder_that_is_a_file_or_a_name_that_is_empty(workshop: Workshop) -> None:
    workshop.draw("a.png")
    manifest = read_text(workshop, HEADER, "a.png/b.png,Sad,val,s", "sub/,Sad,val,s", ".,Sad,val,s")
    assert [fault.line for fault in missing_files(manifest, np.arange(3))] == [2, 3, 4]


def test_take_keeps_columns_in_step(workshop: Workshop) -> None:
    rows = [
        make_row(f"{number}.png", label, subject=str(number)) for number, label in enumerate(("Sad", "Fear", "Happy"))
    ]
    manifest = workshop.read(rows)
    taken = manifest.take(np.array([2, 0]))
    assert taken.image_paths == ("2.png", "0.png")
    assert taken.labels.tolist() == [3, 4]
    assert taken.extras["subject"] == ("2", "0")
    assert taken.row_ids == (manifest.row_ids[2], manifest.row_ids[0])
    assert taken.lines.tolist() == [4, 2]


def test_fingerprint_is_of_rows_and_labels_in_any_order(workshop: Workshop) -> None:
    rows = cycle_rows(9)
    manifest = workshop.read(rows)
    everything = np.arange(9)
    expected = manifest.fingerprint(everything)
    shuffled = workshop.read([dict(reversed(row.items())) for row in rows[::-1]])
    assert shuffled.sha256 != manifest.sha256
    assert shuffled.fingerprint(everything) == expected
    assert manifest.fingerprint(everything[1:]) != expected
    assert workshop.read([{**rows[0], "label": "Neutral"}, *rows[1:]]).fingerprint(everything) != expected
    assert workshop.read([{**row, "split": "val", "source": "t"} for row in rows]).fingerprint(everything) == expected
