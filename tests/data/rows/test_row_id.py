"""Row ids and row-set fingerprints."""

import hashlib
import unicodedata

import numpy as np
import pytest

from fer_lightning.data.rows.row_id import normalise_path, row_id, row_set_fingerprint


def test_hand_worked_ids() -> None:
    assert row_id("a/b.png", None) == hashlib.sha256(b"a/b.png\n").hexdigest()
    assert row_id("a/b.png", (1, 2, 30, 40)) == hashlib.sha256(b"a/b.png\n1,2,30,40").hexdigest()
    assert row_id("a/b.png", list(np.array([1, 2, 30, 40]))) == row_id("a/b.png", [1, 2, 30, 40])


@pytest.mark.parametrize("spelling", ["./a/b.png", "a//b.png", "a/./b.png", "c/../a/b.png", "a\\b.png"])
def test_spellings_of_one_path_are_one_row(spelling: str) -> None:
    assert normalise_path(spelling) == "a/b.png"
    assert row_id(spelling, None) == row_id("a/b.png", None)


@pytest.mark.parametrize("other", ["a/B.png", "a/b.jpg", "b.png", "../a/b.png", "a/b.png "])
def test_other_paths_are_other_rows(other: str) -> None:
    assert row_id(other, None) != row_id("a/b.png", None)


def test_composed_and_decomposed_accents_are_one_row() -> None:
    composed = "Zoë/élan.png"
    decomposed = unicodedata.normalize("NFD", composed)
    assert decomposed != composed
    assert row_id(decomposed, None) == row_id(composed, None)


def test_faces_of_one_photo_are_different_rows() -> None:
    ids = {row_id("a.png", box) for box in (None, (0, 0, 5, 5), (0, 0, 5, 6), (0, 0, 6, 5), (0, 5, 5, 6))}
    assert len(ids) == 5


def test_fingerprint_is_of_the_sorted_rows_and_labels() -> None:
    ids, labels = ["bb", "aa"], ["Sad", "Happy"]
    assert row_set_fingerprint(ids, labels) == hashlib.sha256(b"aa Happy\nbb Sad\n").hexdigest()
    assert row_set_fingerprint(ids[::-1], labels[::-1]) == row_set_fingerprint(ids, labels)
    others = [(["bb", "aa"], ["Sad", "Fear"]), (["bb", "aa"], ["Happy", "Sad"]), (["bb"], ["Sad"]), ([], [])]
    prints = {row_set_fingerprint(*other) for other in others}
    assert len(prints | {row_set_fingerprint(ids, labels)}) == 5


def test_fingerprint_needs_a_label_per_row() -> None:
    with pytest.raises(ValueError, match=r"shorter"):
        row_set_fingerprint(["aa", "bb"], ["Sad"])
