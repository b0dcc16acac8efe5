"""FER+: what ten votes come to, and the join to pixels by row or by name."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_lightning.data.sources.config import LabelMode, SourceConfig, SourceKind
from fer_lightning.data.sources.ferplus import read_ferplus
from fer_lightning.data.sources.ferplus_votes import VOTE_NAMES, account_votes, label_votes, read_votes
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
EMOTION_OF = {
    "neutral": "Neutral",
    "happiness": "Happy",
    "surprise": "Surprise",
    "sadness": "Sad",
    "anger": "Angry",
    "disgust": "Disgust",
    "fear": "Fear",
}


def votes(**counts: int) -> tuple[int, ...]:
    assert set(counts) <= set(VOTE_NAMES)
    return tuple(counts.get(name, 0) for name in VOTE_NAMES)


# (usage, image name, votes): row 2 has no name, as NF rows do, and names are behind row numbers from there on.
LINES: list[tuple[str, str, tuple[int, ...]]] = [
    ("Training", "fer0000000.png", votes(neutral=4, sadness=1, anger=3, disgust=2)),
    ("Training", "fer0000001.png", votes(happiness=10)),
    ("Training", "", votes(NF=10)),
    ("Training", "fer0000002.png", votes(surprise=4, fear=4, unknown=2)),
    ("PublicTest", "fer0000003.png", votes(contempt=6, neutral=4)),
    ("PublicTest", "fer0000004.png", votes(unknown=5, sadness=3, neutral=2)),
    ("PrivateTest", "fer0000005.png", votes(fear=6, surprise=4)),
    ("PrivateTest", "fer0000006.png", votes(disgust=5, anger=4)),
]


def vote_text(lines: Sequence[tuple[str, str, tuple[int, ...]]]) -> str:
    return "\n".join([HEADER, *(f"{usage},{name},{','.join(map(str, ten))}" for usage, name, ten in lines), ""])


def pixels_of(row: int) -> list[int]:
    return [int(value) for value in np.random.default_rng(row).integers(0, 256, 48 * 48)]


def pixel_text(usages: Sequence[str]) -> str:
    """A fer2013.csv whose emotion codes say nothing about the votes."""
    lines = [f"0,{' '.join(map(str, pixels_of(row)))},{usage}" for row, usage in enumerate(usages)]
    return "\n".join(["emotion,pixels,Usage", *lines, ""])


def read(root: Path, labels: LabelMode = LabelMode.unique_maximum, votes: str | None = None) -> SourceReading:
    source = SourceConfig(kind=SourceKind.ferplus, path=str(root), labels=labels, votes=votes)
    return read_ferplus(source, images_dir=root / "pictures")


def plant(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Votes and pixels of the same eight rows."""
    (tmp_path / "fer2013new.csv").write_text(vote_text(LINES), encoding="utf-8")
    (tmp_path / "fer2013.csv").write_text(pixel_text([usage for usage, _, _ in LINES]), encoding="utf-8")
    return tmp_path


U, M, P = LabelMode.unique_maximum, LabelMode.majority, LabelMode.probability


