"""RAF-ML: the largest share of a distribution."""

from pathlib import Path

import pytest

from fer_lightning.data.sources.config import Pictures, SourceConfig, SourceKind
from fer_lightning.data.sources.rafml import read_rafml
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError
from tests.data.sources.raf_tree import plant_boxes, plant_raf, write

LIST = "distribution.txt"
ORDER = ["Surprise", "Fear", "Disgust", "Happy", "Sad", "Angry", "Neutral"]


def read(path: Path, pictures: Pictures = Pictures.aligned) -> SourceReading:
    return read_rafml(SourceConfig(kind=SourceKind.rafml, path=str(path), pictures=pictures))


def lines_of(num_shares: int) -> list[str]:
    """One picture per emotion, whose share is .4."""
    rows = [["0.4" if at == winner else "0.1" for at in range(num_shares)] for winner in range(num_shares)]
    return [f"{number:04d}.jpg {' '.join(row)}" for number, row in enumerate(rows, start=1)]


@pytest.mark.parametrize("num_shares", [6, 7])
def test_largest_share(tmp_path: Path, num_shares: int) -> None:
    plant_raf(tmp_path, lines_of(num_shares), list_name=LIST)
    reading = read(tmp_path)
    assert [row.label for row in reading.rows] == ORDER[:num_shares]
    assert {row.split for row in reading.rows} == {"test"}
    assert reading.rows[0].path == f"{tmp_path.as_posix()}/Image/aligned/0001_aligned.jpg"
    assert not reading.dropped


def test_shares_are_kept_as_written(tmp_path: Path) -> None:
    plant_raf(tmp_path, ["0001.jpg 0.100 1e-1 .05 0 0.75\t0"], list_name=LIST)
    assert read(tmp_path).rows[0].columns == {
        "share_Surprise": "0.100",
        "share_Fear": "1e-1",
        "share_Disgust": ".05",
        "share_Happy": "0",
        "share_Sad": "0.75",
        "share_Angry": "0",
    }


@pytest.mark.parametrize(("folder", "suffix"), [("Image/aligned/aligned", "_aligned"), ("Image/aligned", "")])
def test_other_places_of_the_pictures(tmp_path: Path, folder: str, suffix: str) -> None:
    plant_raf(tmp_path / "RAF-ML", lines_of(6), list_name=LIST, folder=folder, suffix=suffix)
    assert read(tmp_path).rows[0].path == f"{tmp_path.as_posix()}/RAF-ML/{folder}/0001{suffix}.jpg"


def test_ties_and_missing_pictures_are_accounted_for(tmp_path: Path) -> None:
    ties = ["0007.jpg 0.40 0.4 0.2 0 0 0", "0008.jpg 0 0 0 0 0 0", "0009.jpg 0.3 0.3 0.4 0 0 0"]
    plant_raf(tmp_path, [*lines_of(6), *ties], list_name=LIST)
    (tmp_path / "Image/aligned/0003_aligned.jpg").unlink()
    reading = read(tmp_path)
    assert [Path(row.path).name[:4] for row in reading.rows] == ["0001", "0002", "0004", "0005", "0006", "0009"]
    assert [(drop.item, drop.reason, drop.detail) for drop in reading.dropped] == [
        ("distribution.txt:3", "no such file", "0003_aligned.jpg"),
        ("distribution.txt:7", "tie", "0007.jpg 0.40 0.4 0.2 0 0 0"),
        ("distribution.txt:8", "tie", "0008.jpg 0 0 0 0 0 0"),
    ]


def test_boxes(tmp_path: Path) -> None:
    plant_raf(tmp_path, lines_of(6)[:1], list_name=LIST, folder="Image/original", suffix="")
    plant_boxes(tmp_path, {"0001": "1 2 30 40"})
    (row,) = read(tmp_path, Pictures.boxes).rows
    assert (row.path, row.bbox) == (f"{tmp_path.as_posix()}/Image/original/0001.jpg", (2, 1, 30, 40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0001.jpg 1 0 0 0 0\n", r"distribution.txt:1 reads '0001.jpg 1 0 0 0 0'; expected lines such as"),
        ("0001.jpg 1 0 0 0 0 0\n0002.jpg 1 0 0 0 0 0 0\n", r"distribution.txt:2 reads"),
        ("0001.jpg 1 0 0 x 0 0\n", r"distribution.txt:1 has the share 'x'; expected"),
        ("0001.jpg 1 0 0 -0.1 0 0\n", r"distribution.txt:1 has the share '-0.1'"),
        ("0001.jpg 1 0 0 nan 0 0\n", r"distribution.txt:1 has the share 'nan'"),
        ("0001.jpg 1 0 0 inf 0 0\n", r"distribution.txt:1 has the share 'inf'"),
    ],
)
def test_other_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    write(plant_raf(tmp_path, lines_of(6), list_name=LIST) / "EmoLabel" / LIST, text)
    with pytest.raises(FerError, match=message):
        read(tmp_path)
