"""Scores of another program as stored logits: what is known of them, and of their rows."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fer_lightning.data.foreign.table import ForeignTable
from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows
from fer_lightning.pipeline.rows.face_sides import face_sides
from fer_lightning.pipeline.rows.row_columns import row_columns
from fer_lightning.runs.stored_logits import StoredLogits
from fer_lightning.runs.stored_logits_record import StoredLogitsRecord


def foreign_logits(
    rows: EvaluationRows, table: ForeignTable, logits: NDArray[np.float32], model: Path, *, num_workers: int
) -> StoredLogits:
    """Return scores of another program as stored logits.

    Args:
        rows: that they are of.
        table: the file that they were read from.
        logits: (N, 7) in the order of the rows.
        model: folder of the foreign model.
        num_workers: that look at the pictures.
    """
    columns, selection = row_columns(rows), rows.selection
    groups = torch.from_numpy(
        selection.groups(rows.split)
    )  # looks at every picture, so that their sizes are known then
    record = StoredLogitsRecord(
        kind="foreign",
        dtype="float32",
        run_dir=str(model),
        checkpoint=table.path.name,
        checkpoint_sha256=table.sha256,
        epoch=-1,
        weights="foreign",
        canonical={},
        canonical_digest="",
        view="single",
        corruption="none",
        manifest=rows.manifest,
        manifest_sha256=selection.manifest.sha256,
        split=rows.split,
        requested_rows=rows.requested_rows,
        rows_left_out=rows.rows_left_out,
        rows_seen_in_training=None,
        n=len(columns.row_ids),
        row_set_fingerprint=selection.fingerprint(rows.split),
        pictures_digest="",
        group_columns=list(selection.group_columns),
        class_order=list(EMOTIONS),
        calibration=None,
        logits_sha256="",
        rows_sha256="",
    )
    return StoredLogits(
        record=record,
        logits=torch.from_numpy(logits),
        groups=groups,
        face_sides=face_sides(rows, num_workers=num_workers),
        **vars(columns),
    )
