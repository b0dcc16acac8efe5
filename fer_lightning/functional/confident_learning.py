"""Confident learning: rows whose label a model contradicts, by thresholds that each class sets itself."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fer_lightning.functional._score_spaces import checked_probs

_ROUNDING = 1e-9  # the mean of equal probabilities may round above them


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """Suspected label errors among N rows of C classes.

    Attributes:
        suspected: (N,) bool.
        suggested: (N,) int64 class the row counts for; its label where it counts for none.
        self_confidence: (N,) float64 probability of the row's own label.
        margin: (N,) float64 probability of the row's label less the largest of the others, in [-1, 1]; the lowest is
            the likeliest error.
        thresholds: (C,) float64 mean probability of a class over the rows labelled so; inf for a class without rows.
        confident_joint: (C, C) int64 rows by label and by the class they count for.
    """

    suspected: Tensor
    suggested: Tensor
    self_confidence: Tensor
    margin: Tensor
    thresholds: Tensor
    confident_joint: Tensor


def _class_thresholds(probs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean self-confidence per class; inf for a class without rows, which no row can then count for."""
    num_classes = probs.shape[1]
    support = torch.bincount(labels, minlength=num_classes)
    own = probs.gather(1, labels.unsqueeze(1)).squeeze(1)
    sums = torch.zeros(num_classes, dtype=torch.float64).index_add_(0, labels, own)
    return torch.where(support > 0, sums / support.clamp(min=1), torch.inf)


def suspected_label_errors(probs: Tensor, labels: Tensor) -> LabelErrors:
    """Find rows that a model confidently puts into another class than their label says.

    With t_j the mean of p_j over the rows labelled j, a row counts for the class j of the largest p_j among those with
    p_j >= t_j, and for none where no class reaches its threshold. A row that counts for another class than its
    label, an off-diagonal entry of the confident joint, is suspected.

    Reference: Northcutt et al. 2021, https://arxiv.org/abs/1911.00068, eq. 1 and 2.

    Args:
        probs: (N, C) probabilities from a model that was not trained on these rows; not logits or log_probs.
        labels: (N,) int64.

    Returns:
        Tensors on the CPU.

    Raises:
        ValueError: not probabilities, NaN, empty, wrong shape, label out of range.
    """
    probs, labels = checked_probs(probs, labels)
    thresholds = _class_thresholds(probs, labels)
    reached = probs >= thresholds - _ROUNDING
    counted = reached.any(dim=1)
    suggested = torch.where(counted, probs.where(reached, -1.0).argmax(dim=1), labels)
    num_classes = probs.shape[1]
    cells = labels[counted] * num_classes + suggested[counted]
    own = probs.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = probs.scatter(1, labels.unsqueeze(1), 0.0)
    return LabelErrors(
        suspected=suggested != labels,
        suggested=suggested,
        self_confidence=own,
        margin=own - others.max(dim=1).values,
        thresholds=thresholds,
        confident_joint=torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes),
    )
