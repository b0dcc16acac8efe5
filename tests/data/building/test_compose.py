"""Data sets side by side: paths under one root, one row per face, everything accounted for."""

from pathlib import Path

import numpy as np
import pytest

from fer_lightning.data.building.compose import compose
from fer_lightning.data.building.composition import Composition, Removed, repeated
from fer_lightning.data.rows.manifest_text import manifest_text
from fer_lightning.data.sources.rows import SourceReading, SourceRow
from fer_lightning.errors import FerError


@pytest.fixture(autouse=True)
def _own_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def row(path: str, label: str = "Happy", split: str | None = "train", **columns: str) -> SourceRow:
    return SourceRow(path=path, label=label, split=split, columns=columns)


def put_together(readings: dict[str, list[SourceRow]], **as_splits: str) -> Composition:
    read = {name: SourceReading(rows=rows) for name, rows in readings.items()}
    return compose(read, path=Path("m.csv"), root=Path(), as_splits=as_splits)


def test_rows_are_sorted_and_relative_to_the_root(tmp_path: Path) -> None:
    boxes = [SourceRow(path="b/p.png", label="Sad", split=None, bbox=(0, 0, 9, n)) for n in (9, 5)]
    composition = put_together({"z": [row(f"{tmp_path}/a/./q.png", subject="1")], "b": boxes})
    manifest = composition.manifest
    assert manifest.image_paths == ("b/p.png", "b/p.png", "a/q.png")
    assert manifest.bboxes.tolist() == [[0, 0, 9, 5], [0, 0, 9, 9], [-1] * 4]
    assert manifest.splits.tolist() == ["", "", "train"]
    assert manifest.extras == {"subject": ("", "", "1")}
    assert composition.preference == ("z", "b")
    assert composition.item(0) == "b/p.png[0,0,9,5]"


def test_order_of_rows_does_not_matter() -> None:
    rows = [row(f"a/{n}.png", "Fear" if n % 2 else "Sad", subject=str(n % 5)) for n in range(40)]
    shuffled = [rows[n] for n in np.random.default_rng(0).permutation(40)]
    assert manifest_text(put_together({"a": shuffled}).finished()) == manifest_text(
        put_together({"a": rows}).finished()
    )


def test_drops_of_the_adapter_and_of_unwritable_text_are_in_the_account() -> None:
    reading = SourceReading(rows=[row("a/x\\y.png"), row("a/o.png", note="two\nlines"), row("a/fine.png")])
    reading.drop("votes.csv:3", "tie", "5 to 5")
    composition = compose({"a": reading}, path=Path("m.csv"), root=Path(), as_splits={})
    assert composition.removed == [
        Removed("a", "votes.csv:3", "tie", "5 to 5"),
        Removed("a", r"'a/x\\y.png'", "text that cannot stand in a manifest", r"'a/x\\y.png'"),
        Removed("a", "'a/o.png'", "text that cannot stand in a manifest", r"'two\nlines'"),
    ]
    assert composition.manifest.image_paths == ("a/fine.png",)


def test_one_face_listed_twice_is_one_row() -> None:
    composition = put_together(
        {
            "a": [row("p.png"), row("./p.png"), row("q.png", "Sad"), row("q.png", "Fear"), row("r.png", split=None)],
            "b": [row("r.png", "Sad", "test"), row("p.png", "Fear")],
        }
    )
    kept = composition.finished()
    assert list(zip(kept.sources.tolist(), kept.image_paths, strict=True)) == [("a", "p.png"), ("b", "r.png")]
    assert sorted((drop.source, drop.item, drop.reason) for drop in composition.removed) == [
        ("a", "p.png", "listed twice"),
        ("a", "q.png", "labels disagree"),
        ("a", "q.png", "labels disagree"),
        ("a", "r.png", "also listed by b"),
        ("b", "p.png", "also listed by a"),
    ]
    details = {drop.source: drop.detail for drop in composition.removed if "also" in drop.reason}
    assert details == {
        "a": "b r.png (test), labelled Sad there and Happy here",
        "b": "a p.png (train), labelled Happy there and Fear here",
    }


def test_as_split_replaces_what_the_data_set_says() -> None:
    composition = put_together(
        {"a": [row("p.png"), row("q.png", split=None)], "b": [row("r.png", split="val")]}, a="test"
    )
    assert composition.manifest.splits.tolist() == ["test", "test", "val"]


def test_pictures_outside_the_root(tmp_path: Path) -> None:
    readings = {"a": SourceReading(rows=[row("x/a/p.png")]), "b": SourceReading(rows=[row("x/b/p.png")])}
    with pytest.raises(
        FerError, match=rf"outside of x/a, .*: b in {tmp_path}/x/b. build.root={tmp_path}/x holds them all"
    ):
        compose(readings, path=Path("m.csv"), root=Path("x/a"), as_splits={})


def test_repeated_lists_only_what_occurs_twice() -> None:
    assert repeated(np.array([9, 4, 7, 5]), np.array([3, 1, 3, 0])) == [[7, 9]]
    assert repeated(np.array([1, 2]), np.array([3, 1])) == []
    assert repeated(np.array([], dtype=np.int64), np.array([], dtype=np.int64)) == []
