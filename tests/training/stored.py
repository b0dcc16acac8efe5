"""Stored logits for the tests: overconfident scores whose labels are drawn from them."""

from dataclasses import replace
from typing import Any

import torch

from fer_lightning.labels import EMOTIONS
from fer_lightning.runs.artifacts import CalibrationRecord
from fer_lightning.runs.stored_logits import StoredLogits
from fer_lightning.runs.stored_logits_record import StoredLogitsRecord

RECORD = StoredLogitsRecord(
    kind="checkpoint",
    dtype="float32",
    group_columns=["subject", "orig_image"],
    run_dir="run",
    checkpoint="best.pt",
    checkpoint_sha256="c" * 64,
    epoch=3,
    weights="trained",
    canonical={},
    canonical_digest="d" * 64,
    view="single",
    corruption="none",
    manifest="manifest.csv",
    manifest_sha256="m" * 64,
    split="val",
    requested_rows=400,
    rows_left_out=0,
    rows_seen_in_training=0,
    n=400,
    row_set_fingerprint="f" * 64,
    pictures_digest="p" * 64,
    class_order=list(EMOTIONS),
    calibration=None,
    logits_sha256="a" * 64,
    rows_sha256="b" * 64,
)


def stored_logits(rows: int = 400, *, split: str = "val", seed: int = 1, **changes: Any) -> StoredLogits:
    """Return logits that are four times as sure as they should be; every row is a group of its own."""
    generator = torch.Generator().manual_seed(seed)
    calm = torch.randn(rows, 7, generator=generator, dtype=torch.float64) * 2
    stored = StoredLogits(
        record=replace(RECORD, split=split, n=rows, requested_rows=rows),
        logits=(calm * 4).float(),
        labels=torch.multinomial(calm.softmax(1), 1, generator=generator).squeeze(1),
        row_ids=tuple(f"{row * 7919 % 99991:064x}" for row in range(rows)),
        image_paths=tuple(f"images/{row}.png" for row in range(rows)),
        sources=tuple("ferplus" if row % 3 else "rafdb_basic" for row in range(rows)),
        groups=torch.arange(rows),
        face_sides=torch.tensor([0, 31, 32, 47, 48, 63, 64, 111, 112, 223, 224, 4000]).repeat(rows // 12 + 1)[:rows],
        votes=None,
    )
    return replace(stored, **changes)


def recorded(temperature: float = 4.0, *, threshold: float = 0.8, **changes: Any) -> CalibrationRecord:
    """Return a temperature fitted on val rows that are none of these."""
    record = CalibrationRecord(
        method="temperature",
        parameters={"temperature": temperature},
        calibration_temperature=temperature,
        at_bound=False,
        conformal_alpha=0.1,
        conformal_threshold=threshold,
        fitted_on_split="val",
        fitted_on_rows=100,
        fitted_on_fingerprint="v" * 64,
    )
    return replace(record, **changes)
