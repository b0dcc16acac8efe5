"""CK+: last frames carry the emotion, the first are neutral."""

from pathlib import Path

import pytest

from fer_lightning.data.sources.ckplus import read_ckplus
from fer_lightning.data.sources.config import SourceConfig, SourceKind
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError
from tests.data.sources.picture_tree import drops, plant_bytes, plant_pictures, plant_text

EMOTIONS_BY_CODE = ["Neutral", "Angry", None, "Disgust", "Fear", "Happy", "Sad", "Surprise"]


def plant(root: Path, subject: str, number: str, *, frames: int, text: str | None = None, suffix: str = "png") -> None:
    """Plant a sequence, and the emotion of its last frame."""
    name = f"{subject}_{number}_{{:08d}}"
    place = f"{subject}/{number}"
    plant_pictures(
        root, *(f"cohn-kanade-images/{place}/{name.format(frame)}.{suffix}" for frame in range(1, frames + 1))
    )
    if text is not None:
        plant_text(root / f"Emotion/{place}/{name.format(frames)}_emotion.txt", text)
    (root / f"Emotion/{place}").mkdir(parents=True, exist_ok=True)


def read(root: Path, peak_frames: int = 3, neutral_frames: int = 1) -> SourceReading:
    return read_ckplus(
        SourceConfig(kind=SourceKind.ckplus, path=str(root), peak_frames=peak_frames, neutral_frames=neutral_frames)
    )


def frames(reading: SourceReading) -> list[tuple[int, str]]:
    return [(int(row.path[-12:-4]), row.label) for row in reading.rows]


def test_first_and_last_frames_of_a_sequence(tmp_path: Path) -> None:
    plant(tmp_path, "S005", "001", frames=11, text="   3.0000000e+00\r\n")
    reading = read(tmp_path)
    assert frames(reading) == [(1, "Neutral"), (9, "Disgust"), (10, "Disgust"), (11, "Disgust")]
    row = reading.rows[-1]
    assert row.path == f"{tmp_path.as_posix()}/cohn-kanade-images/S005/001/S005_001_00000011.png"
    assert row.columns == {"subject": "S005", "sequence": "S005_001"}
    assert (row.split, row.bbox) == (None, None)
    assert reading.reasons() == {"between neutral and peak": 7}
    assert reading.dropped[0].item == "cohn-kanade-images/S005/001/S005_001_00000002.png"


@pytest.mark.parametrize(
    ("count", "peak", "neutral", "expected"),
    [
        (1, 3, 1, "P"),
        (2, 3, 1, "PP"),
        (4, 3, 1, "NPPP"),
        (4, 3, 2, "NPPP"),
        (5, 3, 2, "NNPPP"),
        (5, 2, 2, "NN-PP"),
        (5, 2, 0, "---PP"),
        (4, 9, 9, "PPPP"),
    ],
)
def test_neutral_and_peak_never_overlap(tmp_path: Path, count: int, peak: int, neutral: int, expected: str) -> None:
    plant(tmp_path, "S010", "002", frames=count, text="7")
    reading = read(tmp_path, peak, neutral)
    letters = dict.fromkeys(range(1, count + 1), "-")
    letters.update((frame, {"Neutral": "N", "Surprise": "P"}[label]) for frame, label in frames(reading))
    assert "".join(letters.values()) == expected
    assert reading.reasons().get("between neutral and peak", 0) == expected.count("-")


def test_codes(tmp_path: Path) -> None:
    for code in range(8):
        plant(tmp_path, f"S{code:03d}", "001", frames=2, text=f"{code}.0e+00")
    reading = read(tmp_path, 1, 1)
    found = {row.columns["subject"]: row.label for row in reading.rows if row.path.endswith("2.png")}
    assert found == {f"S{code:03d}": name for code, name in enumerate(EMOTIONS_BY_CODE) if name}
    assert drops(reading) == [("cohn-kanade-images/S002/001/S002_001_00000002.png", "contempt")]
    assert sum(row.columns["subject"] == "S002" for row in reading.rows) == 1  # its neutral frame


def test_what_is_not_labelled_is_accounted_for_by_sequence(tmp_path: Path) -> None:
    plant(tmp_path, "S005", "001", frames=3, text="5", suffix="jpg")
    plant(tmp_path, "S005", "002", frames=6)
    plant(tmp_path, "S006", "001", frames=4)
    plant_text(tmp_path / "Emotion/S006/001/S006_001_00000009_emotion.txt", "5")  # the copy of the frames stopped
    plant_text(tmp_path / "Emotion/S007/001/S007_001_00000009_emotion.txt", "5")
    base = "cohn-kanade-images/S005/001"
    plant_bytes(
        tmp_path, f"{base}/.DS_Store", f"{base}/S006_001_00000002.png", f"{base}/notes.txt", "Emotion/S005/001/x.txt"
    )
    plant_bytes(tmp_path, "cohn-kanade-images/stray.png", "Emotion/S005/001/._S005_001_00000003_emotion.txt")
    reading = read(tmp_path)
    assert frames(reading) == [(1, "Happy"), (2, "Happy"), (3, "Happy")]
    assert drops(reading) == [
        ("Emotion/S005/001/._S005_001_00000003_emotion.txt", "no emotion file"),
        ("Emotion/S005/001/x.txt", "no emotion file"),
        ("Emotion/S007/001/S007_001_00000009_emotion.txt", "no such file"),
        ("cohn-kanade-images/S005/001/.DS_Store", "no image file"),
        ("cohn-kanade-images/S005/001/S006_001_00000002.png", "no frame of its sequence"),
        ("cohn-kanade-images/S005/001/notes.txt", "no image file"),
        ("cohn-kanade-images/S005/002", "no emotion label"),
        ("cohn-kanade-images/S006/001", "labelled frame is missing"),
        ("cohn-kanade-images/stray.png", "no frame of its sequence"),
    ]
    assert {drop.detail for drop in reading.dropped if drop.reason == "no emotion label"} == {"6 frames"}


@pytest.mark.parametrize("text", ["", "happy", "8.0", "-1", "1.5", "nan", "inf", "3.0\n4.0"])
def test_emotion_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    plant(tmp_path, "S005", "001", frames=3, text=text)
    with pytest.raises(FerError, match=r"S005_001_00000003_emotion.txt:1 reads .*; expected one number of 0 to 7"):
        read(tmp_path)


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FerError, match="no folder .*cohn-kanade-images .*Emotion side by side"):
        read(tmp_path)
    plant(tmp_path, "S005", "001", frames=3)
    with pytest.raises(FerError, match="no emotion file in .*Emotion; expected files such as"):
        read(tmp_path)
    plant_text(tmp_path / "Emotion/S009/001/S009_001_00000003_emotion.txt", "3")
    with pytest.raises(FerError, match="has its frames in .*; left out: 1 no emotion label, 1 no such file"):
        read(tmp_path)
    plant(tmp_path, "S005", "001", frames=3, text="3")
    plant_text(tmp_path / "Emotion/S005/001/S005_001_00000002_emotion.txt", "3")
    with pytest.raises(FerError, match="holds 2 emotion files"):
        read(tmp_path)
    (tmp_path / "Emotion/S005/001/S005_001_00000002_emotion.txt").unlink()
    plant_bytes(tmp_path, "cohn-kanade-images/happy/a.png")
    with pytest.raises(FerError, match="happy is no subject folder such as S005"):
        read(tmp_path)
