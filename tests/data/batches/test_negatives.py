"""Emotions that rows do not show, from their column."""

import numpy as np
import pytest

from fer_lightning.data.batches.negatives import read_negatives
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS
from tests.data.conftest import Workshop, cycle_rows, make_row


def test_each_row_has_the_emotions_it_names(workshop: Workshop) -> None:
    manifest = workshop.read(
        [
            make_row("a.png", "Happy", neg_label="Sad|Angry"),
            make_row("b.png", "Sad"),
            make_row("c.png", "Fear", neg_label="Neutral"),
            make_row("d.png", "Angry", neg_label="Sad|Sad"),
        ]
    )
    negatives = read_negatives(manifest, np.array([2, 0, 1, 3]))
    assert negatives.dtype == np.bool_
    named = [{EMOTIONS[index] for index in np.flatnonzero(row)} for row in negatives]
    assert named == [{"Neutral"}, {"Sad", "Angry"}, set(), {"Sad"}]


def test_a_column_that_is_missing_or_empty_is_refused(workshop: Workshop) -> None:
    needs = (
        "distillation.negative_weight needs a column neg_label of emotions that a row does not show (Sad, or Sad|Fear)"
    )
    without = "set distillation.negative_weight=0 to go without"
    manifest = workshop.read([make_row("a.png"), make_row("b.png")])
    with pytest.raises(FerError) as missing:
        read_negatives(manifest, np.arange(2))
    assert str(missing.value) == f"{needs}, and {manifest.path} has none; {without}"
    manifest = workshop.read([make_row("a.png"), make_row("b.png"), make_row("c.png", neg_label="Sad")])
    with pytest.raises(FerError) as empty:
        read_negatives(manifest, np.arange(2))
    assert str(empty.value) == f"{needs}, and it is empty in all 2 train rows of {manifest.path}; {without}"
    assert read_negatives(manifest, np.arange(3)).sum() == 1


def test_rows_that_deny_their_own_label_are_counted_and_listed(workshop: Workshop) -> None:
    rows = [{**row, "neg_label": "Sad|Fear"} for row in cycle_rows(21)]
    manifest = workshop.read(rows)
    with pytest.raises(FerError) as caught:
        read_negatives(manifest, np.arange(1, 21))
    lines = [number + 2 for number in range(1, 21) if EMOTIONS[number % 7] in {"Sad", "Fear"}]
    assert len(lines) == 6
    first, *listed, more, advice = str(caught.value).split("\n")
    assert first == f"{manifest.path}: neg_label names the row's own label in 6 of 20 train rows:"
    assert listed == [f"  line {line}: label {EMOTIONS[(line - 2) % 7]}, neg_label='Sad|Fear'" for line in lines[:5]]
    assert (more, advice) == ("  ... and 1 more", "Mend the column, or set distillation.negative_weight=0.")
    with pytest.raises(FerError, match=r"in 1 of 1 train rows:\n  line 4: label Fear, neg_label='Sad\|Fear'\nMend"):
        read_negatives(manifest, np.array([2]))
