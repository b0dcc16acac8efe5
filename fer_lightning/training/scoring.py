"""Runs a model over a split: logits, labels and row numbers in manifest order."""

from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from tqdm import tqdm

from fer_lightning.data.batches.augment import to_float
from fer_lightning.data.batches.dataset import Batch
from fer_lightning.models.classifier import Classifier

LogitsOf = Callable[[Tensor], Tensor]
"""(N, 3, S, S) uint8 RGB canonical pictures -> (N, 7) float logits on the CPU."""


@dataclass(frozen=True)
class ScoredRows:
    """Scores of some rows, in manifest order."""

    logits: Tensor
    """(N, 7) float32 on the CPU."""
    labels: Tensor
    """(N,) int64."""
    rows: Tensor
    """(N,) int64 row numbers of the manifest."""


def pick_device(accelerator: str) -> torch.device:
    """Return the device of a Lightning accelerator name."""
    if accelerator in {"gpu", "cuda"} or (accelerator == "auto" and torch.cuda.is_available()):
        return torch.device("cuda")
    if accelerator == "mps" or (accelerator == "auto" and torch.backends.mps.is_available()):
        return torch.device("mps")
    return torch.device("cpu")


def classifier_scorer(classifier: Classifier, device: torch.device) -> LogitsOf:
    """Return a scorer that runs a classifier in float32 on a device."""
    classifier = classifier.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def logits_of(pictures: Tensor) -> Tensor:
        return cast("Tensor", classifier(to_float(pictures.to(device)))).cpu()

    return logits_of


def score_rows(logits_of: LogitsOf, loader: Iterable[Batch], *, what: str) -> ScoredRows:
    """Score every row of a loader, with progress.

    Args:
        logits_of: the model.
        loader: evaluation batches.
        what: name for the progress bar.
    """
    total = len(loader) if isinstance(loader, Sized) else None
    with torch.inference_mode():
        parts = [
            (logits_of(batch.pictures).float(), batch.labels, batch.rows)
            for batch in tqdm(loader, total=total, desc=what, unit="batch", disable=None, leave=False)
        ]
    logits, labels, rows = (torch.cat(column) for column in zip(*parts, strict=True))
    return ScoredRows(logits, labels, rows)
