"""Foreign scores from CSV files: columns found by name, and every file refused that leaves a doubt."""

from pathlib import Path

import numpy as np
import pytest

from fer_lightning.data.foreign.csv_file import read_csv
from fer_lightning.data.foreign.read_file import read_foreign_scores
from fer_lightning.data.foreign.table import ForeignTable
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS

PLAIN = "Angry,Disgust,Fear,Happy,Sad,Surprise,Neutral"
NUMBERS = "1,2,3,4,5,6,7"


def read(folder: Path, text: str, *, values: str = "logits", join: str = "image_path") -> ForeignTable:
    path = folder / "preds.csv"
    path.write_text(text, encoding="utf-8")
    return read_csv(path, values=values, join=join)


def refusal(folder: Path, text: str, **options: str) -> str:
    with pytest.raises(FerError) as error:
        read(folder, text, **options)
    return str(error.value)


def test_columns_are_found_by_name_in_any_order_and_case(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "note,SAD,neutral,image_path,Happy,angry,Surprise,fear,Disgust\nx,5,7,a.png,4,1,6,3,2\n\ny,50,70,b.png,40,10,60,30,20\n",
    )
    np.testing.assert_array_equal(table.scores, [[1, 2, 3, 4, 5, 6, 7], [10, 20, 30, 40, 50, 60, 70]])
    assert (table.keys, table.places.tolist(), table.unit) == (("a.png", "b.png"), [2, 4], "line")
    assert (table.ignored, table.bboxes) == (("note",), None)


@pytest.mark.parametrize(("values", "prefix"), [("logits", "logit_"), ("probs", "prob_"), ("log_probs", "Log_Prob_")])
def test_of_several_kinds_the_one_asked_for_is_read(tmp_path: Path, values: str, prefix: str) -> None:
    kinds = ("logit_", "prob_", "log_prob_")
    header = ",".join(f"{kind}{name}" for kind in kinds for name in reversed(EMOTIONS))
    header = header.replace(prefix.lower() + "S", prefix + "S") if values == "log_probs" else header
    row = ",".join(str(100 * number + column) for number, _ in enumerate(kinds) for column in range(7))
    table = read(tmp_path, f"image_path,{header}\na.png,{row}\n", values=values)
    start = 100 * kinds.index(prefix.lower())
    np.testing.assert_array_equal(table.scores, [[start + column for column in range(6, -1, -1)]])


def test_boxes_beside_paths(tmp_path: Path) -> None:
    text = f"image_path,bbox_left,bbox_top,bbox_right,bbox_bottom,{PLAIN}\na.png,1,2,30,40,{NUMBERS}\nb.png,,,,,{NUMBERS}\n"
    table = read(tmp_path, text)
    assert table.bboxes is not None
    assert table.bboxes.tolist() == [
        [2, 1, 30, 40],
        [-1, -1, -1, -1],
    ]  # top, left, right, bottom
    assert read(tmp_path, text.replace("image_path", "row_id"), join="row_id").bboxes is None
    assert "1 boxes that are none:\n  line 2: box is outside" in refusal(tmp_path, text.replace("30,40", "1,40"))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("image_path,Angry,Disgust,Fear,Happy,Sad,Surprise", "lacks the class Neutral; it has image_path, Angry"),
        ("image_path,Angry,Disgust,Happy,Sad,Neutral", "lacks the classes Fear, Surprise"),
        (f"image_path,{PLAIN},angry", "names Angry twice: 'Angry' and 'angry'"),
        (f"image_path,{PLAIN},Angry", "names the column Angry twice"),
        (f"image_path,{PLAIN},Contempt", "a column 'Contempt' of a class that is none of Angry"),
        (f"image_path,{PLAIN.replace('Fear', 'Fearful')}", "'Fearful', which is no name of a class; rename it Fear"),
        (f"image_path,{PLAIN},logit_contempt", "a column 'logit_contempt' of a class that is none of"),
        (f"image_path,{PLAIN},prob_max", "a column 'prob_max' of a class that is none of"),
        (f"image_path,{PLAIN},logit_Angry", "names classes both with and without logit_"),
        (f"image_path,prob_{PLAIN.replace(',', ',prob_')}", "set foreign.values=probs"),
        ("image_path,a,b", "has no column of a class; expected Angry"),
        (PLAIN, "has no column image_path that its rows could be joined by; it has Angry"),
        (f"row_id,{PLAIN}", "it has row_id: foreign.join=row_id"),
        (f"image_path,bbox_top,{PLAIN}", "has bbox_top, but a box needs"),
        ("image_path;Angry;Disgust", "separates its columns by ';'"),
        ("", "is empty"),
        (f"image_path,{PLAIN}", "has a header but no rows"),
        ('"image_path', "is not a UTF-8 CSV file"),
    ],
)
def test_a_header_that_leaves_a_doubt_is_refused(tmp_path: Path, header: str, said: str) -> None:
    message = refusal(tmp_path, f"{header}\n")
    assert message.startswith(f"foreign.file: {tmp_path / 'preds.csv'}")
    assert said in message


