"""What a sweep computes per block and point: fused scores, predictions, confidences, moments of the logits."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_lightning.functional._sweep_rows import Block, Floats, Ints, Scores, SweepRows
from fer_lightning.labels import NUM_CLASSES

_CLASS_INDEX = np.arange(NUM_CLASSES, dtype=np.uint8)[:, None]


class WorkArrays:
    """Arrays of the shape of one block, written again and again by one thread."""

    def __init__(self, num_rows: int, kind: type[np.float32] | type[np.float64]) -> None:
        shape = (NUM_CLASSES, num_rows)
        self.gaps: Scores = np.empty(shape, kind)
        self.masses: Scores = np.empty(shape, kind)
        self.spare: Scores = np.empty(shape, kind)
        self.largest: Scores = np.empty(num_rows, kind)
        self.total: Scores = np.empty(num_rows, kind)
        self.at_top = np.empty(shape, np.bool_)
        self.shares = np.empty(shape, np.uint8)


class RowFigures(NamedTuple):
    """What the calibration figures are made of, (n,) float64 of each row.

    Attributes:
        confidence: probability of the prediction.
        true_prob: probability of the label.
        squared: sum of the squares of all probabilities.
        nll: sum over the rows of -log of the probability of the label.
    """

    confidence: Floats
    true_prob: Floats
    squared: Floats
    nll: float


class BinnedGaps(NamedTuple):
    """Sums over the rows of a block, by equal-width bin of the confidence.

    Attributes:
        bins: (n,) bin of each row; B for those in `near_edge`.
        gaps: (B,) of correctness - confidence, without the rows in `near_edge`.
        near_edge: positions of rows so close to the edge of a bin that the reference has to say which bin they are in.
    """

    bins: Ints
    gaps: Floats
    near_edge: Ints


def _total(values: Scores) -> float:
    """Sum in float64."""
    return float(values.sum(dtype=np.float64))


def fuse_into(scores: Scores, weights: Scores, out: Scores) -> None:
    """Write sum_m w_m scores_m."""
    np.einsum("m,mcn->cn", weights, scores, out=out)


def gaps_to_top(scores: Scores, weights: Scores, work: WorkArrays, *, space: str) -> None:
    """Write fused logits minus the largest of their row to `work.gaps`, and that largest to `work.largest`.

    In the space `prob` the fused probabilities stay in `work.masses`.
    """
    if space == "prob":
        fuse_into(scores, weights, work.masses)
        np.log(work.masses, out=work.gaps)
    else:
        fuse_into(scores, weights, work.gaps)
    np.maximum.reduce(work.gaps, axis=0, out=work.largest)
    np.subtract(work.gaps, work.largest, out=work.gaps)


def masses_at(inverse_temperature: float, work: WorkArrays) -> None:
    """Write exp(gaps / temperature) to `work.masses` and its sum over classes to `work.total`."""
    scaled = work.gaps
    if inverse_temperature != 1.0:
        scaled = np.multiply(work.gaps, work.masses.dtype.type(inverse_temperature), out=work.masses)
    np.exp(scaled, out=work.masses)
    np.add.reduce(work.masses, axis=0, out=work.total)


def derivatives(block: Block, work: WorkArrays) -> Floats:
    """(4,) sums over the block of the first four derivatives of the NLL in 1 / temperature; the masses are lost."""
    inverse_total = 1.0 / work.total
    powers = []
    for _ in range(4):
        np.multiply(work.masses, work.gaps, out=work.masses)
        powers.append(np.add.reduce(work.masses, axis=0) * inverse_total)
    first, second, third, fourth = powers
    squared = first * first
    variance = second - squared
    cumulants = (
        variance,
        third - first * (3 * variance + squared),
        fourth - 4 * first * third + 6 * squared * variance + 3 * squared * squared - 3 * variance * variance,
    )
    slope = _total(first) - _total(block.at_labels(work.gaps))
    return np.array([slope, *(_total(cumulant) for cumulant in cumulants)])


def _decided(rows: SweepRows, block: Block, weights: Floats, work: WorkArrays) -> NDArray[np.uint8]:
    """Predictions from `work.at_top`; where it holds several classes of a row, those of the reference."""
    np.multiply(work.at_top.view(np.uint8), _CLASS_INDEX, out=work.shares)
    predictions: NDArray[np.uint8] = np.add.reduce(work.shares, axis=0, dtype=np.uint8)
    if np.count_nonzero(work.at_top) != work.at_top.shape[1]:
        tied = np.flatnonzero(np.count_nonzero(work.at_top, axis=0) != 1)
        predictions[tied] = rows.fused(weights, block.rows[tied]).argmax(dim=1).numpy()
    return predictions


def predictions_of_gaps(rows: SweepRows, block: Block, weights: Floats, work: WorkArrays) -> NDArray[np.uint8]:
    """Predictions, from the gaps that are there."""
    np.greater_equal(work.gaps, -rows.tie_tolerance, out=work.at_top)
    return _decided(rows, block, weights, work)


def predictions_of_point(rows: SweepRows, block: Block, weights: Floats, work: WorkArrays) -> NDArray[np.uint8]:
    """Predictions and nothing else."""
    fuse_into(block.scores, weights, work.gaps)
    np.maximum.reduce(work.gaps, axis=0, out=work.largest)
    if rows.space == "prob":
        np.multiply(work.largest, 1.0 - rows.tie_tolerance, out=work.largest)
    else:
        np.subtract(work.largest, rows.tie_tolerance, out=work.largest)
    np.greater_equal(work.gaps, work.largest, out=work.at_top)
    return _decided(rows, block, weights, work)


def confusion_of(block: Block, predictions: NDArray[np.uint8]) -> Ints:
    """(49,) counts of (true, predicted)."""
    cells = block.labels * np.uint8(NUM_CLASSES) + predictions
    return np.bincount(cells, minlength=NUM_CLASSES**2)


def figures_of_fused_probs(block: Block, work: WorkArrays, gaps: Floats) -> RowFigures:
    """What `gaps_to_top` left there in the space `prob`, at temperature 1."""
    return RowFigures(
        confidence=np.exp(work.largest),
        true_prob=block.at_labels(work.masses),
        squared=np.einsum("cn,cn->n", work.masses, work.masses),
        nll=-_total(gaps) - _total(work.largest),
    )


def _sum_of_logs(totals: Floats) -> float:
    """Sum of the logarithms of numbers in 1..7, of which 16 are multiplied before a logarithm is taken."""
    whole = len(totals) // 16 * 16
    products = np.multiply.reduce(totals[:whole].reshape(16, -1), axis=0)
    return _total(np.log(products)) + _total(np.log(totals[whole:]))


def figures_of_masses(block: Block, work: WorkArrays, inverse_temperature: float, gaps: Floats) -> RowFigures:
    """What `masses_at` that temperature left there."""
    confidence = 1.0 / work.total
    squared = np.einsum("cn,cn->n", work.masses, work.masses)
    squared *= confidence
    squared *= confidence
    true_prob = block.at_labels(work.masses)
    true_prob *= confidence
    nll = _sum_of_logs(work.total) - inverse_temperature * _total(gaps)
    return RowFigures(confidence, true_prob, squared, nll)


def expected_gaps(work: WorkArrays, confidence: Floats) -> Floats:
    """(n,) expected gap under the masses; masses times gaps are left in `work.spare`."""
    np.multiply(work.masses, work.gaps, out=work.spare)
    expected: Floats = np.add.reduce(work.spare, axis=0)
    expected *= confidence
    return expected


def brier_slope(work: WorkArrays, figures: RowFigures, gaps: Floats, expected: Floats) -> float:
    """Sum over rows of the derivative of the squared distance, after `expected_gaps`."""
    squared = np.einsum("cn,cn->n", work.masses, work.spare) * figures.confidence**2
    return 2.0 * _total(squared - figures.squared * expected - figures.true_prob * (gaps - expected))


def brier_sum(figures: RowFigures) -> float:
    """Sum of the squared distances to the one-hot labels."""
    return _total(figures.squared) - 2.0 * _total(figures.true_prob) + len(figures.squared)


def binned(confidence: Floats, hits: Floats, *, num_bins: int, margin: float) -> BinnedGaps:
    """Add up correctness - confidence in bins (lo, hi], as `bins_from_confidences` has them.

    Args:
        confidence: (n,).
        hits: (n,) 1 where the prediction is the label.
        num_bins: B.
        margin: of a confidence; rows nearer than that to an edge are left to the reference.
    """
    places = confidence * num_bins
    bins = places.astype(np.int64)
    offsets = places - bins
    offsets -= 0.5
    np.abs(offsets, out=offsets)
    near_edge = np.flatnonzero(offsets > 0.5 - num_bins * margin)
    if len(near_edge):
        near_edge = near_edge[places[near_edge] < num_bins - 0.5]  # 1 is no edge
        np.minimum(bins, num_bins - 1, out=bins)
        bins[near_edge] = num_bins
    gaps = np.bincount(bins, weights=hits - confidence, minlength=num_bins + 1).astype(np.float64, copy=False)
    return BinnedGaps(bins, gaps[:num_bins], near_edge)
