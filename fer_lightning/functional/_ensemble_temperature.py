"""Ensemble temperature scaling: a mixture of the scaled softmax, the softmax itself and the uniform distribution."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from fer_lightning.functional._calibration_set import check_coefficients, checked_calibration_set
from fer_lightning.functional._checks import at_least_float32
from fer_lightning.functional._temperature import fit_temperature

_SUM_TOLERANCE = 1e-9  # of the weights
_MAX_STEPS = 200
_MAX_HALVINGS = 50
_GAP = 1e-14  # of the mean NLL above its minimum
_DAMPING = 1e-12  # of the largest curvature: components may be equal, as for temperature 1

_Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EnsembleTemperatureFit:
    """Weights of three distributions.

    Attributes:
        temperature: of the first, softmax(logits / temperature).
        weights: (3,) float64, >= 0, sum 1: of the scaled softmax, of softmax(logits), and of the uniform.
        nll: mean NLL in nats of the rows it was fitted on.
        at_bound: the temperature lies at its bound. A weight of 0 is no bound in this sense: it leaves one out.
    """

    temperature: float
    weights: Tensor
    nll: float
    at_bound: bool

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0.0):
            raise ValueError(f"temperature must be positive and finite, got {self.temperature}")
        check_coefficients(self.weights, name="weights", shape=(3,))
        if bool((self.weights < 0.0).any()) or abs(float(self.weights.sum()) - 1.0) > _SUM_TOLERANCE:
            raise ValueError(f"weights must be >= 0 with sum 1, got {self.weights.tolist()}")

    def apply(self, logits: Tensor) -> Tensor:
        """Return the logarithm of the mixture, (..., C) -> (..., C)."""
        components = _component_log_probs(at_least_float32(logits, name="logits"), self.temperature)
        return _mixture(components, self.weights)


def _component_log_probs(logits: Tensor, temperature: float) -> Tensor:
    """(3, ...): the scaled softmax, the softmax and the uniform."""
    scaled = (logits / temperature).log_softmax(dim=-1)
    uniform = torch.full_like(logits, -math.log(logits.shape[-1]))
    return torch.stack([scaled, logits.log_softmax(dim=-1), uniform])


def _mixture(log_probs: Tensor, weights: Tensor) -> Tensor:
    """Return log sum_k weights_k exp(log_probs_k) over the first axis."""
    shape = (-1,) + (1,) * (log_probs.ndim - 1)
    return (log_probs + weights.log().to(log_probs).reshape(shape)).logsumexp(dim=0)


def mixture_weights(likelihoods: _Array) -> _Array:
    """Weights on the simplex that minimise f(w) = -mean_i log(r_i w), for likelihoods r (N, K) > 0 in some column.

    f(w) + sum(w) has the same minimum with the sign constraint alone. Each step minimises its second-order expansion
    over w >= 0 exactly (a non-negative least-squares problem in K unknowns) and is halved until f falls. With
    m_k = mean_i r_ik / (r_i w), f(w) is at most max(m) - 1 above its minimum, which decides when to stop.

    Reference: Kim et al., A fast algorithm for maximum likelihood estimation of mixture proportions using sequential
    quadratic programming, https://arxiv.org/abs/1806.01412.
    """
    num_rows, num_components = likelihoods.shape
    weights = np.full(num_components, 1.0 / num_components)
    value = -float(np.log(likelihoods @ weights).mean())
    for _ in range(_MAX_STEPS):
        shares = likelihoods / (likelihoods @ weights)[:, None]
        means = shares.mean(axis=0)
        if means.max() - 1.0 <= _GAP:
            break
        hessian = shares.T @ shares / num_rows
        damping = _DAMPING * hessian.diagonal().max()
        root = np.linalg.cholesky(hessian + damping * np.eye(num_components)).T
        target, _ = nnls(root, np.linalg.solve(root.T, 2.0 * means - 1.0 + damping * weights))
        for halving in range(_MAX_HALVINGS):
            candidate = weights + 0.5**halving * (target - weights)
            candidate /= candidate.sum()
            with np.errstate(divide="ignore"):
                new_value = -float(np.log(likelihoods @ candidate).mean())
            if new_value < value:
                break
        else:
            break
        weights, value = candidate, new_value
    return weights


def fit_ensemble_temperature(logits: Tensor, labels: Tensor) -> EnsembleTemperatureFit:
    """Fit p = w1 softmax(z / T) + w2 softmax(z) + w3 / C, with T of `fit_temperature` and w of the smallest mean NLL.

    Convex in w, and solved to rounding. All three keep the order of the classes, so the prediction stays.

    Reference: Zhang, Kailkhura & Han, Mix-n-Match, https://arxiv.org/abs/2003.07329, ensemble temperature scaling.

    Args:
        logits: (N, C) float, finite.
        labels: (N,) int64.

    Raises:
        ValueError: as `fit_temperature`.
    """
    logits, labels = checked_calibration_set(logits, labels)
    single = fit_temperature(logits, labels)
    components = _component_log_probs(logits, single.temperature)
    of_label = components[:, torch.arange(len(labels)), labels]
    relative = (of_label - of_label.amax(dim=0)).exp_()  # a factor per row moves no minimum, and nothing underflows
    weights = torch.from_numpy(mixture_weights(relative.T.contiguous().numpy()))
    nll = max(0.0, -float(_mixture(of_label, weights).mean()))  # logsumexp may round to just above 0
    return EnsembleTemperatureFit(single.temperature, weights, nll, at_bound=single.at_bound)