def test_named_rows_are_not_joined_by_position(tmp_path: Path) -> None:
    text = f"image_path,{PLAIN}\na.png,{NUMBERS}\n"
    assert "foreign.join=image_path" in refusal(tmp_path, text, join="position")
    table = read(tmp_path, text.replace("image_path", "picture"), join="position")
    assert (table.keys, table.ignored) == ((), ("picture",))


def test_entries_that_are_no_numbers_are_counted_and_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bad = [
        "a,1,2,3,4,5,6",
        "a,1,2,3,x,5,6,7",
        "a,1,2,3,4,5,6,",
        "a,1_0,2,3,4,5,6,7",
        "a,0x1,2,3,4,5,6,7",
        "a,1,2,3,4,5,6,7,8",
    ]
    message = refusal(tmp_path, f"image_path,{PLAIN}\n" + "".join(f"{line}\n" for line in bad))
    assert "6 entries cannot be read:\n" in message
    for line in (
        "line 2: the header has 8 (7 fields)",
        "line 3: no number (Happy='x')",
        "line 4: no number (Neutral='')",
    ):
        assert line in message
    report = next(tmp_path.glob("preds_*.rows.csv"))
    assert report.name in message
    listed = report.read_text("utf-8").splitlines()
    assert listed[0] == "place,row,reason"
    assert len(listed) == 7
    assert "line 5,Angry='1_0',no number" in listed


def test_few_problems_leave_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refusal(tmp_path, f"image_path,{PLAIN}\na,b,2,3,4,5,6,7\n")
    assert list(tmp_path.glob("*.rows.csv")) == []


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "preds.csv"
    path.write_bytes(f"\ufeffimage_path,{PLAIN}\r\na.png,{NUMBERS}\r\n".encode())
    assert read_csv(path, values="logits", join="image_path").keys == ("a.png",)
    path.write_bytes(b"image_path\xff")
    with pytest.raises(FerError, match="UTF-8"):
        read_csv(path, values="logits", join="image_path")


def test_more_rows_than_are_held_at_a_time(tmp_path: Path) -> None:
    lines = "".join(f"{number}.png,{number},2,3,4,5,6,7\n" for number in range(2500))
    table = read(tmp_path, f"image_path,{PLAIN}\n{lines}")
    assert table.scores.shape == (2500, 7)
    assert table.scores[:, 0].tolist() == list(range(2500))
    assert table.places.tolist() == list(range(2, 2502))


@pytest.mark.parametrize(
    ("name", "class_order", "said"),
    [
        ("none.csv", [], "no file"),
        ("preds.txt", [], "must be a .csv, .npy or .npz file"),
        ("preds.csv", EMOTIONS, "foreign.class_order has no effect"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, class_order: list[str], said: str) -> None:
    if name != "none.csv":
        (tmp_path / name).touch()
    with pytest.raises(FerError, match=said):
        read_foreign_scores(tmp_path / name, values="logits", join="image_path", class_order=class_order)
