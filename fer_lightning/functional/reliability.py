"""The one implementation of accuracy, F1, calibration error, Brier score and NLL, all in float64."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  the name torch's own documentation uses
from torch import Tensor

from fer_lightning.functional._bins import (
    ReliabilityBins,
    adaptive_calibration_error,
    bins_from_confidences,
    classwise_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
    reliability_bins,
)
from fer_lightning.functional._checks import check_labels
from fer_lightning.functional._score_spaces import checked_log_probs, checked_probs
from fer_lightning.labels import MINORITY_INDICES, NUM_CLASSES

__all__ = [
    "ClassificationScores",
    "ReliabilityBins",
    "ReliabilityReport",
    "adaptive_calibration_error",
    "brier_score",
    "classification_scores",
    "classwise_calibration_error",
    "expected_calibration_error",
    "maximum_calibration_error",
    "negative_log_likelihood",
    "reliability_bins",
    "reliability_report",
]


@dataclass(frozen=True, eq=False)
class ClassificationScores:
    """Scores of hard predictions over the seven emotions.

    Attributes:
        accuracy: share of correct rows.
        macro_f1: mean F1 over all seven classes; a class with neither rows nor predictions counts 0.
        macro_f1_present: mean F1 over the classes that have rows.
        per_class_f1: (7,) float64, 0 where precision and recall are both undefined.
        minority_f1: mean F1 of Disgust, Fear and Sad; an absent one counts 0.
        confusion: (7, 7) int64, rows the true class, columns the prediction.
        support: (7,) int64 rows per true class.
        absent_classes: indices of the classes without rows.
    """

    accuracy: float
    macro_f1: float
    macro_f1_present: float
    per_class_f1: Tensor
    minority_f1: float
    confusion: Tensor
    support: Tensor
    absent_classes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ReliabilityReport:
    """All headline numbers of one set of rows.

    Attributes:
        n: rows.
        scores: of the predictions argmax log_probs (the first of equal maxima).
        nll: mean NLL in nats; inf if a true class had probability 0.
        ece: top-label ECE.
        brier: Brier score, 0..2.
        mean_confidence: mean probability of the predicted class.
    """

    n: int
    scores: ClassificationScores
    nll: float
    ece: float
    brier: float
    mean_confidence: float


def _mean_squared_distance(probs: Tensor, labels: Tensor) -> Tensor:
    """Mean over rows of the squared distance to the one-hot label."""
    return (probs - F.one_hot(labels, probs.shape[1])).square().sum(dim=1).mean()


def _mean_true_nll(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Mean over rows of -log p_y."""
    return F.nll_loss(log_probs, labels)


def brier_score(probs: Tensor, labels: Tensor) -> Tensor:
    """Brier score, mean over rows of sum_j (p_j - [y = j])^2: summed over classes, so between 0 and 2.

    Reference: Brier 1950, https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2, eq. 2.

    Args:
        probs: (N, C) probabilities, not logits or log_probs.
        labels: (N,) int64.

    Returns:
        0-dim float64.

    Raises:
        ValueError: not probabilities, NaN, empty, wrong shape, label out of range.
    """
    return _mean_squared_distance(*checked_probs(probs, labels))


def negative_log_likelihood(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Mean over rows of -log p_y in nats.

    -inf is a legal log-probability; the result is inf if it belongs to a true class.

    Args:
        log_probs: (N, C) log-probabilities (log_softmax of logits), not logits or probabilities.
        labels: (N,) int64.

    Returns:
        0-dim float64, >= 0.

    Raises:
        ValueError: not log-probabilities, NaN, empty, wrong shape, label out of range.
    """
    return _mean_true_nll(*checked_log_probs(log_probs, labels))


def _confusion_matrix(predictions: Tensor, labels: Tensor) -> Tensor:
    """Count (true, predicted) pairs with one bincount; (7, 7) int64 on the CPU."""
    if labels.ndim != 1 or labels.numel() == 0:
        raise ValueError(f"labels must have shape (N,) with N >= 1, got {tuple(labels.shape)}")
    num_rows = labels.shape[0]
    labels = check_labels(labels.detach().cpu(), num_rows=num_rows, num_classes=NUM_CLASSES)
    predictions = check_labels(
        predictions.detach().cpu(), num_rows=num_rows, num_classes=NUM_CLASSES, name="predictions"
    )
    pairs = torch.bincount(labels * NUM_CLASSES + predictions, minlength=NUM_CLASSES**2)
    return pairs.reshape(NUM_CLASSES, NUM_CLASSES)


def classification_scores(predictions: Tensor, labels: Tensor) -> ClassificationScores:
    """Accuracy, F1 and confusion of hard predictions over the seven emotions.

        F1_j = 2 TP_j / (rows_j + predictions_j), 0 if the denominator is 0

    Args:
        predictions: (N,) int64 in 0..6.
        labels: (N,) int64 in 0..6.

    Returns:
        The scores, tensors on the CPU.

    Raises:
        ValueError: empty, wrong shape or type, index outside 0..6.
    """
    confusion = _confusion_matrix(predictions, labels)
    correct = confusion.diagonal().double()
    support = confusion.sum(dim=1)
    mentions = support + confusion.sum(dim=0)
    per_class_f1 = 2.0 * correct / mentions.clamp(min=1)
    return ClassificationScores(
        accuracy=float(correct.sum() / support.sum()),
        macro_f1=float(per_class_f1.mean()),
        macro_f1_present=float(per_class_f1[support > 0].mean()),
        per_class_f1=per_class_f1,
        minority_f1=float(per_class_f1[list(MINORITY_INDICES)].mean()),
        confusion=confusion,
        support=support,
        absent_classes=tuple(int(j) for j in (support == 0).nonzero().flatten()),
    )


def reliability_report(log_probs: Tensor, labels: Tensor, *, num_bins: int = 15) -> ReliabilityReport:
    """Every headline number of one set of rows, from one check and one pass.

    Each equals the function of its name on exp(log_probs).

    Args:
        log_probs: (N, 7) log-probabilities, not logits or probabilities.
        labels: (N,) int64.
        num_bins: bins of the ECE.

    Raises:
        ValueError: not log-probabilities, NaN, empty, not seven classes, label out of range, num_bins below 1.
    """
    log_probs, labels = checked_log_probs(log_probs, labels)
    if log_probs.shape[1] != NUM_CLASSES:
        raise ValueError(f"log_probs must have {NUM_CLASSES} columns, got {log_probs.shape[1]}")
    confidences, predictions = log_probs.max(dim=1)
    confidences = confidences.exp()
    bins = bins_from_confidences(confidences, (predictions == labels).double(), num_bins=num_bins)
    return ReliabilityReport(
        n=len(labels),
        scores=classification_scores(predictions, labels),
        nll=float(_mean_true_nll(log_probs, labels)),
        ece=float(bins.expected_error()),
        brier=float(_mean_squared_distance(log_probs.exp(), labels)),
        mean_confidence=float(confidences.mean()),
    )
