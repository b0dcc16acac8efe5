"""Confidence bins and the calibration errors built on them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fer_lightning.functional._score_spaces import checked_probs


@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """What a reliability diagram draws; B bins, all float64 except the counts.

    Attributes:
        edges: (B + 1,) k / B; bin k is (edges[k], edges[k + 1]], 0 itself in the first.
        counts: (B,) int64 rows per bin.
        mean_confidence: (B,) mean top-label confidence, 0 where a bin is empty.
        accuracy: (B,) share of correct rows, 0 where a bin is empty.
    """

    edges: Tensor
    counts: Tensor
    mean_confidence: Tensor
    accuracy: Tensor

    def gaps(self) -> Tensor:
        """Return |accuracy - mean_confidence| per bin, 0 where a bin is empty."""
        return (self.accuracy - self.mean_confidence).abs()

    def expected_error(self) -> Tensor:
        """Return the gaps averaged over rows, 0-dim."""
        return (self.counts * self.gaps()).sum() / self.counts.sum()


def bins_from_confidences(confidences: Tensor, hits: Tensor, *, num_bins: int) -> ReliabilityBins:
    """Bin confidences into equal-width bins (lo, hi].

    The edges are the float64 quotients k / B (a running sum would differ in the last bit), so a confidence equal to
    the float64 value of k / B falls below that edge. 0 falls in the first bin, 1 in the last.

    Args:
        confidences: (N,) float64 in [0, 1].
        hits: (N,) float64, 1 where the event happened.
        num_bins: B, >= 1.

    Raises:
        ValueError: num_bins below 1.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins must be >= 1, got {num_bins}")
    edges = torch.tensor([k / num_bins for k in range(num_bins + 1)], dtype=torch.float64)
    positions = torch.bucketize(confidences, edges[1:-1])
    counts = torch.bincount(positions, minlength=num_bins)
    filled = counts.clamp(min=1)
    return ReliabilityBins(
        edges=edges,
        counts=counts,
        mean_confidence=torch.bincount(positions, weights=confidences, minlength=num_bins) / filled,
        accuracy=torch.bincount(positions, weights=hits, minlength=num_bins) / filled,
    )


def _top_label(probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Confidence and correctness of the largest class; of equal ones the first counts."""
    confidences, predictions = probs.max(dim=1)
    return confidences, (predictions == labels).double()


def reliability_bins(probs: Tensor, labels: Tensor, *, num_bins: int = 15) -> ReliabilityBins:
    """Top-label confidence against accuracy in equal-width bins (lo, hi].

    0 is in the first bin and 1.0 in the last; computed in float64; the first of equal maxima is the prediction.

    Args:
        probs: (N, C) probabilities.
        labels: (N,) int64.
        num_bins: B, >= 1.

    Raises:
        ValueError: not probabilities, NaN, empty, wrong shape, label out of range, num_bins below 1.
    """
    probs, labels = checked_probs(probs, labels)
    confidences, hits = _top_label(probs, labels)
    return bins_from_confidences(confidences, hits, num_bins=num_bins)


def expected_calibration_error(probs: Tensor, labels: Tensor, *, num_bins: int = 15) -> Tensor:
    """Top-label ECE, sum_b (n_b / N) |accuracy_b - mean_confidence_b|, bins as in `reliability_bins`.

    Reference: Guo et al., https://arxiv.org/abs/1706.04599, eq. 3.

    Args:
        probs: (N, C) probabilities, not logits or log_probs.
        labels: (N,) int64.
        num_bins: number of equal-width bins, >= 1.

    Returns:
        0-dim float64 in [0, 1].

    Raises:
        ValueError: not probabilities, NaN, empty, wrong shape, label out of range, num_bins below 1.
    """
    return reliability_bins(probs, labels, num_bins=num_bins).expected_error()


def maximum_calibration_error(probs: Tensor, labels: Tensor, *, num_bins: int = 15) -> Tensor:
    """Top-label MCE, the largest |accuracy_b - mean_confidence_b| over filled bins, bins as in `reliability_bins`.

    Reference: Guo et al., https://arxiv.org/abs/1706.04599, eq. 5.

    Args:
        probs: (N, C) probabilities.
        labels: (N,) int64.
        num_bins: number of equal-width bins, >= 1.

    Returns:
        0-dim float64 in [0, 1].

    Raises:
        ValueError: as `expected_calibration_error`.
    """
    return reliability_bins(probs, labels, num_bins=num_bins).gaps().max()


def _average_within_ties(sorted_confidences: Tensor, hits: Tensor) -> Tensor:
    """Give rows of equal confidence their mean correctness, so that row order cannot matter."""
    group = torch.zeros(len(hits), dtype=torch.int64)
    group[1:] = (sorted_confidences[1:] != sorted_confidences[:-1]).cumsum(dim=0)
    return (torch.bincount(group, weights=hits) / torch.bincount(group))[group]


def adaptive_calibration_error(probs: Tensor, labels: Tensor, *, num_bins: int = 15) -> Tensor:
    """Top-label ECE with equal-mass bins.

    Rows sorted by confidence are cut into `num_bins` runs whose sizes differ by at most one, the first N mod B runs
    being the longer ones; the error is the row-weighted mean of |accuracy - mean_confidence|. With fewer rows than
    bins each row is its own bin. Rows of equal confidence share their mean correctness, so a tie cut by an edge does
    not make the number depend on row order.

    Reference: Nguyen & O'Connor, Posterior calibration, https://arxiv.org/abs/1508.05154, section 3.

    Args:
        probs: (N, C) probabilities.
        labels: (N,) int64.
        num_bins: number of equal-mass bins, >= 1.

    Returns:
        0-dim float64 in [0, 1].

    Raises:
        ValueError: as `expected_calibration_error`.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins must be >= 1, got {num_bins}")
    probs, labels = checked_probs(probs, labels)
    confidences, hits = _top_label(probs, labels)
    confidences, order = confidences.sort(stable=True)
    gaps = _average_within_ties(confidences, hits[order]) - confidences
    sums = torch.stack([run.sum() for run in gaps.tensor_split(num_bins)])
    return sums.abs().sum() / len(gaps)


def classwise_calibration_error(probs: Tensor, labels: Tensor, *, num_bins: int = 15) -> Tensor:
    """Classwise ECE: mean over all C classes of the ECE of p_j against [y = j].

        (1 / C) sum_j sum_b (n_bj / N) |share of label j in b - mean p_j in b|

    with the same equal-width bins (lo, hi]. A class without rows counts like the others.

    Reference: Kull et al., Beyond temperature scaling, https://arxiv.org/abs/1910.12656, section 2.

    Args:
        probs: (N, C) probabilities.
        labels: (N,) int64.
        num_bins: number of equal-width bins per class, >= 1.

    Returns:
        0-dim float64 in [0, 1].

    Raises:
        ValueError: as `expected_calibration_error`.
    """
    probs, labels = checked_probs(probs, labels)
    errors = [
        bins_from_confidences(column, (labels == j).double(), num_bins=num_bins).expected_error()
        for j, column in enumerate(probs.T.contiguous())
    ]
    return torch.stack(errors).mean()
