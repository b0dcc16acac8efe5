"""Small examples of stored logits for the tests."""

import hashlib
from dataclasses import replace
from typing import Any

import torch

from fer_lightning.data.rows.row_id import row_set_fingerprint
from fer_lightning.labels import EMOTIONS
from fer_lightning.runs.stored_logits import StoredLogits
from fer_lightning.runs.stored_logits_record import StoredLogitsRecord
from tests.runs.examples import MANIFEST_SHA256, calibration_record, example


def stored_logits(count: int = 12, *, votes: bool = False, **changes: Any) -> StoredLogits:
    """Return logits of some rows, labels going round the emotions, with a record that fits them but for `changes`."""
    generator = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % 7
    row_ids = tuple(hashlib.sha256(f"{number}".encode()).hexdigest() for number in range(count))
    names = [EMOTIONS[label] for label in labels.tolist()]
    record = replace(
        example(StoredLogitsRecord),
        kind="checkpoint",
        dtype="float32",
        split="val",
        view="single",
        corruption="none",
        n=count,
        manifest_sha256=MANIFEST_SHA256,
        row_set_fingerprint=row_set_fingerprint(row_ids, names),
        class_order=list(EMOTIONS),
        calibration=calibration_record(),
    )
    return StoredLogits(
        record=replace(record, **changes),
        logits=torch.randn(count, 7, generator=generator) * 30,
        labels=labels,
        row_ids=row_ids,
        image_paths=tuple(f'{number}, "é"/→.png' for number in range(count)),
        sources=tuple("ferplus" if number % 2 else "web" for number in range(count)),
        groups=torch.arange(count) // 2,
        face_sides=torch.arange(count) * 10,
        votes=torch.rand(count, 7, generator=generator, dtype=torch.float64) if votes else None,
    )