@pytest.mark.parametrize(
    ("ten", "expected"),
    [
        (votes(neutral=4, anger=3, disgust=2, sadness=1), {U: "Neutral", M: "no majority", P: "Neutral"}),
        (votes(neutral=5, anger=5), {U: "tie", M: "tie", P: "Angry"}),  # Angry comes first in class order
        (
            votes(neutral=5, anger=3, fear=2),
            {U: "Neutral", M: "no majority", P: "Neutral"},
        ),  # half is not more than half
        (votes(neutral=6, anger=4), {U: "Neutral", M: "Neutral", P: "Neutral"}),
        (votes(fear=5, anger=4), {U: "Fear", M: "Fear", P: "Fear"}),  # nine votes in all
        (votes(NF=10), {U: "not a face", M: "not a face", P: "not a face"}),
        (votes(NF=4, sadness=3, fear=3), {U: "not a face", M: "not a face", P: "not a face"}),
        (votes(unknown=4, sadness=3, fear=3), {U: "unknown", M: "unknown", P: "unknown"}),
        (votes(contempt=6, neutral=4), {U: "contempt", M: "contempt", P: "contempt"}),
        (votes(contempt=5, disgust=5), {U: "tie", M: "tie", P: "Disgust"}),
        (votes(unknown=4, NF=4, happiness=2), {U: "tie", M: "tie", P: "Happy"}),
        (votes(unknown=5, contempt=5), {U: "tie", M: "tie", P: "no emotion"}),
        (votes(disgust=1), {U: "Disgust", M: "Disgust", P: "Disgust"}),
        (votes(), {U: "no votes", M: "no votes", P: "no votes"}),
    ],
)
@pytest.mark.parametrize("mode", list(LabelMode))
def test_what_ten_votes_come_to(ten: tuple[int, ...], expected: dict[LabelMode, str], mode: LabelMode) -> None:
    verdict = label_votes(ten, mode)
    assert (verdict.label or verdict.reason) == expected[mode]
    assert (verdict.label is None) == bool(verdict.reason)


def test_labels_agree_with_a_count_by_name() -> None:
    """10,000 random ballots against rules written over names and sorted counts."""
    random = np.random.default_rng(3)
    for ten in random.multinomial(10, random.dirichlet(np.full(10, 0.4), size=10_000)):
        by_name = dict(zip(VOTE_NAMES, ten.tolist(), strict=True))
        ranked = sorted(by_name.items(), key=lambda item: -item[1])
        tied = ranked[0][1] == ranked[1][1]
        first = EMOTION_OF.get(ranked[0][0])
        emotions = {EMOTION_OF[name]: count for name, count in by_name.items() if name in EMOTION_OF}
        largest = sorted(emotions, key=lambda name: (-emotions[name], EMOTIONS.index(name)))[0]
        assert label_votes(ten.tolist(), U).label == (None if tied else first)
        assert label_votes(ten.tolist(), M).label == (first if ranked[0][1] > 5 else None)
        dropped = (not tied and first is None) or not any(emotions.values())
        assert label_votes(ten.tolist(), P).label == (None if dropped else largest)


def test_every_line_is_a_row_or_accounted_for(root: Path) -> None:
    reading = read(root)
    assert [(row.label, row.split, row.columns["fer2013_row"]) for row in reading.rows] == [
        ("Neutral", "train", "0"),
        ("Happy", "train", "1"),
        ("Fear", "test", "6"),
        ("Disgust", "test", "7"),
    ]
    assert [(drop.item, drop.reason) for drop in reading.dropped] == [
        ("fer2013new.csv:4", "not a face"),
        ("fer2013new.csv:5", "tie"),
        ("fer2013new.csv:6", "contempt"),
        ("fer2013new.csv:7", "unknown"),
    ]
    assert reading.dropped[1].detail == (
        "neutral=0 happiness=0 surprise=4 sadness=0 anger=0 disgust=0 fear=4 contempt=0 unknown=2 NF=0"
    )
    assert "by row order" in reading.notes[0]


@pytest.mark.parametrize(("mode", "num_rows"), [(U, 4), (M, 3), (P, 5)])
def test_modes(root: Path, mode: LabelMode, num_rows: int) -> None:
    reading = read(root, mode)
    assert len(reading.rows) == num_rows
    assert len(reading.rows) + len(reading.dropped) == len(LINES)
    assert read(root, mode) == reading


def test_votes_survive_as_columns(root: Path) -> None:
    assert read(root).rows[0].columns == {
        "fer2013_row": "0",
        "vote_Angry": "3",
        "vote_Disgust": "2",
        "vote_Fear": "0",
        "vote_Happy": "0",
        "vote_Sad": "1",
        "vote_Surprise": "0",
        "vote_Neutral": "4",
        "votes_contempt": "0",
        "votes_unknown": "0",
        "votes_not_a_face": "0",
    }


