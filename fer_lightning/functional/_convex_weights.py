"""Weights of the lowest NLL, where that is a convex problem: with the temperature in logit space, at 1 in prob space."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from fer_lightning.functional._ensemble_temperature import mixture_weights
from fer_lightning.functional._temperature import MIN_TEMPERATURE

_NEGLIGIBLE = 1e-6  # share below which a weight is the optimiser's rounding

Floats = NDArray[np.float64]


def _shares(masses: Floats) -> Tensor:
    """Masses divided by their sum, the negligible ones 0."""
    shares = np.where(masses < _NEGLIGIBLE * masses.sum(), 0.0, masses)
    return torch.from_numpy(shares / shares.sum())


def lowest_logit_nll(teacher_logits: Tensor, labels: Tensor) -> Tensor | None:
    """Weights whose weighted mean of logits has the lowest NLL at its own temperature.

        minimise over v >= 0:  mean_i (logsumexp_c sum_m v_m z_mic - sum_m v_m z_miy),   v = weights / temperature

    Convex in v, so weights and temperature are found together, by L-BFGS-B with the exact gradient. Each v_m is at most
    100, the inverse of the lowest temperature, where the rows can be separated.

    Args:
        teacher_logits: (M, N, C) float64, finite.
        labels: (N,) int64.

    Returns:
        (M,) weights, or None where no positive mixture is better than knowing nothing.
    """
    num_teachers, num_rows, _ = teacher_logits.shape
    place = labels.view(1, -1, 1).expand(num_teachers, -1, 1)
    gaps = (teacher_logits - teacher_logits.gather(2, place)).transpose(1, 2).contiguous()  # (M, C, N)
    spread = gaps.flatten(1).square().mean(dim=1).sqrt()
    telling = spread > 0.0  # a teacher that says the same of every class changes nothing
    spread = spread.where(telling, 1.0)
    flat = gaps.flatten(1) / spread.unsqueeze(1)

    def value_and_slope(masses: NDArray[Any]) -> tuple[float, Floats]:  # of any shape, as scipy's stubs have it
        scores = (torch.tensor(masses) @ flat).view(-1, num_rows)
        norms = scores.logsumexp(dim=0)
        probs = scores.sub_(norms).exp_()
        return float(norms.mean()), (flat @ probs.flatten() / num_rows).numpy()

    most = (telling * spread / MIN_TEMPERATURE).tolist()
    found = minimize(
        value_and_slope,
        [min(1.0 / num_teachers, top) for top in most],
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, top) for top in most],
        options={"maxiter": 1000, "maxfun": 2000, "ftol": 1e-15, "gtol": 1e-10},
    )
    masses: Floats = found.x / spread.numpy()
    return _shares(masses) if masses.any() else None


def lowest_mixture_nll(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Weights whose weighted mean of softmaxes has the lowest NLL as it is, at temperature 1.

        minimise over w >= 0 with sum 1:  -mean_i log sum_m w_m p_miy

    is convex, and solved to rounding (`mixture_weights`).

    Args:
        teacher_logits: (M, N, C) float64, finite.
        labels: (N,) int64.

    Returns:
        (M,) weights.
    """
    place = labels.view(1, -1, 1).expand(len(teacher_logits), -1, 1)
    log_probs = teacher_logits.log_softmax(dim=2).gather(2, place)[:, :, 0]
    relative = (log_probs - log_probs.amax(dim=0)).exp()  # a factor per row moves no minimum, and nothing underflows
    return _shares(mixture_weights(relative.T.contiguous().numpy()))
