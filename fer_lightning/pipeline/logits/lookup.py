"""Looks stored logits up, tells why they are not those asked for, and joins those that are with manifest and run."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fer_lightning.data.pictures.canonical import recorded_digest
from fer_lightning.errors import FerError
from fer_lightning.pipeline.logits.model_files import ModelFile
from fer_lightning.pipeline.logits.scores import Asked
from fer_lightning.pipeline.rows.row_columns import row_columns
from fer_lightning.runs.artifacts import CalibrationRecord
from fer_lightning.runs.recorded_calibration import recorded_calibration
from fer_lightning.runs.stored_logits import StoredLogits, read_stored_logits
from fer_lightning.runs.stored_logits_record import RECORD_FILE, StoredLogitsRecord


@dataclass(frozen=True)
class Unusable:
    """Why stored logits cannot be taken."""

    level: int
    """Of the log line that says so."""
    reason: str


def look_up(folder: Path, asked: Asked, *, option: str) -> StoredLogits | Unusable | None:
    """Return the logits stored in a folder, or why they cannot be taken, or None where there are none.

    Args:
        folder: of the stored logits.
        asked: what they have to be of; the manifest may be another one that holds the same rows.
        option: the option that named the model, for messages.
    """
    if not (folder / RECORD_FILE).exists():
        return None
    try:
        stored = read_stored_logits(folder, option=option)
    except FerError as error:
        return Unusable(logging.WARNING, str(error))
    difference = _difference(stored.record, asked)
    return stored if difference is None else Unusable(logging.INFO, difference)


def _difference(record: StoredLogitsRecord, asked: Asked) -> str | None:
    pairs = (
        ("checkpoint_sha256", record.checkpoint_sha256, asked.model.sha256),
        ("split", record.split, asked.rows.split),
        ("row_set_fingerprint", record.row_set_fingerprint, asked.fingerprint),
        ("view", record.view, asked.view),
    )
    for name, found, wanted in pairs:
        if found != wanted:
            return f"their {name} is {found[:12]}, not {wanted[:12]}"
    if record.corruption not in asked.corruptions:
        return f"their corruption is {record.corruption}, not {' or '.join(asked.corruptions)}"
    if record.pictures_digest != asked.pictures_digest:
        return "picture files have changed since"
    return (
        None
        if recorded_digest(record.canonical) == record.canonical_digest
        else "this version prepares pictures in another way"
    )


def current_calibration(model: ModelFile, inside: CalibrationRecord | None) -> CalibrationRecord | None:
    """Return the calibrator of a model as it is now.

    Args:
        model: the file.
        inside: the one inside an ONNX file, which cannot change; that of a checkpoint lies beside it, and can.
    """
    return inside if model.path.suffix == ".onnx" else recorded_calibration(model.path.parent, model.sha256)


def as_asked(stored: StoredLogits, asked: Asked) -> StoredLogits:
    """Return stored logits in the order of the rows asked for, joined by row id with what manifest and run say now."""
    rows, columns, record = asked.rows, row_columns(asked.rows), stored.record
    manifest, group_columns = rows.selection.manifest, list(rows.selection.group_columns)
    place = {row_id: position for position, row_id in enumerate(stored.row_ids)}
    order = torch.tensor([place[row_id] for row_id in columns.row_ids])
    linked_alike = record.manifest_sha256 == manifest.sha256 and record.group_columns == group_columns
    return StoredLogits(
        record=replace(
            record,
            run_dir=str(asked.model.path.parent),
            checkpoint=asked.model.path.name,
            manifest=rows.manifest,
            manifest_sha256=manifest.sha256,
            requested_rows=rows.requested_rows,
            rows_left_out=rows.rows_left_out,
            rows_seen_in_training=rows.rows_seen_in_training,
            group_columns=group_columns,
            calibration=current_calibration(asked.model, record.calibration),
        ),
        logits=stored.logits[order],
        groups=stored.groups[order] if linked_alike else torch.from_numpy(rows.selection.groups(rows.split)),
        face_sides=stored.face_sides[order],
        **vars(columns),
    )
