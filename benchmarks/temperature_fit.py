"""Temperature fit: safeguarded Newton on 1/T against the common LBFGS recipe, time and error.

Command: python -m benchmarks.temperature_fit
Baseline: what most calibration code does, `torch.optim.LBFGS([temperature], lr=0.01, max_iter=50)` on cross-entropy.
Reference for the error: scipy's bounded scalar minimiser on log T at 1e-12.
"""

import time
from collections.abc import Callable

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from fer_lightning.functional.calibration import fit_temperature

_ROWS, _CLASSES, _REPEATS = 50_000, 7, 3


def _logits(true_temperature: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(_ROWS, _CLASSES, generator=generator, dtype=torch.float64) * 2
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return logits * true_temperature, labels


def _newton(logits: Tensor, labels: Tensor) -> float:
    return fit_temperature(logits, labels).temperature


def _lbfgs(logits: Tensor, labels: Tensor) -> float:
    temperature = torch.ones(1, dtype=logits.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([temperature], lr=0.01, max_iter=50)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(logits / temperature, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return float(temperature.detach())


def _reference(logits: Tensor, labels: Tensor) -> float:
    def nll(log_temperature: float) -> float:
        return float(functional.cross_entropy(logits / torch.tensor(log_temperature).exp(), labels))

    found = minimize_scalar(nll, bounds=(-5, 7), method="bounded", options={"xatol": 1e-12})
    return float(torch.tensor(float(found.x), dtype=torch.float64).exp())


def _median_seconds(fit: Callable[[Tensor, Tensor], float], logits: Tensor, labels: Tensor) -> float:
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        fit(logits, labels)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[_REPEATS // 2]


def main() -> None:
    """Print one line per true temperature."""
    print(f"{_ROWS} x {_CLASSES} logits, median of {_REPEATS}")
    print("true T   LBFGS/Newton time   Newton error   LBFGS error")
    for true_temperature in (0.22, 1.0, 4.0, 8.3):
        logits, labels = _logits(true_temperature)
        best = _reference(logits, labels)
        ratio = _median_seconds(_lbfgs, logits, labels) / _median_seconds(_newton, logits, labels)
        errors = [abs(fit(logits, labels) / best - 1) for fit in (_newton, _lbfgs)]
        print(f"{true_temperature:6.2f}   {ratio:17.1f}   {errors[0]:12.1e}   {errors[1]:11.1e}")


if __name__ == "__main__":
    main()
