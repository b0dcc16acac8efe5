"""One pass over all rows: the figures of many points, raw and at a temperature each."""

from dataclasses import dataclass, fields

import numpy as np

from fer_lightning.functional._sweep_kernels import (
    BinnedGaps,
    RowFigures,
    WorkArrays,
    binned,
    brier_slope,
    brier_sum,
    confusion_of,
    expected_gaps,
    figures_of_fused_probs,
    figures_of_masses,
    gaps_to_top,
    masses_at,
    predictions_of_gaps,
)
from fer_lightning.functional._sweep_rows import Block, Floats, Ints, SweepRows
from fer_lightning.labels import NUM_CLASSES

LARGEST_CORRECTION = 1e-6  # relative, of 1 / temperature
_MANY_ROWS = 16_384
_MARGIN_RAW = 1e-9  # of a confidence
_MARGIN_SCALED = 4.0 * LARGEST_CORRECTION


@dataclass(frozen=True, eq=False)
class _NearEdge:
    """Rows of one block and point that only the reference can put in a bin."""

    point: int
    fold: int
    rows: Ints
    hits: Floats


@dataclass(frozen=True, eq=False)
class _PointRows:
    """Rows of a block at one point: the gap of the label, and 1 where the prediction is right."""

    point: int
    label_gaps: Floats
    hits: Floats


@dataclass(eq=False)
class _BlockSums:
    """Sums over one block, of P points."""

    confusion: Ints
    nll: Floats
    brier: Floats
    gaps: Floats
    nll_scaled: Floats
    brier_scaled: Floats
    gaps_scaled: Floats
    slope: Floats
    brier_slope: Floats
    gaps_slope: Floats

    @classmethod
    def zeros(cls, num_points: int, num_bins: int) -> "_BlockSums":
        """Nothing added yet."""
        widths = {"confusion": (NUM_CLASSES**2,), "gaps": (num_bins,), "gaps_scaled": (num_bins,)}
        widths["gaps_slope"] = (num_bins,)
        return cls(
            **{
                field.name: np.zeros(
                    (num_points, *widths.get(field.name, ())), np.int64 if field.name == "confusion" else np.float64
                )
                for field in fields(cls)
            }
        )


@dataclass(frozen=True, eq=False)
class PointFigures:
    """Figures of P points, means over rows.

    Attributes:
        confusion: (P, 7, 7) int64.
        nll: (P,) raw, as the next two.
        brier: (P,).
        ece: (P,).
        inverse: (P,) 1 / temperature after one more Newton step, where one temperature serves all rows.
        correction: (P,) that step, relative; figures are right where it is at most `LARGEST_CORRECTION`.
        nll_scaled: (P,) at the temperatures, as the next two.
        brier_scaled: (P,).
        ece_scaled: (P,).
    """

    confusion: Ints
    nll: Floats
    brier: Floats
    ece: Floats
    inverse: Floats
    correction: Floats
    nll_scaled: Floats
    brier_scaled: Floats
    ece_scaled: Floats


