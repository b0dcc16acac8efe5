"""Rows of stored logits laid out for a sweep: blocks of one fold, class-major, small enough for the cache."""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.functional._checks import at_least_float32, check_labels
from fer_lightning.functional.fusion import fuse_log_probs, fuse_logits
from fer_lightning.labels import NUM_CLASSES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Scores = NDArray[Any]  # float32 or float64
Result = TypeVar("Result")

FUSE = {"logit": fuse_logits, "prob": fuse_log_probs}
_BLOCK_ROWS = 8192  # few enough for the cache, enough to outweigh the calls
_NARROW_RANGE = 60.0  # largest |logit| at which float32 finds the temperature to more digits than are needed of it
_LOWEST_PROB, _LOWEST_NARROW_PROB = 1e-290, 1e-30  # have all their digits in float64 and float32
_WEIGHT_ROUNDING = 1e-12
_ROUNDING = 1e-13  # relative; far above what the order of the sums changes, far below any gap that carries meaning


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of one fold, ascending by label.

    Attributes:
        rows: (n,) int64 where they stand in the given order.
        scores: (M, 7, n) float64, logits for the space `logit`, probabilities for `prob`.
        fold: position of the fold, 0 without folds.
        labels: (n,) uint8.
        of_class: for each class, its rows.
    """

    rows: Ints
    scores: Floats
    fold: int
    labels: NDArray[np.uint8]
    of_class: tuple[slice, ...]

    def at_labels(self, table: Scores) -> Scores:
        """(n,) entries of a (7, n) table at the labels."""
        return np.concatenate([row[part] for row, part in zip(table, self.of_class, strict=True)])

    @cached_property
    def narrow_scores(self) -> NDArray[np.float32]:
        """The scores in float32."""
        return self.scores.astype(np.float32)


@dataclass(frozen=True, eq=False)
class SweepRows:
    """Stored logits of M teachers, checked and laid out.

    Attributes:
        logits: (M, N, 7) float64 as given.
        labels: (N,) int64.
        folds: (N,) int64 or None.
        space: `logit` or `prob`.
        num_folds: 1 without folds.
        blocks: all rows, ascending by fold.
        largest_logit: the largest |logit|.
        lowest_prob: the smallest probability in the space `prob`, 1 in `logit`.
    """

    logits: Tensor
    labels: Tensor
    folds: Tensor | None
    space: str
    num_folds: int
    blocks: tuple[Block, ...]
    largest_logit: float
    lowest_prob: float

    @property
    def safe(self) -> bool:
        """Whether no probability underflows."""
        return self.lowest_prob >= _LOWEST_PROB

    @property
    def tie_tolerance(self) -> float:
        """In nats; classes closer than that are told apart by the reference, `fusion`."""
        return _ROUNDING * max(1.0, self.largest_logit)

    @property
    def narrow(self) -> bool:
        """Whether float32 can look for the temperature."""
        return self.largest_logit <= _NARROW_RANGE and self.lowest_prob >= _LOWEST_NARROW_PROB

    @property
    def num_rows(self) -> int:
        """Rows in the blocks."""
        return sum(len(block.rows) for block in self.blocks)

    def without(self, fold: int) -> "SweepRows":
        """The blocks of all other folds."""
        return replace(self, blocks=tuple(block for block in self.blocks if block.fold != fold))

    def fused(self, weights: Floats, rows: Ints | None = None) -> Tensor:
        """Return the fused scores of `fusion`, of all or some rows."""
        logits = self.logits if rows is None else self.logits[:, torch.from_numpy(rows)]
        return FUSE[self.space](logits, torch.from_numpy(weights))

    def confidences(self, weights: Floats, rows: Ints, inverse: Floats) -> Floats:
        """(K,) confidences of K rows as the reference computes them, each row at weights and a temperature of its own.

        Args:
            weights: (K, M).
            rows: (K,) positions.
            inverse: (K,) 1 / temperature.
        """
        logits, shares = self.logits[:, torch.from_numpy(rows)], torch.from_numpy(weights).T[:, :, None]
        shares = shares / shares.sum(dim=0)
        mixed = self.space == "prob"
        fused = (shares.log() + logits.log_softmax(dim=2)).logsumexp(dim=0) if mixed else (shares * logits).sum(dim=0)
        scaled = fused / (1.0 / torch.from_numpy(inverse))[:, None]
        top: Floats = scaled.log_softmax(dim=1).amax(dim=1).exp().numpy()
        return top

    def per_block(self, work: Callable[[Block], Result]) -> list[Result]:
        """Do the work for each block, on as many threads as torch has, and return the results in order."""
        with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:
            return list(pool.map(work, self.blocks))

    def sample(self, num_rows: int) -> Block:
        """About that many rows, evenly spread, as one block."""
        kept = torch.arange(0, self.num_rows, max(1, self.num_rows // num_rows))
        return _block(self.logits, kept, self.labels, 0, self.space)

    def thinned(self, num_rows: int) -> "SweepRows":
        """About that many rows, evenly spread."""
        kept = slice(None, None, max(1, self.num_rows // num_rows))
        return _laid_out(self.logits[:, kept], self.labels[kept], None, self.space)


def checked_weights(weights: Tensor | Sequence[Sequence[float]], num_teachers: int) -> Floats:
    """Return (P, M) float64 weights whose rows sum to 1, untouched where they do so to 1e-12.

    Raises:
        ValueError: wrong shape, negative, not finite, or a row that does not sum to 1.
    """
    given = weights if isinstance(weights, Tensor) else torch.tensor(weights, dtype=torch.float64)
    points = given.detach().to("cpu", torch.float64).numpy()
    if points.ndim != 2 or len(points) == 0 or points.shape[1] != num_teachers:
        raise ValueError(f"weights must have shape (P, {num_teachers}) with P >= 1, got {points.shape}")
    sums = points.sum(axis=1)
    wrong = ~(np.isfinite(points) & (points >= 0.0)).all(axis=1) | ~(np.abs(sums - 1.0) <= 1e-6)
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(
            f"weights must be finite, non-negative and sum to 1 within 1e-06; point {first} is "
            f"{points[first].tolist()} with sum {sums[first]:.9g}"
        )
    inexact = np.abs(sums - 1.0) > _WEIGHT_ROUNDING  # `fusion` divides by the sum; here rounding would only add to it
    return np.where(inexact[:, None], points / sums[:, None], points)


def _block(logits: Tensor, rows: Tensor, labels: Tensor, fold: int, space: str) -> Block:
    """Lay out some rows of (M, N, 7) logits."""
    rows = rows[labels[rows].argsort(stable=True)]
    of_rows = labels[rows]
    ends = torch.bincount(of_rows, minlength=NUM_CLASSES).cumsum(dim=0).tolist()
    scores = logits[:, rows].transpose(1, 2).contiguous()
    return Block(
        rows=rows.numpy(),
        scores=(scores.softmax(dim=1) if space == "prob" else scores).numpy(),
        fold=fold,
        labels=of_rows.numpy().astype(np.uint8),
        of_class=tuple(slice(start, end) for start, end in itertools.pairwise([0, *ends])),
    )


def _laid_out(logits: Tensor, labels: Tensor, folds: Tensor | None, space: str) -> SweepRows:
    """Lay out what has been checked."""
    positions = (
        torch.zeros_like(labels)
        if folds is None
        else torch.from_numpy(np.unique(folds.numpy(), return_inverse=True)[1])
    )
    num_folds = int(positions.max()) + 1
    blocks = []
    for fold in range(num_folds):
        rows = (positions == fold).nonzero()[:, 0]
        pairs = -(-len(rows) // (2 * _BLOCK_ROWS))  # an even number of blocks keeps two cores equally busy
        blocks += [_block(logits, part, labels, fold, space) for part in rows.chunk(min(2 * pairs, len(rows)))]
    return SweepRows(
        logits=logits,
        labels=labels,
        folds=folds,
        space=space,
        num_folds=num_folds,
        blocks=tuple(blocks),
        largest_logit=max(abs(float(bound)) for bound in logits.aminmax()),
        lowest_prob=min(float(block.scores.min()) for block in blocks) if space == "prob" else 1.0,
    )


def sweep_rows(teacher_logits: Tensor, labels: Tensor, *, space: str, folds: Tensor | None = None) -> SweepRows:
    """Check stored logits and lay them out, once for any number of weights.

    Args:
        teacher_logits: (M, N, 7) float.
        labels: (N,) int64.
        space: `logit` or `prob`, see `fusion`.
        folds: (N,) int64 or None.

    Raises:
        ValueError: shapes, types or ranges; logits that are not finite.
    """
    if teacher_logits.ndim != 3 or teacher_logits.numel() == 0 or teacher_logits.shape[2] != NUM_CLASSES:
        raise ValueError(f"teacher_logits must have shape (M, N, {NUM_CLASSES}), got {tuple(teacher_logits.shape)}")
    if space not in FUSE:
        raise ValueError(f"space must be one of {', '.join(FUSE)}, got {space!r}")
    logits = at_least_float32(teacher_logits, name="teacher_logits").detach().to("cpu", torch.float64)
    if not all(bool(torch.isfinite(bound)) for bound in logits.aminmax()):
        finite = torch.isfinite(logits).all(dim=2)
        teacher, row = (int(position) for position in (~finite).nonzero()[0])
        raise ValueError(
            f"teacher_logits must be finite; {int((~finite).sum())} rows are not, first row {row} of teacher {teacher}"
        )
    labels = check_labels(labels.detach().cpu(), num_rows=logits.shape[1], num_classes=NUM_CLASSES)
    if folds is not None:
        folds = folds.detach().cpu()
        if folds.shape != labels.shape or folds.is_floating_point() or folds.dtype == torch.bool:
            raise ValueError(
                f"folds must be integers of shape {tuple(labels.shape)}, got {folds.dtype} {tuple(folds.shape)}"
            )
    return _laid_out(logits, labels, folds, space)
