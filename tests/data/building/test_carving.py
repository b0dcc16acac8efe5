"""Rows without a split find their place: by share, and beside what they belong to."""

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.building.carving import CarvingPlan, carve_sources, sources_to_carve
from fer_lightning.data.building.compose import compose
from fer_lightning.data.building.composition import Composition
from fer_lightning.data.sources.rows import SourceReading, SourceRow
from fer_lightning.labels import EMOTIONS


def plan(*keep_whole: str, test: float = 0.1, val: float = 0.1) -> CarvingPlan:
    return CarvingPlan(
        test_fraction=test,
        val_fraction=val,
        group_columns=["subject"],
        seed=1,
        keep_whole=frozenset(keep_whole),
    )


def composition_of(**sources: dict[str | None, int]) -> Composition:
    """Rows per source and split, named `<source>/<split><number>.png`; labels go round."""
    readings = {}
    for source, counts in sources.items():
        rows = [
            SourceRow(path=f"{source}/{split}{number:03d}.png", label=EMOTIONS[number % 7], split=split)
            for split, count in counts.items()
            for number in range(count)
        ]
        readings[source] = SourceReading(rows=rows)
    return compose(readings, path=Path("m.csv"), root=Path(), as_splits={})


def family(composition: Composition, *groups: tuple[str, ...]) -> NDArray[np.int64]:
    numbers = np.arange(len(composition.manifest))
    place = {path.removesuffix(".png"): row for row, path in enumerate(composition.manifest.image_paths)}
    for members in groups:
        numbers[[place[name] for name in members]] = place[members[0]]
    return numbers


def side(composition: Composition, splits: NDArray[np.str_], name: str) -> str:
    return str(splits[composition.manifest.image_paths.index(f"{name}.png")])


def test_shares_per_source_and_class() -> None:
    composition = composition_of(free={None: 140}, train_only={"train": 70, "test": 7}, whole={"train": 7, "val": 7})
    splits, carved = carve_sources(composition, plan(test=0.1, val=0.2), None)
    counts = Counter(zip(composition.manifest.sources.tolist(), splits.tolist(), strict=True))
    assert counts["free", "test"] == 14
    assert counts["free", "val"] == 28
    assert (counts["train_only", "val"], counts["train_only", "test"]) == (14, 7)
    assert (counts["whole", "train"], counts["whole", "val"]) == (7, 7)
    labels = composition.manifest.labels[(composition.manifest.sources == "free") & (splits == "val")]
    assert np.bincount(labels).tolist() == [4] * 7
    assert carved["free"].rows == {"test": 14, "train": 98, "val": 28}
    assert carved["train_only"].rows == {"val": 14}
    assert set(carved) == {"free", "train_only"}


def test_nothing_to_carve() -> None:
    composition = composition_of(a={"train": 7}, b={"train": 7, "val": 7}, c={"test": 7})
    assert sources_to_carve(composition, plan("a")) == ([], [])
    assert sources_to_carve(composition, plan(val=0.0)) == ([], [])
    splits, carved = carve_sources(composition, plan("a"), None)
    assert splits.tolist() == composition.manifest.splits.tolist()
    assert carved == {}


def test_a_row_goes_to_the_most_protected_split_of_its_family() -> None:
    composition = composition_of(a={"train": 7, "val": 7, "test": 7}, b={None: 140})
    families = family(
        composition,
        ("a/train000", "b/None000"),
        ("a/val000", "b/None001", "a/train001"),
        ("a/test000", "b/None002", "b/None003", "a/val001"),
    )
    splits, carved = carve_sources(composition, plan(), families)
    assert [side(composition, splits, f"b/None{n:03d}") for n in range(4)] == ["train", "val", "test", "test"]
    official = composition.manifest.sources == "a"
    assert np.array_equal(splits[official], composition.manifest.splits[official])
    assert carved["b"].pinned == 4


def test_families_of_two_sources_without_splits_stay_together() -> None:
    composition = composition_of(a={None: 70}, b={None: 70}, c={"train": 70, "test": 7})
    shared = [(f"a/None{n:03d}", f"b/None{n:03d}", f"c/train{n:03d}") for n in range(0, 70, 3)]
    splits, _ = carve_sources(composition, plan(test=0.2, val=0.3), family(composition, *shared))
    sides = [{side(composition, splits, name) for name in members} for members in shared]
    assert {len(found) for found in sides} == {1}
    assert set.union(*sides) == {"train", "val"}  # rows of a train split are never tested on


def test_order_of_sources_changes_nothing_without_links() -> None:
    one = composition_of(a={None: 70}, b={None: 77})
    other = composition_of(b={None: 77}, a={None: 70})
    assert np.array_equal(carve_sources(one, plan(), None)[0], carve_sources(other, plan(), None)[0])
