"""Affine calibrators: per-class temperature, vector scaling, and Dirichlet calibration with ODIR."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fer_lightning.functional._box_newton import minimise_nll
from fer_lightning.functional._checks import at_least_float32
from fer_lightning.functional._temperature import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    checked_calibration_set,
    fit_temperature,
    mean_nll,
)

_MAX_COEFFICIENT = 1e2  # of scales, matrix entries and biases: stops separable sets from running off to infinity


def _with_classes(logits: Tensor, num_classes: int) -> Tensor:
    """Logits in at least float32, of the number of classes the calibrator was fitted on."""
    if logits.ndim == 0 or logits.shape[-1] != num_classes:
        raise ValueError(f"calibrator was fitted on {num_classes} classes, got logits {tuple(logits.shape)}")
    return at_least_float32(logits, name="logits")


@dataclass(frozen=True, eq=False)
class PerClassTemperatureFit:
    """One temperature per logit.

    Attributes:
        temperatures: (C,) float64, logit j is divided by entry j.
        nll: mean NLL in nats of the rows it was fitted on.
        at_bound: some temperature sits at 1e-2 or 1e3.
    """

    temperatures: Tensor
    nll: float
    at_bound: bool

    def apply(self, logits: Tensor) -> Tensor:
        """Return log_softmax(logits / temperatures), (..., C) -> (..., C)."""
        logits = _with_classes(logits, len(self.temperatures))
        return (logits / self.temperatures.to(logits)).log_softmax(dim=-1)


@dataclass(frozen=True, eq=False)
class VectorScalingFit:
    """One scale and bias per logit.

    Attributes:
        scales: (C,) float64.
        biases: (C,) float64, mean 0.
        nll: mean NLL in nats of the rows it was fitted on.
        at_bound: some coefficient sits at +-100.
    """

    scales: Tensor
    biases: Tensor
    nll: float
    at_bound: bool

    def apply(self, logits: Tensor) -> Tensor:
        """Return log_softmax(scales * logits + biases), (..., C) -> (..., C)."""
        logits = _with_classes(logits, len(self.scales))
        return (logits * self.scales.to(logits) + self.biases.to(logits)).log_softmax(dim=-1)


@dataclass(frozen=True, eq=False)
class DirichletFit:
    """A matrix and bias on log-probabilities.

    Attributes:
        matrix: (C, C) float64, row j makes the new score of class j.
        biases: (C,) float64.
        nll: mean NLL in nats of the rows it was fitted on, without the penalties.
        at_bound: some coefficient sits at +-100.
    """

    matrix: Tensor
    biases: Tensor
    nll: float
    at_bound: bool

    def apply(self, logits: Tensor) -> Tensor:
        """Return log_softmax(matrix log_softmax(logits) + biases), (..., C) -> (..., C)."""
        log_probs = _with_classes(logits, len(self.biases)).log_softmax(dim=-1)
        return (log_probs @ self.matrix.T.to(log_probs) + self.biases.to(log_probs)).log_softmax(dim=-1)


def _at_bound(point: Tensor, low: Tensor, high: Tensor) -> bool:
    """Whether any coefficient ended on the edge of the box."""
    return bool(((point <= low) | (point >= high)).any())


def _unit(logits: Tensor) -> tuple[Tensor, float]:
    """Divide by the rms of the row-centred logits, which keeps the Hessian well conditioned; and that rms."""
    centred = logits - logits.mean(dim=1, keepdim=True)
    rms = float(centred.square().mean().sqrt())
    return (logits / rms, rms) if rms > 0.0 else (logits, 1.0)


def fit_per_class_temperature(logits: Tensor, labels: Tensor) -> PerClassTemperatureFit:
    """Fit one temperature per logit by minimising the mean NLL of log_softmax(logits_j / temperature_j).

    Convex in the inverse temperatures, which start at the optimum of `fit_temperature` and stay in [1e-3, 1e2].
    Unlike one temperature this can change the predicted class, and row shifts of the logits matter.

    Args:
        logits: (N, C) float, finite.
        labels: (N,) int64.

    Raises:
        ValueError: empty, wrong shape or type, label out of range, NaN or infinite logits.
    """
    logits, labels = checked_calibration_set(logits, labels)
    inputs, rms = _unit(logits)
    ones = torch.ones(logits.shape[1], 1, dtype=torch.float64)
    low, high = ones * rms / MAX_TEMPERATURE, ones * rms / MIN_TEMPERATURE
    start = ones * rms / fit_temperature(logits, labels).temperature
    inverse = minimise_nll(inputs.unsqueeze(2), labels, start=start, low=low, high=high)
    return PerClassTemperatureFit(
        temperatures=rms / inverse[:, 0],
        nll=mean_nll(inputs * inverse[:, 0], labels),
        at_bound=_at_bound(inverse, low, high),
    )


def fit_vector_scaling(logits: Tensor, labels: Tensor) -> VectorScalingFit:
    """Fit scales and biases by minimising the mean NLL of log_softmax(scales * logits + biases).

    Convex, without penalty, started from the one temperature; coefficients stay in +-100. Biases are reported with
    mean 0, since a common shift changes nothing.

    Reference: Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599, section 4.2
    (matrix and vector scaling).

    Args:
        logits: (N, C) float, finite.
        labels: (N,) int64.

    Raises:
        ValueError: empty, wrong shape or type, label out of range, NaN or infinite logits.
    """
    logits, labels = checked_calibration_set(logits, labels)
    inputs, rms = _unit(logits)
    ones = torch.ones(logits.shape[1], dtype=torch.float64)
    reach = torch.stack([ones * rms, ones], dim=1) * _MAX_COEFFICIENT
    start = torch.stack([ones * rms / fit_temperature(logits, labels).temperature, 0.0 * ones], dim=1)
    features = torch.stack([inputs, torch.ones_like(inputs)], dim=2)
    point = minimise_nll(features, labels, start=start, low=-reach, high=reach)
    scales, biases = point.unbind(dim=1)
    return VectorScalingFit(
        scales=scales / rms,
        biases=biases - biases.mean(),
        nll=mean_nll(inputs * scales + biases, labels),
        at_bound=_at_bound(point, -reach, reach),
    )


def fit_dirichlet(
    logits: Tensor, labels: Tensor, *, off_diagonal_penalty: float = 1e-3, bias_penalty: float = 1e-3
) -> DirichletFit:
    """Fit Dirichlet calibration with off-diagonal and intercept regularisation (ODIR).

    With W (C, C), b (C,), and log p = log_softmax(logits), minimises

        mean NLL of log_softmax(W log p + b) + lambda sum_{i != j} W_ij^2 / (C (C - 1)) + mu sum_j b_j^2 / C

    from W = identity, b = 0; coefficients stay in +-100. The objective is convex.

    Reference: Kull et al., Beyond temperature scaling, https://arxiv.org/abs/1910.12656, sections 3 and 4.

    Args:
        logits: (N, C) float, finite.
        labels: (N,) int64.
        off_diagonal_penalty: lambda, >= 0.
        bias_penalty: mu, >= 0.

    Raises:
        ValueError: empty, wrong shape or type, label out of range, NaN or infinite logits, negative penalty.
    """
    if not (off_diagonal_penalty >= 0.0 and bias_penalty >= 0.0):
        raise ValueError(f"penalties must be >= 0, got {off_diagonal_penalty} and {bias_penalty}")
    logits, labels = checked_calibration_set(logits, labels)
    inputs, rms = _unit(logits.log_softmax(dim=1))
    num_rows, num_classes = inputs.shape
    identity = torch.eye(num_classes, dtype=torch.float64)
    column = torch.ones(num_classes, 1, dtype=torch.float64)
    num_off_diagonal = max(num_classes * (num_classes - 1), 1)
    off_diagonal_pull = 2.0 * off_diagonal_penalty / num_off_diagonal / rms**2 * (1.0 - identity)
    reach = torch.cat([torch.full_like(identity, rms), column], dim=1) * _MAX_COEFFICIENT
    features = torch.cat([inputs, torch.ones(num_rows, 1, dtype=torch.float64)], dim=1)
    point = minimise_nll(
        features.unsqueeze(1).expand(-1, num_classes, -1),
        labels,
        start=torch.cat([identity * rms, 0.0 * column], dim=1),
        low=-reach,
        high=reach,
        pull=torch.cat([off_diagonal_pull, 2.0 * bias_penalty / num_classes * column], dim=1),
    )
    return DirichletFit(
        matrix=point[:, :-1] / rms,
        biases=point[:, -1].clone(),
        nll=mean_nll(features @ point.T, labels),
        at_bound=_at_bound(point, -reach, reach),
    )
