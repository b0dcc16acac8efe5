"""What cleaning takes out, from hand-made facts."""

from pathlib import Path

import numpy as np
import pytest

from fer_lightning.data.building.cleaning import SharedPictures, remove_copies, remove_near_copies, remove_unusable
from fer_lightning.data.building.compose import compose
from fer_lightning.data.building.composition import Composition
from fer_lightning.data.copies.near_duplicates import NearPairs
from fer_lightning.data.pictures.image_facts import FileStatus, ImageFacts
from fer_lightning.data.sources.rows import SourceReading, SourceRow
from fer_lightning.errors import FerError


def rows_of(*rows: tuple[str, str, str | None] | tuple[str, str, str | None, str], box: bool = False) -> Composition:
    """Rows of (source, name, split[, label])."""
    readings: dict[str, SourceReading] = {}
    for source, name, split, *label in rows:
        bbox = (0, 0, 12, 40) if box else None
        row = SourceRow(path=f"{name}.png", label=label[0] if label else "Happy", split=split, bbox=bbox)
        readings.setdefault(source, SourceReading()).rows.append(row)
    return compose(readings, path=Path("m.csv"), root=Path(), as_splits={})


def facts_of(composition: Composition, contents: dict[str, int] | None = None, **status: FileStatus) -> ImageFacts:
    """Facts of 48-pixel pictures: contents by name, a number of their own where none is given."""
    names = [path.removesuffix(".png") for path in composition.manifest.image_paths]
    count = len(names)
    own = np.asarray([[(contents or {}).get(name, 1000 + row), 0] for row, name in enumerate(names)], dtype=np.uint64)
    return ImageFacts(
        rows=np.arange(count),
        status=np.asarray([status.get(name, FileStatus.ok) for name in names], dtype=np.uint8),
        heights=np.full(count, 48, dtype=np.int32),
        widths=np.full(count, 48, dtype=np.int32),
        contents=own,
        hashes=np.zeros(count, dtype=np.uint64),
        mirrored_hashes=np.zeros(count, dtype=np.uint64),
        thumbnails=np.zeros((count, 32, 32), dtype=np.uint8),
    )


def pairs(composition: Composition, *names: tuple[str, str]) -> NearPairs:
    place = {path.removesuffix(".png"): row for row, path in enumerate(composition.manifest.image_paths)}
    both = np.asarray([[place[one], place[other]] for one, other in names])
    count = len(names)
    return NearPairs(both[:, 0], both[:, 1], np.ones(count, np.int64), np.full(count, 0.99), np.zeros(count, np.bool_))


def drops(composition: Composition) -> dict[str, str]:
    return {drop.item: drop.reason for drop in composition.removed}


def test_every_status_has_its_reason() -> None:
    names = [status.name for status in FileStatus]
    composition = rows_of(*(("a", name, "train") for name in names))
    remove_unusable(
        composition, facts_of(composition, None, **{status.name: status for status in FileStatus}), min_side=16
    )
    assert drops(composition) == {
        "missing.png": "no such file",
        "empty.png": "empty file",
        "unreadable.png": "not a readable picture",
        "truncated.png": "truncated picture",
        "box_outside.png": "box outside its picture",
    }
    assert composition.finished().image_paths == ("ok.png",)


def test_size_is_that_of_the_box() -> None:
    whole, boxed = rows_of(("a", "p", "train")), rows_of(("a", "p", "train"), box=True)
    remove_unusable(whole, facts_of(whole), min_side=48)
    remove_unusable(boxed, facts_of(boxed), min_side=12)
    assert whole.removed == boxed.removed == []
    with pytest.raises(FerError, match=r"a: none of its 1 pictures .* smaller than 13 pixels 40 x 12 pixels"):
        remove_unusable(boxed, facts_of(boxed), min_side=13)


@pytest.mark.parametrize(
    ("splits", "stays"),
    [
        (("train", "test"), "q"),
        (("train", "val"), "q"),
        (("test", "val"), "p"),
        ((None, "train"), "q"),
        (("val", "val"), "p"),
    ],
)
def test_the_more_protected_split_stays_then_the_earlier_source(
    splits: tuple[str | None, str | None], stays: str
) -> None:
    composition = rows_of(("z", "p", splits[0]), ("a", "q", splits[1]))
    shared = remove_copies(composition, facts_of(composition, {"p": 1, "q": 1}))
    assert composition.finished().image_paths == (f"{stays}.png",)
    assert list(drops(composition).values()) == [f"same picture as a row of {'a' if stays == 'q' else 'z'}"]
    assert shared == [SharedPictures("a", "z", 1)]


def test_a_source_that_contradicts_itself_loses_all_and_the_other_keeps_its_row() -> None:
    composition = rows_of(
        ("a", "p", "test", "Sad"), ("a", "q", "train", "Fear"), ("b", "r", "train"), ("b", "s", "train")
    )
    remove_copies(composition, facts_of(composition, {"p": 1, "q": 1, "r": 1}))
    assert drops(composition) == {"p.png": "labels disagree", "q.png": "labels disagree"}
    assert composition.removed[0].detail == "Fear and Sad: same as q.png, r.png"


def test_unreadable_pictures_are_no_copies_of_each_other() -> None:
    composition = rows_of(("a", "p", "train"), ("a", "q", "train"))
    remove_copies(composition, facts_of(composition, {"p": 0, "q": 0}, p=FileStatus.missing, q=FileStatus.missing))
    assert composition.removed == []


def test_near_copies_go_from_the_less_protected_side() -> None:
    composition = rows_of(*(("a", f"{split}{n}", split) for split in ("test", "val", "train") for n in range(3)))
    near = pairs(
        composition,
        ("test0", "val0"),
        ("train0", "test0"),
        ("val0", "train1"),  # val0 has gone, so train1 may stay
        ("train2", "val1"),
        ("test1", "test2"),
    )
    remove_near_copies(composition, near, official=composition.manifest.splits != "")
    assert drops(composition) == {
        "val0.png": "near copy of a test row",
        "train0.png": "near copy of a test row",
        "train2.png": "near copy of a val row",
    }
    assert composition.removed[0].detail.startswith("a test0.png (similarity 0.990")


def test_a_row_placed_here_goes_before_one_that_its_data_set_placed() -> None:
    composition = rows_of(("a", "official", "train"), ("b", "placed", "test"))
    near = pairs(composition, ("official", "placed"))
    remove_near_copies(composition, near, official=np.array([True, False]))
    assert drops(composition) == {"placed.png": "near copy of a train row"}


def test_rows_without_a_split_are_nobodys_near_copy_yet() -> None:
    composition = rows_of(("a", "p", None), ("b", "q", "test"))
    remove_near_copies(composition, pairs(composition, ("p", "q")), official=composition.manifest.splits != "")
    assert composition.removed == []
