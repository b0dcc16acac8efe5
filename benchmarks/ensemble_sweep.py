"""Figures and temperatures of 132 ensembles against loops over them: time and largest differences.

Command: python -m benchmarks.ensemble_sweep
66 points of the simplex of three teachers in the spaces logit and prob on 50,000 x 7 float32 logits. Loops, each timed
on a few of the points and scaled to all: torch fusion in float64, torchmetrics accuracy, F1 and ECE of raw and scaled
probabilities, Brier score, NLL and a temperature by `torch.optim.LBFGS([temperature], lr=0.01, max_iter=50)` as most
calibration code has it, which does not arrive at the optimum, so its scaled figures are of another temperature; the
same with an LBFGS that converges; and the functions of this package, one point after the other, without and with
cross-fitting. torchmetrics averages F1 and bins the ECE in float32, whose edges a row can cross: its ECE differs by up
to 2e-5 a row that does.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
)

from fer_lightning.functional.calibration import cross_fitted_log_probs, fit_temperature
from fer_lightning.functional.ensemble_sweep import FusionSweep, confusions, sweep_weights
from fer_lightning.functional.fusion import fuse_log_probs, fuse_logits
from fer_lightning.functional.reliability import (
    brier_score,
    classification_scores,
    expected_calibration_error,
    negative_log_likelihood,
)
from fer_lightning.labels import MINORITY_INDICES

_ROWS, _CLASSES, _TEACHERS, _STEPS, _FOLDS, _REPEATS = 50_000, 7, 3, 10, 5, 5
_FUSE = {"logit": fuse_logits, "prob": fuse_log_probs}
_SHARES = (0.12, 0.04, 0.08, 0.35, 0.13, 0.08, 0.20)

Figures = dict[str, float]
Temperature = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True, eq=False)
class _Job:
    """What is swept."""

    logits: Tensor
    labels: Tensor
    weights: Tensor
    folds: Tensor


def _job() -> _Job:
    generator = torch.Generator().manual_seed(0)
    labels = torch.multinomial(torch.tensor(_SHARES), _ROWS, replacement=True, generator=generator)
    shared = torch.randn(_ROWS, _CLASSES, generator=generator)
    own = torch.randn(_TEACHERS, _ROWS, _CLASSES, generator=generator)
    scales = torch.tensor([1.3, 2.1, 1.0])[:, None, None]
    logits = (functional.one_hot(labels, _CLASSES) * 2.2 + 0.8 * shared + 0.8 * own) * scales
    corners = itertools.product(range(_STEPS + 1), repeat=_TEACHERS)
    weights = [[k / _STEPS for k in point] for point in corners if sum(point) == _STEPS]
    return _Job(logits, labels, torch.tensor(weights, dtype=torch.float64), torch.arange(_ROWS) % _FOLDS)


def _lbfgs(logits: Tensor, labels: Tensor, **options: float | str) -> float:
    temperature = torch.ones(1, dtype=logits.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([temperature], **options)  # type: ignore[arg-type]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(logits / temperature, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return float(temperature.detach())


def _common(logits: Tensor, labels: Tensor) -> float:
    return _lbfgs(logits, labels, lr=0.01, max_iter=50)


def _converging(logits: Tensor, labels: Tensor) -> float:
    options = {"lr": 1.0, "max_iter": 100, "tolerance_grad": 1e-11, "tolerance_change": 1e-15}
    return _lbfgs(logits, labels, **options, line_search_fn="strong_wolfe")


def _with_torchmetrics(job: _Job, point: Tensor, space: str, temperature_of: Temperature) -> Figures:
    if space == "logit":
        fused = (point[:, None, None] * job.logits.double()).sum(dim=0)
    else:
        fused = (point[:, None, None] * job.logits.double().softmax(dim=2)).sum(dim=0).log()
    temperature = temperature_of(fused, job.labels)
    predictions = fused.argmax(dim=1)
    f1 = multiclass_f1_score(predictions, job.labels, _CLASSES, average=None)
    figures = {
        "accuracy": float(multiclass_accuracy(predictions, job.labels, _CLASSES, average="micro")),
        "macro_f1": float(f1.mean()),
        "minority_f1": float(f1[list(MINORITY_INDICES)].mean()),
        "temperatures": temperature,
    }
    for suffix, logits in (("", fused), ("_scaled", fused / temperature)):
        probs = logits.softmax(dim=1)
        figures[f"nll{suffix}"] = float(functional.cross_entropy(logits, job.labels))
        figures[f"ece{suffix}"] = float(multiclass_calibration_error(probs, job.labels, _CLASSES, n_bins=15))
        one_hot = functional.one_hot(job.labels, _CLASSES)
        figures[f"brier{suffix}"] = float((probs - one_hot).square().sum(dim=1).mean())
    return figures


def _one_by_one(job: _Job, point: Tensor, space: str, folds: Tensor | None) -> Figures:
    fused = _FUSE[space](job.logits.double(), point)
    scores = classification_scores(fused.argmax(dim=1), job.labels)
    fit = fit_temperature(fused, job.labels)
    scaled = fit.apply(fused) if folds is None else cross_fitted_log_probs(fused, job.labels, folds)
    figures = {name: getattr(scores, name) for name in ("accuracy", "macro_f1", "minority_f1")}
    figures["temperatures"] = fit.temperature
    for suffix, log_probs in (("", fused.log_softmax(dim=1)), ("_scaled", scaled)):
        figures[f"nll{suffix}"] = float(negative_log_likelihood(log_probs, job.labels))
        figures[f"ece{suffix}"] = float(expected_calibration_error(log_probs.exp(), job.labels))
        figures[f"brier{suffix}"] = float(brier_score(log_probs.exp(), job.labels))
    return figures


def _swept(job: _Job, folds: Tensor | None) -> tuple[dict[str, FusionSweep], float]:
    """Both spaces, and the median time of all their points."""
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        sweeps = {
            space: sweep_weights(job.logits, job.labels, job.weights, space=space, folds=folds) for space in _FUSE
        }
        seconds.append(time.perf_counter() - start)
    return sweeps, sorted(seconds)[_REPEATS // 2]


def _compare(
    job: _Job,
    name: str,
    loop: Callable[[Tensor, str], Figures],
    sweeps: dict[str, FusionSweep],
    *,
    seconds: float,
    points: list[int],
) -> None:
    """Time the loop on some points of both spaces, and print the ratio and the largest difference of each figure."""
    loop(job.weights[points[0]], "logit")
    start = time.perf_counter()
    figures = {(space, point): loop(job.weights[point], space) for space in _FUSE for point in points}
    each = (time.perf_counter() - start) / len(figures)
    num_points = len(_FUSE) * len(job.weights)
    largest = {
        figure: max(
            abs(float(getattr(sweeps[space], figure)[point]) - row[figure]) for (space, point), row in figures.items()
        )
        for figure in next(iter(figures.values()))
    }
    print(
        f"\n{name}\n  {each * num_points / seconds:6.0f} x the time: {1e3 * each:.0f} ms a point, "
        f"{each * num_points:.1f} s scaled from {len(figures)} to {num_points} points; largest differences"
    )
    print("  " + "  ".join(f"{figure} {difference:.1e}" for figure, difference in largest.items()))


def main() -> None:
    """Print the sweep's time and how the loops compare."""
    job = _job()
    num_points = len(_FUSE) * len(job.weights)
    for folds in (None, job.folds):
        sweeps, seconds = _swept(job, folds)
        crossed = "" if folds is None else f", cross-fitted in {_FOLDS} folds"
        print(
            f"\nsweep of {num_points} points, {_TEACHERS} teachers on {_ROWS} x {_CLASSES}{crossed}, "
            f"{torch.get_num_threads()} threads, median of {_REPEATS}: {seconds:.2f} s, "
            f"{1e3 * seconds / num_points:.2f} ms a point"
        )
        if folds is None:
            for name, fit, points in (
                ("torchmetrics and LBFGS(lr=0.01, max_iter=50), which does not converge", _common, [13, 47]),
                ("torchmetrics and an LBFGS that converges (lr=1, strong_wolfe)", _converging, [1, 13, 47]),
            ):

                def loop(point: Tensor, space: str, fit: Temperature = fit) -> Figures:
                    return _with_torchmetrics(job, point, space, fit)

                _compare(job, name, loop, sweeps, seconds=seconds, points=points)

        def own(point: Tensor, space: str, folds: Tensor | None = folds) -> Figures:
            return _one_by_one(job, point, space, folds)

        _compare(job, "this package's functions, point by point", own, sweeps, seconds=seconds, points=[1, 13, 47])
    start = time.perf_counter()
    for space in _FUSE:
        confusions(job.logits, job.labels, job.weights, space=space)
    each = (time.perf_counter() - start) / num_points
    print(f"\nconfusions alone: {1e3 * each:.2f} ms a point")


if __name__ == "__main__":
    main()
