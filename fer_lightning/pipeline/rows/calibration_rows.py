"""Which rows calibrators are fitted on, and which they may be applied to."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.errors import FerError

if TYPE_CHECKING:
    from fer_lightning.runs.stored_logits import StoredLogits

log = logging.getLogger(__name__)


def check_val(stored: "StoredLogits") -> None:
    """Refuse rows that no calibrator may be fitted on.

    Raises:
        FerError: not val rows, or corrupted pictures of them.
    """
    record = stored.record
    if record.split != "val":
        raise FerError(
            f"evaluate.checkpoint holds logits of {record.split} rows; calibrators are fitted on val only. Name the val logits, "
            "and these in calibrate.apply_to"
        )
    if record.corruption != "none":
        raise FerError(
            f"evaluate.checkpoint holds logits of corrupted pictures ({record.corruption}); calibrators are fitted on pictures "
            "as they are. Name these logits in calibrate.apply_to"
        )
    if record.rows_seen_in_training:
        log.warning(
            "the model was trained on %d of these %d rows: it is more confident there than elsewhere, and so will its "
            "calibrators be",
            record.rows_seen_in_training,
            record.n,
        )


def logits_to_apply_to(names: Sequence[str], stored: "StoredLogits") -> dict[str, "StoredLogits"]:
    """Read the logits that calibrators are applied to.

    Args:
        names: folders of stored logits.
        stored: what the calibrators are fitted on.

    Returns:
        Name -> logits.

    Raises:
        FerError: no stored logits, those of another model or of other pictures, or of rows that are fitted on.
    """
    from fer_lightning.runs.stored_logits import read_stored_logits

    option, mine, others = "calibrate.apply_to", stored.record, {}
    for given in names:
        other = read_stored_logits(Path(given), option=option)
        its = other.record
        if its.checkpoint_sha256 != mine.checkpoint_sha256 or its.view != mine.view:
            raise FerError(
                f"{option}: {given} holds logits of {its.checkpoint} {its.checkpoint_sha256[:8]} ({its.view} view), not of "
                f"{mine.checkpoint} {mine.checkpoint_sha256[:8]} ({mine.view} view); a calibrator holds for its own model only"
            )
        if its.corruption == "none" and its.canonical_digest != mine.canonical_digest:
            raise FerError(
                f"{option}: {given} holds logits of pictures that were prepared differently; infer them again"
            )
        fitted_on = set(stored.row_ids) & set(other.row_ids)
        if fitted_on:
            first = next(
                path for path, row_id in zip(other.image_paths, other.row_ids, strict=True) if row_id in fitted_on
            )
            raise FerError(
                f"{option}: {len(fitted_on)} rows of {given} are rows that the calibrators are fitted on, e.g. {first}; the "
                "cross-fitted figures are those of val. Name logits of other rows"
            )
        others[given] = other
    return others