class _Pass:
    """What the work on each block needs to know."""

    def __init__(self, rows: SweepRows, weights: Floats, inverse: Floats, num_bins: int) -> None:
        self.rows, self.weights, self.num_bins = rows, weights, num_bins
        self.slope_blocks = rows.blocks[:1] if rows.num_rows >= _MANY_ROWS else rows.blocks
        self.corrected = inverse.ndim == 1  # one temperature of all rows can be corrected from their slope
        self.inverse = np.repeat(inverse[:, None], rows.num_folds, axis=1) if self.corrected else inverse

    def _near(self, block: Block, rows: _PointRows, binned_gaps: BinnedGaps) -> list[_NearEdge]:
        picked = binned_gaps.near_edge
        return [_NearEdge(rows.point, block.fold, block.rows[picked], rows.hits[picked])] if len(picked) else []

    def of_block(self, block: Block) -> tuple[_BlockSums, list[_NearEdge], list[_NearEdge]]:
        """Sums of a block, and the rows near an edge, raw and scaled."""
        work = WorkArrays(len(block.rows), np.float64)
        sums = _BlockSums.zeros(len(self.weights), self.num_bins)
        near_raw: list[_NearEdge] = []
        near_scaled: list[_NearEdge] = []
        with np.errstate(all="ignore"):  # what is not finite is not accepted
            for point, weights in enumerate(self.weights):
                gaps_to_top(block.scores, weights, work, space=self.rows.space)
                predictions = predictions_of_gaps(self.rows, block, weights, work)
                sums.confusion[point] = confusion_of(block, predictions)
                rows = _PointRows(point, block.at_labels(work.gaps), (predictions == block.labels).astype(np.float64))
                near_raw += self._near(block, rows, self._add_raw(block, work, rows, sums))
                near_scaled += self._near(block, rows, self._add_scaled(block, work, rows, sums))
        return sums, near_raw, near_scaled

    def _add_raw(self, block: Block, work: WorkArrays, rows: _PointRows, sums: _BlockSums) -> BinnedGaps:
        if self.rows.space == "prob":
            figures = figures_of_fused_probs(block, work, rows.label_gaps)
        else:
            masses_at(1.0, work)
            figures = figures_of_masses(block, work, 1.0, rows.label_gaps)
        sums.nll[rows.point], sums.brier[rows.point] = figures.nll, brier_sum(figures)
        by_bin = binned(figures.confidence, rows.hits, num_bins=self.num_bins, margin=_MARGIN_RAW)
        sums.gaps[rows.point] = by_bin.gaps
        return by_bin

    def _add_scaled(self, block: Block, work: WorkArrays, rows: _PointRows, sums: _BlockSums) -> BinnedGaps:
        inverse = self.inverse[rows.point, block.fold]
        masses_at(inverse, work)
        figures = figures_of_masses(block, work, inverse, rows.label_gaps)
        sums.nll_scaled[rows.point], sums.brier_scaled[rows.point] = figures.nll, brier_sum(figures)
        margin = _MARGIN_SCALED if self.corrected else _MARGIN_RAW
        by_bin = binned(figures.confidence, rows.hits, num_bins=self.num_bins, margin=margin)
        sums.gaps_scaled[rows.point] = by_bin.gaps
        if self.corrected:
            expected = expected_gaps(work, figures.confidence)
            sums.slope[rows.point] = expected.sum() - rows.label_gaps.sum()
            if block in self.slope_blocks:
                self._add_slopes(work, figures, by_bin, rows, expected, sums)
        return by_bin

    def _add_slopes(
        self,
        work: WorkArrays,
        figures: RowFigures,
        by_bin: BinnedGaps,
        rows: _PointRows,
        expected: Floats,
        sums: _BlockSums,
    ) -> None:
        """Slopes of the other figures; of many rows only some, as what they are multiplied by is next to nothing."""
        share = sum(len(block.rows) for block in self.slope_blocks) / self.rows.num_rows
        sums.brier_slope[rows.point] = brier_slope(work, figures, rows.label_gaps, expected) / share
        slopes = np.bincount(by_bin.bins, weights=figures.confidence * expected, minlength=self.num_bins + 1)
        sums.gaps_slope[rows.point] = slopes[: self.num_bins] / share  # of correctness - confidence

    def placed(self, gaps: Floats, near: list[_NearEdge], inverse: Floats) -> None:
        """Add the rows near an edge, as the reference places them, to the (P, B) gaps."""
        if not near:
            return
        points = np.concatenate([np.full(len(part.rows), part.point) for part in near])
        folds = np.concatenate([np.full(len(part.rows), part.fold) for part in near])
        picked = np.concatenate([part.rows for part in near])
        confidence = self.rows.confidences(self.weights[points], picked, inverse[points, folds])
        edges = np.array([k / self.num_bins for k in range(1, self.num_bins)])
        places = points * self.num_bins + np.searchsorted(edges, confidence)
        hits = np.concatenate([part.hits for part in near])
        gaps += np.bincount(places, weights=hits - confidence, minlength=gaps.size).reshape(gaps.shape)


def point_figures(
    rows: SweepRows, weights: Floats, inverse: Floats, curvature: Floats | None, *, num_bins: int
) -> PointFigures:
    """Figures of every point.

    Args:
        rows: of the sweep.
        weights: (P, M).
        inverse: (P,) 1 / temperature, nearly the best one, or (P, F) final ones of the rows of each fold.
        curvature: (P,) second derivative of the mean NLL there, for (P,) temperatures.
        num_bins: of the ECE.
    """
    work = _Pass(rows, weights, inverse, num_bins)
    done = rows.per_block(work.of_block)
    totals = _BlockSums.zeros(len(weights), num_bins)
    for sums, _, _ in done:
        for field in fields(sums):
            getattr(totals, field.name)[...] += getattr(sums, field.name)
    with np.errstate(all="ignore"):
        step = np.zeros(len(weights)) if curvature is None else -totals.slope / rows.num_rows / curvature
        relative = np.abs(step) / work.inverse[:, 0]
    usable = np.where(relative <= LARGEST_CORRECTION, step, 0.0)
    final = work.inverse + usable[:, None]
    totals.gaps_scaled += usable[:, None] * totals.gaps_slope
    work.placed(totals.gaps, [near for _, part, _ in done for near in part], np.ones_like(final))
    work.placed(totals.gaps_scaled, [near for _, _, part in done for near in part], final)
    return PointFigures(
        confusion=totals.confusion.reshape(-1, NUM_CLASSES, NUM_CLASSES),
        nll=totals.nll / rows.num_rows,
        brier=totals.brier / rows.num_rows,
        ece=np.abs(totals.gaps).sum(axis=1) / rows.num_rows,
        inverse=work.inverse[:, 0] + np.nan_to_num(step),
        correction=relative,
        nll_scaled=(totals.nll_scaled + 0.5 * usable * totals.slope) / rows.num_rows,
        brier_scaled=(totals.brier_scaled + usable * totals.brier_slope) / rows.num_rows,
        ece_scaled=np.abs(totals.gaps_scaled).sum(axis=1) / rows.num_rows,
    )