def test_pixels_belong_to_the_row_and_not_to_the_image_name(root: Path) -> None:
    rows = {row.columns["fer2013_row"]: row for row in read(root).rows}
    for number in (0, 1, 6, 7):
        row = rows[str(number)]
        assert row.path.endswith(f"fer{number:07d}.png")
        image = cv2.imread(row.path, cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert image.ravel().tolist() == pixels_of(number)


def test_unreadable_pixels_cost_one_row(root: Path) -> None:
    path = root / "fer2013.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[2] = "0,1 2 3,Training"
    path.write_text("\n".join(lines), encoding="utf-8")
    reading = read(root)
    assert len(reading.rows) == 3
    bad = [drop for drop in reading.dropped if drop.reason == "unreadable pixels"]
    assert [(drop.item, drop.detail[:46]) for drop in bad] == [
        ("fer2013new.csv:3", "fer2013.csv:3: 3 numbers instead of 2304; neut")
    ]


@pytest.mark.parametrize(
    ("usages", "message"),
    [
        (
            ["Training"] * 3 + ["PublicTest"] * 3 + ["PrivateTest"] * 2,
            r"fer2013new.csv:5 is 'Training' but .*fer2013.csv:5 is 'PublicTest' \(row 3\)",
        ),
        (["Training"] * 4 + ["PublicTest"] * 2 + ["PrivateTest"], "has 8 rows but .*fer2013.csv has 7"),
        (["Training"] * 4 + ["PublicTest"] * 2 + ["PrivateTest"] * 3, "has 8 rows but .*fer2013.csv has 9"),
    ],
)
def test_votes_are_never_joined_to_other_rows(root: Path, usages: list[str], message: str) -> None:
    (root / "fer2013.csv").write_text(pixel_text(usages), encoding="utf-8")
    with pytest.raises(FerError, match=message):
        read(root)
    assert not (root / "pictures").exists()


def test_votes_elsewhere_with_bom_and_crlf(root: Path, tmp_path: Path) -> None:
    plain = read(root).rows
    (root / "fer2013new.csv").unlink()
    elsewhere = tmp_path / "elsewhere.csv"
    elsewhere.write_bytes(("\ufeff" + vote_text(LINES).replace("\n", "\r\n") + "\r\n").encode())
    reading = read(root, votes=str(elsewhere))
    assert reading.rows == plain
    assert reading.dropped[0].item == "elsewhere.csv:4"


FOLDER = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}


@pytest.mark.parametrize("base", ["", "data/", "images/", "pictures/"])
def test_folders_of_the_authors_are_joined_by_name(root: Path, base: str) -> None:
    (root / "fer2013.csv").unlink()
    plant(root, *(f"{base}{FOLDER[usage]}/{name}" for usage, name, _ in LINES if name))
    (root / f"{base}FER2013Test/fer0000006.png").unlink()
    reading = read(root)
    prefix = f"{root.as_posix()}/{base}"
    assert [(row.columns["fer2013_row"], row.path.removeprefix(prefix)) for row in reading.rows] == [
        ("0", "FER2013Train/fer0000000.png"),
        ("1", "FER2013Train/fer0000001.png"),
        ("6", "FER2013Test/fer0000005.png"),  # the name is one behind the row
    ]
    missing = reading.dropped[-1]
    assert (missing.item, missing.reason) == ("fer2013new.csv:9", "no such file")
    assert missing.detail.startswith("FER2013Test/fer0000006.png; neutral=0 happiness=0")
    assert len(reading.rows) + len(reading.dropped) == len(LINES)
    assert "Image name" in reading.notes[0]


def test_one_name_for_two_rows(root: Path) -> None:
    """Rows with equal votes are copies and one stands for both; with different votes nobody knows whose picture it is."""
    (root / "fer2013.csv").unlink()
    lines = [
        ("Training", "a.png", votes(happiness=10)),
        ("Training", "a.png", votes(happiness=10)),
        ("Training", "b.png", votes(fear=10)),
        ("Training", "b.png", votes(NF=10)),
        ("PublicTest", "b.png", votes(sadness=10)),  # another folder: another picture
        ("Training", "", votes(sadness=10)),
    ]
    (root / "fer2013new.csv").write_text(vote_text(lines), encoding="utf-8")
    plant(root, "FER2013Train/a.png", "FER2013Train/b.png", "FER2013Valid/b.png")
    reading = read(root)
    assert [(row.label, row.columns["fer2013_row"]) for row in reading.rows] == [("Happy", "0"), ("Sad", "4")]
    assert [(drop.item, drop.reason) for drop in reading.dropped] == [
        ("fer2013new.csv:3", "image name given twice"),
        ("fer2013new.csv:4", "image name given twice"),
        ("fer2013new.csv:5", "not a face"),
        ("fer2013new.csv:7", "no image name"),
    ]


