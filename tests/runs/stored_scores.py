"""Makes stored logits by hand: no model."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fer_lightning.data.rows.row_id import row_set_fingerprint
from fer_lightning.labels import EMOTIONS
from fer_lightning.runs.stored_logits import StoredLogits, write_stored_logits
from fer_lightning.runs.stored_logits_record import StoredLogitsRecord
from tests.runs.examples import example


def overconfident(num_rows: int, *, seed: int = 0, factor: float = 3.0) -> tuple[Tensor, Tensor]:
    """Return (N, 7) logits, and labels drawn from their softmax after division by a factor."""
    random = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(num_rows, 7, generator=random)
    labels = torch.multinomial(logits.softmax(1), 1, generator=random).squeeze(1)
    return factor * logits, labels


def stored_scores(
    logits: Tensor, labels: Tensor, *, split: str = "val", prefix: str = "", **fields: Any
) -> StoredLogits:
    """Return stored logits of rows named by split and number; `fields` are of the record, `groups` of the rows."""
    paths = [f"{prefix or split}/{index}.png" for index in range(len(labels))]
    row_ids = [hashlib.sha256(path.encode()).hexdigest() for path in paths]
    values: dict[str, Any] = {
        "kind": "checkpoint",
        "dtype": "float32",
        "run_dir": "experiments/teachers/RN18",
        "checkpoint": "best.pt",
        "checkpoint_sha256": "5a" * 32,
        "weights": "trained",
        "view": "single",
        "corruption": "none",
        "rows_seen_in_training": 0,
        "rows_left_out": 0,
        "manifest": "datasets/generated/manifest.csv",
        "calibration": None,
        "class_order": list(EMOTIONS),
    }
    groups = fields.pop("groups", torch.arange(len(labels)))
    record = replace(
        example(StoredLogitsRecord),
        split=split,
        n=len(labels),
        requested_rows=len(labels),
        row_set_fingerprint=row_set_fingerprint(row_ids, (EMOTIONS[label] for label in labels.tolist())),
        **values | fields,
    )
    return StoredLogits(
        record=record,
        logits=logits.float(),
        labels=labels,
        row_ids=tuple(row_ids),
        image_paths=tuple(paths),
        sources=("generated",) * len(labels),
        groups=groups,
        face_sides=torch.full((len(labels),), 48),
        votes=None,
    )


def write_scores(folder: Path, logits: Tensor, labels: Tensor, **fields: Any) -> str:
    """Write stored logits, and return their folder as an option takes it."""
    write_stored_logits(folder, stored_scores(logits, labels, **fields))
    return str(folder)
