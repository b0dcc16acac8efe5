"""Stored logits made for a test, without files."""

import torch
from torch import Tensor

from fer_lightning.labels import EMOTIONS
from fer_lightning.runs.artifacts import CalibrationRecord
from fer_lightning.runs.stored_logits import StoredLogits, StoredLogitsRecord


def temperature_record(temperature: float) -> CalibrationRecord:
    return CalibrationRecord(
        method="temperature",
        parameters={"temperature": temperature},
        calibration_temperature=temperature,
        at_bound=False,
        conformal_alpha=0.1,
        conformal_threshold=0.9,
        fitted_on_split="val",
        fitted_on_rows=10,
        fitted_on_fingerprint="f" * 64,
    )


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
    record = StoredLogitsRecord(
        kind="checkpoint",
        dtype="float32",
        group_columns=["subject", "orig_image"],
        run_dir="run",
        checkpoint="best.pt",
        checkpoint_sha256="c" * 64,
        epoch=0,
        weights="trained",
        canonical={"size": 32, "clahe": True, "clahe_clip_limit": 2.0, "clahe_tiles": 8},
        canonical_digest="d" * 64,
        view="single",
        corruption="none",
        manifest="manifest.csv",
        manifest_sha256="m" * 64,
        split="val",
        requested_rows=n,
        rows_left_out=0,
        rows_seen_in_training=0,
        n=n,
        row_set_fingerprint="r" * 64,
        pictures_digest="p" * 64,
        class_order=list(EMOTIONS),
        calibration=calibration,
        logits_sha256="a" * 64,
        rows_sha256="b" * 64,
    )
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