def test_pictures_extracted_earlier_do_without_the_pixel_csv(root: Path) -> None:
    before = read(root)
    (root / "fer2013.csv").unlink()
    after = read(root)
    assert (after.rows, after.dropped) == (before.rows, before.dropped)
    assert "extracted earlier" in after.notes[0]
    (root / "pictures/train/fer0000002.png").unlink()  # not even a labelled row: the naming is in doubt
    with pytest.raises(FerError, match="fer0000002.png is absent .* put fer2013.csv back"):
        read(root)


def test_votes_alone_are_refused(root: Path) -> None:
    (root / "fer2013.csv").unlink()
    message = (
        "holds votes only, .* put fer2013.csv or icml_face_data.csv.* its \\d+ lines would be \\d+ rows; no rows: .*tie"
    )
    with pytest.raises(FerError, match=message):
        read(root)


def test_folders_with_none_of_the_pictures_are_refused(root: Path) -> None:
    (root / "fer2013.csv").unlink()
    plant(root, "FER2013Train/label.csv")
    with pytest.raises(
        FerError, match="none of the pictures that .*fer2013new.csv names is in FER2013Train, FER2013Valid"
    ):
        read(root)


def test_unknown_usage_is_accounted_for(root: Path) -> None:
    lines = [("Holdout", "x.png", votes(fear=10)), *LINES]
    (root / "fer2013new.csv").write_text(vote_text(lines), encoding="utf-8")
    (root / "fer2013.csv").write_text(pixel_text([usage for usage, _, _ in lines]), encoding="utf-8")
    reading = read(root)
    assert reading.dropped[0].reason == "unknown usage"
    assert reading.dropped[0].detail.startswith("'Holdout'; neutral=0")
    assert len(reading.rows) + len(reading.dropped) == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"has the columns \(none\); expected Usage,Image name,neutral"),
        (HEADER.replace("NF", "nothing") + "\n", "has the columns .*nothing; expected"),
        (HEADER.replace("neutral,happiness", "happiness,neutral") + "\n", "has the columns .*; expected"),
        (HEADER + "\n", "has a header but no votes"),
        (HEADER + "\nTraining,a.png,1,2\n", "new.csv:2 reads 'Training,a.png,1,2'; expected"),
        (HEADER + "\nTraining,a.png,1,2,3,4,5,6,7,8,9,-1\n", "new.csv:2 reads"),
        (HEADER + "\nTraining,a.png,1,2,3,4,5,6,7,8,9,\n", "new.csv:2 reads"),
    ],
)
def test_other_vote_files_are_refused(root: Path, text: str, message: str) -> None:
    (root / "fer2013new.csv").write_text(text, encoding="utf-8")
    with pytest.raises(FerError, match=message):
        read(root)


def test_no_votes(root: Path) -> None:
    (root / "fer2013new.csv").unlink()
    with pytest.raises(FerError, match="no fer2013new.csv at .*; give votes=<file>"):
        read(root)
    with pytest.raises(FerError, match="cannot read .*absent.csv: No such file"):
        read(root, votes=str(root / "absent.csv"))


def test_account_is_in_line_order(root: Path) -> None:
    lines = read_votes(root / "fer2013new.csv")
    assert [line.line for line in lines] == list(range(2, 10))
    shown = [verdict.label or verdict.reason for verdict in account_votes(lines, P)]
    assert shown == ["Neutral", "Happy", "not a face", "Fear", "contempt", "unknown", "Fear", "Disgust"]
