"""Agreement of predictions and labels against every renaming and against theory of shuffles."""

import itertools

import numpy as np
import pytest

from fer_lightning.functional.label_agreement import label_agreement

RANDOM = np.random.default_rng(1)
LABELS = RANDOM.integers(0, 7, 300)


def test_shuffled_accuracy_is_that_of_independent_marginals() -> None:
    predictions = np.where(RANDOM.random(300) < 0.6, LABELS, 3)
    found = label_agreement(predictions, LABELS)
    assert found.accuracy == (predictions == LABELS).mean()
    shares = [np.bincount(values, minlength=7) / 300 for values in (predictions, LABELS)]
    expected = float((shares[0] * shares[1]).sum())
    assert found.shuffled_accuracy == pytest.approx(expected, abs=4 * found.shuffled_deviation / np.sqrt(200))
    assert not found.is_chance
    assert label_agreement(predictions, LABELS) == found  # drawn alike each time


def test_rows_in_another_order_are_chance() -> None:
    predictions = np.where(RANDOM.random(300) < 0.8, LABELS, 0)
    assert label_agreement(np.roll(predictions, 1), LABELS).is_chance
    assert not label_agreement(predictions, LABELS).is_chance


def test_the_best_renaming_is_that_of_a_search_over_all() -> None:
    renamed = np.array([2, 0, 1, 3, 5, 6, 4])
    predictions = renamed[np.where(RANDOM.random(300) < 0.7, LABELS, RANDOM.integers(0, 7, 300))]
    found = label_agreement(predictions, LABELS)
    best = max(
        (float((np.array(names)[predictions] == LABELS).mean()), names) for names in itertools.permutations(range(7))
    )
    assert (found.best_accuracy, found.best_names) == best
    assert np.array(found.best_names)[renamed].tolist() == list(range(7))


@pytest.mark.parametrize(("predictions", "labels"), [(LABELS[:3], LABELS), (LABELS[:0], LABELS[:0])])
def test_other_shapes_are_refused(predictions: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="one shape"):
        label_agreement(predictions, labels)
