"""A model's logits on some rows: those stored by an earlier call where they are of the same, else inferred and stored."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_lightning.data.pictures.file_stamps import file_stamps
from fer_lightning.files import explained_write_errors
from fer_lightning.pipeline.evaluation.config import Corruption, EvaluateRun
from fer_lightning.pipeline.logits.model_files import ModelFile
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows

if TYPE_CHECKING:
    from fer_lightning.data.batches.crop_views import CropView
    from fer_lightning.runs.stored_logits import StoredLogits

log = logging.getLogger(__name__)

SHARD_ROWS = 4096
"""Rows that are inferred and written at a time, unless told otherwise."""
MIRROR = "mirror"
"""The view of the mirror image alone."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What logits have to be of."""

    model: ModelFile
    rows: EvaluationRows
    view: str
    """`single`, `flip`, `ten_crop`, `mirror`, or the name of `crop`."""
    corruption: Corruption | None = None
    severity: int = 0
    flip_clahe: bool = False
    """CLAHE off where the model was trained with it, and the reverse."""
    crop: "CropView | None" = None
    """A random crop that the view is."""
    dtype: str = "float32"
    """Type that they are kept in."""
    fingerprint: str
    """Of the row set."""
    pictures_digest: str

    @property
    def folder_name(self) -> str:
        """Name of the folder in which they are stored."""
        corruption = "clahe-flipped" if self.flip_clahe else self.corruptions[0]
        parts = (
            self.model.path.absolute().parent.name,
            f"{self.model.path.name}_{self.model.sha256[:8]}",
            f"{self.rows.split}_{self.fingerprint[:8]}",
            self.view,
            *([] if corruption == "none" else [corruption]),
            *([] if self.dtype == "float32" else [self.dtype]),
        )
        return "__".join(parts)

    @property
    def corruptions(self) -> tuple[str, ...]:
        """What a record may call the corruption: which of two flips of CLAHE it is, the model knows."""
        if self.flip_clahe:
            return "clahe-off", "clahe-on"
        return ("none",) if self.corruption is None else (f"{self.corruption.value}-{self.severity}",)


def pictures_digest(rows: EvaluationRows) -> str:
    """Return a digest of the state of the rows' files; neither the order of the rows nor their folder matters."""
    manifest, numbers = rows.selection.manifest, rows.selection.rows[rows.split]
    order = np.argsort(np.asarray([manifest.row_ids[row] for row in numbers.tolist()]))
    return hashlib.sha256(file_stamps(manifest, numbers)[order].astype("<i8").tobytes()).hexdigest()


def ask(model: ModelFile, rows: EvaluationRows, view: str) -> Asked:
    """Return the request for a model's logits on rows as they are now."""
    fingerprint = rows.selection.fingerprint(rows.split)
    return Asked(model=model, rows=rows, view=view, fingerprint=fingerprint, pictures_digest=pictures_digest(rows))


def folder_of(asked: Asked, run: EvaluateRun) -> Path:
    """Return the folder in which logits are stored."""
    return Path(run.run.root) / "logits" / asked.folder_name


def stored_already(asked: Asked, run: EvaluateRun, *, option: str, any_type: bool = False) -> "StoredLogits | None":
    """Return the logits that an earlier call has stored, if they are of what is asked for; else say why not.

    Args:
        asked: what they have to be of.
        run: where they are.
        option: the option that named the model, for messages.
        any_type: take those kept as float16 where there are no others.
    """
    from fer_lightning.pipeline.logits.lookup import Unusable, as_asked, look_up  # torch

    half = [replace(asked, dtype="float16")] if any_type and asked.dtype != "float16" else []
    for one in (asked, *half):
        folder = folder_of(one, run)
        found = look_up(folder, one, option=option)
        if isinstance(found, Unusable):
            log.log(found.level, "stored logits in %s are inferred again: %s", folder, found.reason)
        elif found is not None:
            log.info("took the stored logits of %d %s rows from %s", found.record.n, one.rows.split, folder)
            return as_asked(found, one)
    return None


def all_scores(
    asked: Sequence[Asked], run: EvaluateRun, *, option: str, shard_rows: int = SHARD_ROWS, any_type: bool = False
) -> "list[StoredLogits]":
    """Return several logits on the same rows; those that are not stored yet are inferred in one pass over the pictures.

    Args:
        asked: what they have to be of; all of one selection and split.
        run: loader, device, folder, and whether stored logits are taken.
        option: the option that named the models, for messages.
        shard_rows: rows that are inferred and written at a time.
        any_type: take those kept as float16 where there are no others.

    Returns:
        In the same order.

    Raises:
        FerError: a model cannot be opened, a picture cannot be read, or logits are not finite.
    """
    reuse = run.evaluate.reuse_logits
    found = [stored_already(one, run, option=option, any_type=any_type) if reuse else None for one in asked]
    missing = [one for one, stored in zip(asked, found, strict=True) if stored is None]
    if not missing:
        return [stored for stored in found if stored is not None]
    with explained_write_errors(folder_of(missing[0], run).parent, option="run.root"):
        folder_of(missing[0], run).parent.mkdir(parents=True, exist_ok=True)  # said before models are loaded
    from fer_lightning.pipeline.logits.infer_logits import infer_logits  # timm: seconds

    inferred = iter(infer_logits(missing, run, option=option, shard_rows=shard_rows))
    return [next(inferred) if stored is None else stored for stored in found]


def scores_of(
    model: ModelFile,
    rows: EvaluationRows,
    run: EvaluateRun,
    *,
    option: str,
    corruption: Corruption | None = None,
    severity: int = 0,
    flip_clahe: bool = False,
) -> "StoredLogits":
    """Return a model's logits on rows, inferred once for each file, row set, state of the pictures and view.

    They lie in `<run.root>/logits/<run>__<file>_<sha>__<split>_<rows>__<view>[__<corruption>][__float16]`. What manifest and run
    say of the rows is taken from them each time: only logits, face sizes and, on an unchanged manifest, groups are taken from
    there. An inference that was interrupted goes on where it stopped, and several processes share it.

    Args:
        model: checkpoint or ONNX file.
        rows: what to score.
        run: view, loader, device, folder, and whether stored logits are taken.
        option: the option that named the model, for messages.
        corruption: what is done to the pictures.
        severity: of the corruption, 1..5.
        flip_clahe: prepare pictures without CLAHE where the model was trained with it, and the reverse.

    Raises:
        FerError: the model cannot be opened, a picture cannot be read, logits are not finite, or they cannot be stored.
    """
    plain = ask(model, rows, run.evaluate.view.value)
    asked = replace(plain, corruption=corruption, severity=severity, flip_clahe=flip_clahe)
    return all_scores([asked], run, option=option, any_type=True)[0]
