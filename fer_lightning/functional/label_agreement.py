"""Whether predictions could belong to other rows, or to another order of the classes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from fer_lightning.labels import NUM_CLASSES

_NUM_SHUFFLES = 200
_MANY_DEVIATIONS = 4.0


@dataclass(frozen=True)
class LabelAgreement:
    """How predictions agree with labels, and how they would in another order.

    Attributes:
        accuracy: share of equal pairs.
        shuffled_accuracy: mean share when the rows are shuffled.
        shuffled_deviation: standard deviation of that share between shuffles.
        best_accuracy: share when predicted classes are renamed one to one, in the way that fits best.
        best_names: class that each predicted class would be renamed to.
    """

    accuracy: float
    shuffled_accuracy: float
    shuffled_deviation: float
    best_accuracy: float
    best_names: tuple[int, ...]

    @property
    def is_chance(self) -> bool:
        """Whether shuffled rows agree about as well."""
        return self.accuracy <= self.shuffled_accuracy + _MANY_DEVIATIONS * self.shuffled_deviation


def label_agreement(predictions: NDArray[np.int64], labels: NDArray[np.int64]) -> LabelAgreement:
    """Compare the agreement of predictions and labels with that of shuffled rows and of renamed classes.

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices.

    Raises:
        ValueError: other shapes, or no rows.
    """
    if predictions.shape != labels.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(
            f"predictions and labels must have one shape (N,), N >= 1, got {predictions.shape} and {labels.shape}"
        )
    random = np.random.default_rng(0)
    shuffled = np.array([(random.permutation(labels) == predictions).mean() for _ in range(_NUM_SHUFFLES)])
    pairs = np.bincount(labels * NUM_CLASSES + predictions, minlength=NUM_CLASSES**2)
    confusion = pairs.reshape(NUM_CLASSES, NUM_CLASSES)  # rows: label
    predicted, named = linear_sum_assignment(confusion.T, maximize=True)
    return LabelAgreement(
        accuracy=float((predictions == labels).mean()),
        shuffled_accuracy=float(shuffled.mean()),
        shuffled_deviation=float(shuffled.std()),
        best_accuracy=float(confusion[named, predicted].sum() / len(labels)),
        best_names=tuple(named.tolist()),
    )
