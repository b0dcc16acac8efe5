"""Cleaning goes on until no near copy is left across splits."""

from pathlib import Path

import numpy as np
import pytest

from fer_lightning.data.building import settling
from fer_lightning.data.building.carving import CarvingPlan
from fer_lightning.data.building.settling import Settled, Settling, settle
from fer_lightning.data.copies.near_duplicates import NearPairs
from fer_lightning.data.pictures.image_facts import FileStatus, ImageFacts
from fer_lightning.errors import FerError
from tests.data.building.test_cleaning import facts_of, pairs, rows_of


def settle_with(
    monkeypatch: pytest.MonkeyPatch, rows: list[tuple[str, str, str | None]], *links: tuple[str, str]
) -> Settled:
    """Settle rows whose near copies are `links`; a row stands for those that are linked to it while it is there."""
    composition = rows_of(*rows)
    facts = facts_of(composition)
    every = pairs(composition, *links)

    def near_duplicates(asked: ImageFacts) -> NearPairs:
        there = asked.status == FileStatus.ok
        both = there[every.first] & there[every.second]
        hidden = (every.distance == 1) & (np.arange(len(both)) == len(both) - 1) & there[every.first[0]]
        seen = np.flatnonzero(both & ~hidden)
        return NearPairs(*(values[seen] for values in vars(every).values()))

    monkeypatch.setattr(settling, "image_facts", lambda *_, **__: facts)
    monkeypatch.setattr(settling, "near_duplicates", near_duplicates)
    plan = CarvingPlan(test_fraction=0.1, val_fraction=0.1, group_columns=[], seed=1, keep_whole=frozenset())
    return settle(composition, Settling(clean=True, min_side=1, plan=plan, store=Path(), num_workers=0))


def test_a_copy_that_another_row_stood_for_is_found_when_that_one_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("a", "hub", "train"), ("a", "second", "train"), ("a", "t", "test"), ("a", "v", "val"), ("a", "w", "train")]
    settled = settle_with(monkeypatch, [*rows], ("hub", "t"), ("hub", "second"), ("second", "t"))
    assert settled.composition.finished().image_paths == ("t.png", "v.png", "w.png")
    assert {drop.reason for drop in settled.composition.removed} == {"near copy of a test row"}
    assert settled.leaks == {}


def test_a_row_without_a_split_between_two_splits_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("a", "t", "test"), ("a", "v", "val"), ("a", "w", "train"), ("b", "between", None), ("b", "free", None)]
    settled = settle_with(monkeypatch, [*rows], ("between", "t"), ("between", "v"), ("w", "w"))
    assert [(drop.item, drop.reason) for drop in settled.composition.removed] == [
        ("between.png", "near copy of a val row")
    ]
    assert settled.leaks == {}
    assert settled.carved["b"].pinned == 1


def test_nothing_left_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    composition = rows_of(("a", "p", "train"), ("a", "q", "train"))
    facts = facts_of(composition, {"p": 1, "q": 1})
    composition.manifest.labels[0] = 1
    monkeypatch.setattr(settling, "image_facts", lambda *_, **__: facts)
    plan = CarvingPlan(test_fraction=0, val_fraction=0, group_columns=[], seed=1, keep_whole=frozenset())
    with pytest.raises(FerError, match=r"no row is left for m.csv: all 2 items were dropped"):
        settle(composition, Settling(clean=True, min_side=1, plan=plan, store=Path(), num_workers=0))
