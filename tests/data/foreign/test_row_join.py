"""Rows of foreign scores find those of the manifest, or are refused by name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.data.foreign.row_join import join_rows
from fer_lightning.data.foreign.table import ForeignTable
from fer_lightning.data.selection import Selection, select_rows
from fer_lightning.errors import FerError
from tests.data.conftest import Workshop, cycle_rows, make_box, make_row


def table(keys: Sequence[str], *, join: str = "image_path", boxes: list[list[int]] | None = None) -> ForeignTable:
    return ForeignTable(
        path=Path("preds.csv"),
        sha256="ab" * 32,
        scores=np.zeros((len(keys), 7)),
        join=join,
        keys=tuple(keys),
        bboxes=None if boxes is None else np.asarray(boxes, dtype=np.int64).reshape(-1, 4),
        places=np.arange(len(keys)) + 2,
        unit="line",
        ignored=(),
    )


def rows_of(selection: Selection, split: str) -> list[str]:
    return [selection.manifest.image_paths[row] for row in selection.rows[split].tolist()]


@pytest.fixture
def selection(workshop: Workshop) -> Selection:
    """14 train, 9 val and 7 test rows; two of val are boxes of one photo."""
    boxes = [make_row("photo.png", split="val", **make_box(0, left, left + 10, 10)) for left in (0, 5)]
    rows = [*cycle_rows(14), *cycle_rows(7, split="val"), *boxes, *cycle_rows(7, split="test")]
    return select_rows(DataConfig(manifest=str(workshop.write(rows, draw=True))), SourceFilterConfig(), splits=("val",))


@pytest.fixture
def plain(workshop: Workshop) -> Selection:
    """The same without boxes."""
    rows = [*cycle_rows(14), *cycle_rows(7, split="val"), *cycle_rows(7, split="test")]
    return select_rows(DataConfig(manifest=str(workshop.write(rows, draw=True))), SourceFilterConfig(), splits=("val",))


def test_rows_in_any_order_are_found_by_id(selection: Selection) -> None:
    ids = [selection.manifest.row_ids[row] for row in selection.rows["val"].tolist()]
    order = np.random.default_rng(0).permutation(len(ids))
    joined = join_rows(table([ids[place].upper() for place in order], join="row_id"), selection, "val")
    assert order[joined.places].tolist() == list(range(9))
    assert joined.left_aside == {}


def test_paths_in_any_spelling_are_found(plain: Selection, workshop: Workshop) -> None:
    paths = [
        f".\\{rows_of(plain, 'val')[0]}".replace("/", "\\"),
        *(str(workshop.root / path) for path in rows_of(plain, "val")[1:]),
    ]
    joined = join_rows(table(paths[::-1]), plain, "val")
    assert joined.places.tolist() == list(range(6, -1, -1))


def test_paths_with_boxes_tell_the_faces_of_a_photo_apart(selection: Selection) -> None:
    paths, whole = rows_of(selection, "val"), [-1] * 4
    assert paths[-2:] == ["photo.png"] * 2
    boxes = [*[whole] * 7, [0, 5, 15, 10], [0, 0, 10, 10]]  # the two faces the other way round
    joined = join_rows(table(paths, boxes=boxes), selection, "val")
    assert joined.places.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 7]
    with pytest.raises(FerError, match=r"1 of 9 rows are unknown(.|\n)*line 9: no row of the manifest \(photo.png\)"):
        join_rows(table(paths, boxes=[*boxes[:7], [0, 6, 15, 10], boxes[8]]), selection, "val")


def test_a_path_of_several_boxes_does_not_tell_which(selection: Selection) -> None:
    paths = rows_of(selection, "val")
    with pytest.raises(
        FerError, match=r"2 paths of pictures with several boxes(.|\n)*line 9: names 2 rows(.|\n)*by row_id"
    ):
        join_rows(table(paths), selection, "val")


def test_rows_of_elsewhere_in_the_manifest_are_left_aside_and_counted(plain: Selection) -> None:
    paths = [*rows_of(plain, "test"), *rows_of(plain, "val"), *rows_of(plain, "train")[:3]]
    joined = join_rows(table(paths), plain, "val")
    assert joined.places.tolist() == list(range(7, 14))
    assert joined.left_aside == {"test": 7, "train": 3}


def test_rows_of_sources_that_take_no_part_are_left_aside(workshop: Workshop) -> None:
    rows = [*cycle_rows(7), *cycle_rows(7, split="val")]
    rows += [make_row(f"other{number}.png", split="val", source="web") for number in range(4)]
    manifest = str(workshop.write(rows, draw=True))
    kept = select_rows(DataConfig(manifest=manifest), SourceFilterConfig(exclude=["web"]), splits=("val",))
    paths = [*(f"other{number}.png" for number in range(4)), *rows_of(kept, "val")]
    assert join_rows(table(paths), kept, "val").left_aside == {"faulty, filtered or limited": 4}


def test_faulty_rows_that_are_allowed_are_left_aside(workshop: Workshop) -> None:
    rows = [
        *cycle_rows(7),
        *cycle_rows(7, split="val"),
        make_row("bad.png", "Joy", "val"),
        make_row("gone.png", split="val"),
    ]
    manifest = str(workshop.write(rows, draw=True))
    (workshop.root / "gone.png").unlink()
    kept = select_rows(DataConfig(manifest=manifest, max_bad_rows=2), SourceFilterConfig(), splits=("val",))
    paths = [*rows_of(kept, "val"), "bad.png", "gone.png"]
    assert len(paths) == 9
    assert join_rows(table(paths), kept, "val").left_aside == {"faulty, filtered or limited": 2}


def test_unknown_and_repeated_rows_are_refused_together(plain: Selection) -> None:
    paths = rows_of(plain, "val")
    with pytest.raises(FerError) as error:
        join_rows(table([*paths, "no.png", paths[2]]), plain, "val")
    assert str(error.value).splitlines()[:3] == [
        f"foreign.file: preds.csv: 2 of 9 rows are unknown to {plain.manifest.path}, or there twice:",
        "  line 9: no row of the manifest (no.png)",
        f"  line 10: the same row as line 4 ({paths[2]})",
    ]
    assert "look like 'pictures/train000.png', row ids like" in str(error.value)


def test_missing_rows_are_counted_and_listed(plain: Selection, workshop: Workshop) -> None:
    with pytest.raises(FerError) as error:
        join_rows(table(rows_of(plain, "val")[:1]), plain, "val")
    assert f"it lacks 6 of the 7 val rows of {plain.manifest.path}:\n  manifest line 17: not in the file" in str(
        error.value
    )
    listed = (workshop.root / "preds_abababab.rows.csv").read_text("utf-8").splitlines()
    assert len(listed) == 7


def test_position_needs_as_many_rows(plain: Selection) -> None:
    by_position = replace(table([""] * 7, join="position"), keys=())
    assert join_rows(by_position, plain, "val").places.tolist() == list(range(7))
    with pytest.raises(FerError, match="has 7 rows, and .* has 14 train rows: they cannot be joined by position"):
        join_rows(by_position, plain, "train")


def test_a_split_without_rows_is_refused(workshop: Workshop) -> None:
    manifest = str(workshop.write(cycle_rows(7, split="test"), draw=True))
    test_only = select_rows(DataConfig(manifest=manifest), SourceFilterConfig(), splits=("val",))
    with pytest.raises(FerError, match="has no val rows after source_filter=all"):
        join_rows(table(["a"]), test_only, "val")
