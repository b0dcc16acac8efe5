"""Weights of the lowest NLL in logit space on resamples of the rows, each by one Newton step from those of all rows."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from fer_lightning.functional._temperature import gaps_to_label

_DAMPING = 1e-12  # of the largest curvature: teachers may be equal

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def _row_slopes(teacher_logits: Tensor, labels: Tensor, masses: Tensor) -> tuple[Floats, Floats]:
    """(N, M) slopes and the (M, M) mean curvature of the NLL in masses = weights / temperature."""
    fused = (masses.view(-1, 1, 1) * teacher_logits).sum(dim=0)
    probs = fused.softmax(dim=1).T.contiguous()
    gaps = [gaps_to_label(logits, labels) for logits in teacher_logits]
    slopes = np.stack([(probs * of).sum(dim=0).numpy() for of in gaps], axis=1)
    weighted = [(probs * of).flatten() for of in gaps]
    squares = np.array([[float(a @ b.flatten()) for b in gaps] for a in weighted])
    return slopes, (squares - slopes.T @ slopes) / len(labels)


def refitted_shares(
    teacher_logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    temperature: float,
    drawn: NDArray[np.uint8],
    group_of: Ints,
) -> Floats:
    """Minimise the second-order expansion of each resample's NLL over non-negative weights and the temperature.

    The slope is that of the resample, the curvature that of all rows; the bounds are kept exactly, by non-negative
    least squares.

    Args:
        teacher_logits: (M, N, 7) float64.
        labels: (N,) int64.
        weights: (M,) of the lowest NLL of all rows, or near it.
        temperature: with which they have it.
        drawn: (R, G) times each group was drawn.
        group_of: (N,) group of each row.

    Returns:
        (R, M) weights, those of all rows where a resample leaves none.
    """
    masses = weights / temperature
    slopes, curvature = _row_slopes(teacher_logits, labels, masses)
    times = drawn.astype(np.float64)
    by_group = np.stack([np.bincount(group_of, weights=column) for column in slopes.T], axis=1)
    resampled = times @ by_group / (times @ np.bincount(group_of))[:, None]
    damped = curvature + _DAMPING * curvature.diagonal().max() * np.eye(len(curvature))
    root = np.linalg.cholesky(damped).T
    shares = np.empty_like(resampled)
    for place, slope in enumerate(resampled):
        found, _ = nnls(root, np.linalg.solve(root.T, damped @ masses.numpy() - slope))
        shares[place] = found / found.sum() if found.any() else weights.numpy()
    return shares
