"""How sharp soft targets are at a KD temperature, and the temperature at which they are as soft as wanted."""

import math
from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor
from torch.special import entr

from fer_lightning.functional._checks import check_labels, check_matrix
from fer_lightning.functional._temperature import MAX_TEMPERATURE, MIN_TEMPERATURE

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Told of every spread."""


@dataclass(frozen=True)
class Spread:
    """How a value is spread over rows.

    Attributes:
        mean: over rows.
        quantiles: of `QUANTILES`, linear between rows.
    """

    mean: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class Sharpness:
    """Soft targets softmax(logits / kd_temperature) of some rows.

    Attributes:
        kd_temperature: divides the logits.
        n: rows.
        max_prob: largest probability of a row.
        second_prob: second-largest probability of a row.
        entropy: of a row, in nats.
        entropy_share: the same, divided by log C: 0 is one-hot, 1 uniform.
        mean_true_prob: mean probability of the true class; None without labels.
    """

    kd_temperature: float
    n: int
    max_prob: Spread
    second_prob: Spread
    entropy: Spread
    entropy_share: Spread
    mean_true_prob: float | None


@dataclass(frozen=True)
class EntropyTemperature:
    """The KD temperature for a wanted mean entropy.

    Attributes:
        kd_temperature: the temperature; the nearer bound where none within the bounds gives the entropy.
        entropy_share: mean entropy at it, divided by log C.
        reached: whether that is the entropy wanted.
    """

    kd_temperature: float
    entropy_share: float
    reached: bool


def _checked(logits: Tensor) -> Tensor:
    """Return finite (N, C) logits in float64, with the largest of each row at 0."""
    logits = check_matrix(logits, name="logits", min_classes=2).detach().to("cpu", torch.float64)
    if not bool(logits.isfinite().all()):
        raise ValueError(f"logits are not finite in {int((~logits.isfinite()).any(dim=1).sum())} of {len(logits)} rows")
    return logits - logits.amax(dim=1, keepdim=True)


def _check_temperature(kd_temperature: float) -> None:
    if not (math.isfinite(kd_temperature) and kd_temperature > 0.0):
        raise ValueError(f"kd_temperature must be positive and finite, got {kd_temperature}")


def _spread(values: Tensor) -> Spread:
    ordered = values.sort().values  # torch.quantile takes no more than 16 million values, and sorts once per call
    places = torch.tensor(QUANTILES, dtype=torch.float64) * (len(ordered) - 1)
    low, high = ordered[places.floor().long()], ordered[places.ceil().long()]
    quantiles = low + (high - low) * places.frac()
    return Spread(float(values.mean()), tuple(quantiles.tolist()))


def sharpness(logits: Tensor, *, kd_temperature: float, labels: Tensor | None = None) -> Sharpness:
    """Spreads of the largest and second-largest probability and of the entropy of soft targets, all in float64.

    Args:
        logits: (N, C) float, finite, C >= 2; half precision is widened.
        kd_temperature: > 0, divides the logits.
        labels: (N,) int64 true classes.

    Raises:
        ValueError: wrong shape or type, logits that are not finite, a temperature that is not positive, a label out of range.
    """
    shifted = _checked(logits)
    _check_temperature(kd_temperature)
    probs = (shifted / kd_temperature).softmax(dim=1)
    largest = probs.topk(2, dim=1).values
    entropy = entr(probs).sum(dim=1)
    true_prob = None
    if labels is not None:
        labels = check_labels(labels.detach().cpu(), num_rows=probs.shape[0], num_classes=probs.shape[1])
        true_prob = float(probs.gather(1, labels.unsqueeze(1)).mean())
    return Sharpness(
        kd_temperature=kd_temperature,
        n=probs.shape[0],
        max_prob=_spread(largest[:, 0]),
        second_prob=_spread(largest[:, 1]),
        entropy=_spread(entropy),
        entropy_share=_spread(entropy / math.log(probs.shape[1])),
        mean_true_prob=true_prob,
    )


def kd_temperature_for_entropy(
    logits: Tensor, *, target_entropy: float, bounds: tuple[float, float] = (MIN_TEMPERATURE, MAX_TEMPERATURE)
) -> EntropyTemperature:
    """KD temperature at which soft targets have a wanted mean entropy, by Brent's method on log T.

    There is at most one: with b = 1/T and p proportional to exp(b z), the entropy of a row is H = log sum exp(b z) - b E[z], so
    dH/db = -b Var_p[z], and dH/dT = Var_p[z] / T^3 >= 0: the entropy of every row, and so their mean, grows with T.
    It runs from the logarithm of the number of equal largest logits (T to 0) to log C (T to infinity).

    Args:
        logits: (N, C) float, finite, C >= 2.
        target_entropy: wanted mean entropy, divided by log C; in (0, 1).
        bounds: lowest and highest temperature.

    Raises:
        ValueError: wrong shape or type, logits that are not finite, a target outside (0, 1), bounds that are not 0 < low < high.
    """
    shifted = _checked(logits).T.contiguous()  # reducing over the first axis is several times faster than over seven
    if not 0.0 < target_entropy < 1.0:
        raise ValueError(f"target_entropy must lie in (0, 1), a share of log C, got {target_entropy}")
    low, high = bounds
    if not 0.0 < low < high < math.inf:
        raise ValueError(f"bounds must be 0 < low < high, got {bounds}")

    def entropy_share(log_temperature: float) -> float:
        scaled = shifted * math.exp(-log_temperature)
        masses = scaled.exp()
        sums = masses.sum(dim=0)
        entropies = sums.log() - (masses * scaled).sum(dim=0) / sums
        return float(entropies.mean()) / math.log(shifted.shape[0])

    at_low, at_high = entropy_share(math.log(low)), entropy_share(math.log(high))
    if not at_low <= target_entropy <= at_high:
        bound, share = (low, at_low) if target_entropy < at_low else (high, at_high)
        return EntropyTemperature(bound, share, reached=False)
    root = float(brentq(lambda t: entropy_share(t) - target_entropy, math.log(low), math.log(high), xtol=1e-13))
    return EntropyTemperature(math.exp(root), entropy_share(root), reached=True)
