"""Whether the fused logits of soft labels follow from those of their teachers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.labels import NUM_CLASSES
from fer_lightning.runs.ensemble_teachers import with_a_share
from fer_lightning.runs.softlabels import HashManifest

AS_FUSED = "as fused"

_ROUNDING = {"float16": 2.0**-11, "float32": 2.0**-24}
"""Relative, of one number."""
_LEAST = 1e-6
"""Absolute: numbers next to 0 are rounded more coarsely than that."""


def _differing(
    teacher_logits: NDArray[np.floating], logits: NDArray[np.floating], record: HashManifest
) -> NDArray[np.int64]:
    """Return the rows of one view whose fused logits are further off than rounding can put them.

    Args:
        teacher_logits: (M, N, 7) as kept.
        logits: (N, 7) fused, as kept.
        record: of both.
    """
    import torch

    from fer_lightning.functional.fusion import fuse_log_probs, fuse_logits

    shares = with_a_share(record.teachers)
    temperatures = np.array([teacher.calibration_temperature for teacher in shares])
    scaled = teacher_logits.astype(np.float64) / temperatures[:, None, None]
    fuse = {"logit": fuse_logits, "prob": fuse_log_probs}[record.space]
    fused = fuse(torch.from_numpy(scaled), [teacher.weight for teacher in shares]).numpy()
    largest = 2 * np.abs(scaled).max(axis=(0, 2)) + np.abs(fused).max(
        axis=1
    )  # a log-softmax moves by up to twice a logit
    tolerance = 2 * _ROUNDING[record.dtype] * largest + _LEAST
    return np.flatnonzero(np.abs(fused - logits).max(axis=1) > tolerance)


def fusion_text_of(record: HashManifest, arrays: dict[str, NDArray[Any]]) -> str:
    """Return `AS_FUSED`, or which logits are not what those of the teachers give, rounding aside.

    Args:
        record: of the soft labels.
        arrays: `teacher_logits`, `logits` and, where there are views, `view_logits`, all of them finite.
    """
    n = record.n
    fused = [arrays["logits"], *arrays.get("view_logits", np.empty((0, n, NUM_CLASSES)))]
    of_view = {
        view.name: _differing(own, logits, record)
        for view, own, logits in zip(record.views, arrays["teacher_logits"], fused, strict=True)
    }
    texts = [
        f"{len(rows)} of {n} rows of view {name}, e.g. row {rows[0]}" for name, rows in of_view.items() if len(rows)
    ]
    return f"other logits in {'; '.join(texts)}" if texts else AS_FUSED
