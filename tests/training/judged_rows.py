"""Stored logits made for a test, without files."""

from dataclasses import replace

import torch
from torch import Tensor

from fer_lightning.runs.artifacts import CalibrationRecord
from fer_lightning.runs.stored_logits import StoredLogits
from tests.training.stored import RECORD


def stored(
    logits: Tensor,
    labels: Tensor,
    *,
    sources: tuple[str, ...] | None = None,
    groups: Tensor | None = None,
    calibration: CalibrationRecord | None = None,
) -> StoredLogits:
    """Logits of rows whose ids are their numbers; every row a group of its own unless told otherwise."""
    n = len(labels)
    canonical: dict[str, int | float | bool] = {"size": 32, "clahe": True, "clahe_clip_limit": 2.0, "clahe_tiles": 8}
    record = replace(RECORD, canonical=canonical, requested_rows=n, n=n, calibration=calibration)
    return StoredLogits(
        record=record,
        logits=logits.float(),
        labels=labels,
        row_ids=tuple(str(number) for number in range(n)),
        image_paths=tuple(f"{number}.png" for number in range(n)),
        sources=("ferplus",) * n if sources is None else sources,
        groups=torch.arange(n) if groups is None else groups,
        face_sides=torch.full((n,), 48),
        votes=None,
    )
