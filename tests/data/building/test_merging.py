"""Joining manifests: which rows are taken, and what becomes of the others."""

from pathlib import Path

import pytest

from fer_lightning.data.building.compose import RootedPaths
from fer_lightning.data.building.composition import Composition
from fer_lightning.data.building.merging import RowChoice, join_manifests
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError
from tests.data.conftest import Workshop, make_box, make_row


def joined(manifests: list[Manifest], **choice: object) -> Composition:
    return join_manifests(
        manifests,
        RowChoice(**choice),  # type: ignore[arg-type]
        rooted=RootedPaths(Path()),
        path=Path("m.csv"),
    )


def account(composition: Composition) -> list[tuple[str, str, str]]:
    return [(drop.item, drop.reason, drop.detail) for drop in composition.removed]


def test_rows_are_rebased_joined_and_sorted(workshop: Workshop) -> None:
    one = Workshop(workshop.root / "one")
    two = Workshop(workshop.root / "one" / "two")
    two.root.mkdir(parents=True)
    first = one.read([make_row("two/p.png", source="b", confidence="10"), make_row("q.png", split="test", source="b")])
    second = two.read(
        [make_row("p.png", source="b", weight="2"), make_row("p.png", source="a", **make_box(1, 2, 9, 9))]
    )
    composition = joined([first, second])
    manifest = composition.manifest
    assert manifest.image_paths == ("one/two/p.png", "one/q.png", "one/two/p.png")
    assert manifest.bboxes.tolist() == [[1, 2, 9, 9], [-1] * 4, [-1] * 4]
    assert manifest.extras == {"confidence": ("", "", "10"), "weight": ("", "", "2")}
    assert composition.preference == ("b", "a")
    where = f"{second.path} line 2 repeats {first.path} line 2"
    assert account(composition) == [("one/two/p.png", "row of an earlier manifest", where)]


def test_each_row_left_out_has_its_reason(workshop: Workshop) -> None:
    rows = [
        make_row("a.png", confidence="59"),
        make_row("b.png", split="val", confidence="59"),
        make_row("c.png", split="val", source="x"),
        make_row("d.png", confidence="60"),
        make_row("e.png", confidence=""),
    ]
    composition = joined([workshop.read(rows)], exclude=["x", "expw_hq"], splits=["train"], min_confidence=60.0)
    lines = [f"{workshop.manifest} line {line}" for line in (2, 3, 4)]
    assert account(composition) == [
        ("a.png", "confidence below 60", lines[0]),
        ("b.png", "split left out", lines[1]),
        ("c.png", "source left out", lines[2]),
    ]
    assert composition.manifest.image_paths == ("d.png", "e.png")
    assert joined([workshop.read(rows)], include=["x"], as_split="test").manifest.splits.tolist() == ["test"]


def test_conflicts_are_counted_and_the_first_shown(workshop: Workshop) -> None:
    first = workshop.read([make_row(f"{n}.png", "Sad") for n in range(8)])
    second = workshop.read([make_row(f"{n}.png", "Fear", source="other") for n in range(8)])
    with pytest.raises(
        FerError, match=r"(?s)8 rows differ between .*0.png: label Sad or Fear, source ferplus or other .*and 3 more"
    ):
        joined([first, second])
