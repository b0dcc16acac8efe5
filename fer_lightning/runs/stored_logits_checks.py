"""Refuses stored logits that contradict themselves: record, rows and numbers."""

from typing import TYPE_CHECKING

import numpy as np

from fer_lightning.data.foreign.score_spaces import like_cosines
from fer_lightning.data.rows.columns import SPLITS
from fer_lightning.data.rows.row_id import row_set_fingerprint
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS, NUM_CLASSES, check_class_order
from fer_lightning.runs.logit_checks import check_logits
from fer_lightning.runs.stored_logits_record import KINDS

if TYPE_CHECKING:
    from fer_lightning.runs.stored_logits import StoredLogits


def _check_values(stored: "StoredLogits", *, where: str) -> None:
    logits, labels = stored.logits.numpy(), stored.labels.numpy()
    check_logits(logits, stored.image_paths, stored.record.dtype, where=where)
    if stored.record.kind == "foreign" and like_cosines(logits):  # our own cosine heads give scale x cosine
        raise FerError(
            f"{where}: logits of another program all lie in [-1, 1], as cosines do; multiply them by the scale that the model was "
            "trained with, and import them with task=import_logits"
        )
    if labels.min() < 0 or labels.max() >= NUM_CLASSES:
        raise FerError(f"{where}: labels lie in {labels.min()}..{labels.max()}; expected 0..{NUM_CLASSES - 1}")
    if int(stored.face_sides.min()) < 0:
        raise FerError(f"{where}: face_sides holds {int(stored.face_sides.min())}; a side has at least 0 pixels")
    if stored.votes is not None:
        votes = stored.votes.numpy()
        if not (np.isfinite(votes) & (votes >= 0)).all():
            raise FerError(f"{where}: votes holds values that are no counts")


def check_stored_logits(stored: "StoredLogits", *, where: str) -> None:
    """Refuse stored logits that contradict themselves.

    Args:
        stored: as read, or to be written.
        where: for the message.

    Raises:
        FerError: the first contradiction.
    """
    record = stored.record
    try:
        check_class_order(record.class_order, where=f"{where}: class_order")
    except ValueError as error:
        raise FerError(str(error)) from error
    for name, value, known in (("kind", record.kind, KINDS), ("dtype", record.dtype, ("float32", "float16"))):
        if value not in known:
            raise FerError(f"{where}: {name} is {value!r}; expected one of {', '.join(known)}")
    if record.split not in SPLITS:
        raise FerError(f"{where}: split is {record.split!r}; expected one of {', '.join(SPLITS)}")
    if not record.n == len(stored.logits) == len(stored.labels) == len(stored.row_ids) > 0:
        raise FerError(
            f"{where}: n is {record.n}, and there are {len(stored.logits)} rows of logits, {len(stored.labels)} labels "
            f"and {len(stored.row_ids)} row ids; they must be equal, and at least 1"
        )
    _check_values(stored, where=where)
    if len(set(stored.row_ids)) != record.n:
        raise FerError(f"{where}: row_ids holds a row twice")
    names = (EMOTIONS[label] for label in stored.labels.tolist())
    fingerprint = row_set_fingerprint(stored.row_ids, names)
    if fingerprint != record.row_set_fingerprint:
        raise FerError(
            f"{where}: row_set_fingerprint is {record.row_set_fingerprint[:12]}, but that of its row ids and labels is "
            f"{fingerprint[:12]}"
        )
