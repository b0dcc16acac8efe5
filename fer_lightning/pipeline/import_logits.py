"""Takes the scores of another program on rows of a manifest among the stored logits, where every verb finds them."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.data.config import DataConfig
from fer_lightning.data.foreign.read_file import read_foreign_scores
from fer_lightning.data.foreign.row_join import join_rows
from fer_lightning.data.foreign.score_spaces import logits_of
from fer_lightning.data.selection import select_rows
from fer_lightning.errors import FerError
from fer_lightning.files import explained_write_errors
from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.evaluation.config import EvaluationCalibration, EvaluationTarget
from fer_lightning.pipeline.logits.config import ImportLogitsRun, JoinBy
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows, refuse_changes
from fer_lightning.runs.config import RunConfig

if TYPE_CHECKING:
    from fer_lightning.runs.stored_logits import StoredLogits

log = logging.getLogger(__name__)

_WITHOUT_EFFECT = ("clahe", "clahe_clip_limit", "clahe_tiles", "cache", "cache_verify_rows", "allow_leaks")
_WORTH_A_WARNING = 0.1  # of accuracy, by which another class order fits better


def _check_options(run: ImportLogitsRun) -> tuple[Path, Path]:
    """Return the file, and the folder of the model, and refuse options without effect."""
    if run.foreign.file is None or run.foreign.name is None or run.data.manifest is None:
        raise FerError(
            "task=import_logits needs foreign.file=<.csv, .npy or .npz>, foreign.name=<name of the model> and data.manifest=<file "
            "with the rows that the scores are of>"
        )
    unheeded = RunConfig(root=run.run.root, tag=run.run.tag, unlock_stale=run.run.unlock_stale)
    why = "scores of another program are taken as they are"
    refuse_changes(run.run, unheeded, None, "run", why)
    refuse_changes(run.evaluate, EvaluationTarget(), None, "evaluate", why)
    refuse_changes(run.calibration, EvaluationCalibration(), None, "calibration", why)
    refuse_changes(run.data, DataConfig(), _WITHOUT_EFFECT, "data", why)
    if not run.foreign.name.strip("."):
        raise FerError(f"foreign.name={run.foreign.name} is no name of a folder")
    return Path(run.foreign.file), Path(run.run.root) / "foreign" / run.foreign.name


def _rows(run: ImportLogitsRun) -> EvaluationRows:
    """Select the rows as a training on this manifest does."""
    split = run.foreign.split
    selection = select_rows(run.data, run.source_filter, splits=(split,))
    if selection.carved_val_rows and split != "test":
        log.info(
            "the manifest has no val rows: %d are carved as a training with these data options carves them",
            selection.carved_val_rows,
        )
    return EvaluationRows(
        selection=selection,
        split=split,
        manifest=str(run.data.manifest),
        calibration=run.calibration.settled(None),
        rows_seen_in_training=None,
        rows_left_out=selection.left_out_of(split),
    )


def _is_there(folder: Path, stored: "StoredLogits") -> bool:
    """Tell whether an earlier import of these very logits and rows lies in a folder.

    Raises:
        FerError: others lie there.
    """
    from fer_lightning.runs.stored_logits import read_stored_logits
    from fer_lightning.runs.stored_logits_record import RECORD_FILE

    if not (folder / RECORD_FILE).exists():
        return False
    earlier = read_stored_logits(folder, option="foreign.name")
    same_rows = earlier.record.row_set_fingerprint == stored.record.row_set_fingerprint
    if not same_rows or not bool((earlier.in_order_of(stored.row_ids).logits == stored.logits).all()):
        record = earlier.record
        raise FerError(
            f"foreign.name={folder.parent.name}: {folder} holds other logits, of {record.checkpoint} ({record.checkpoint_sha256[:8]}). "
            f"What refers to them would change unseen: choose another foreign.name, or remove the folder"
        )
    settled = {name: getattr(earlier.record, name) for name in ("logits_sha256", "rows_sha256")}
    return replace(stored.record, **settled) == earlier.record


def _tell_agreement(stored: "StoredLogits", *, by_position: bool) -> None:
    """Say how good the imported predictions are, and warn where other rows or another class order would explain them."""
    from fer_lightning.functional.label_agreement import label_agreement
    from fer_lightning.functional.reliability import classification_scores

    predictions = stored.logits.argmax(dim=1)
    scores = classification_scores(predictions, stored.labels)
    num_rows = len(stored.labels)
    log.info("imported predictions: accuracy %.4f, macro-F1 %.4f, n=%d", scores.accuracy, scores.macro_f1, num_rows)
    found = label_agreement(predictions.numpy(), stored.labels.numpy())
    if by_position and found.is_chance:
        log.warning(
            "nothing tells this order of the rows from any other: accuracy %.4f, when shuffled %.4f +- %.4f. These scores are not of "
            "these rows in this order, the model tells nothing, or there are too few rows to tell",
            found.accuracy,
            found.shuffled_accuracy,
            found.shuffled_deviation,
        )
    if found.best_accuracy > found.accuracy + _WORTH_A_WARNING:
        renamed = [
            f"{name} fits {EMOTIONS[index]}"
            for name, index in zip(EMOTIONS, found.best_names, strict=True)
            if name != EMOTIONS[index]
        ]
        log.warning(
            "accuracy would be %.4f with other names of the columns (%s): is their order right?",
            found.best_accuracy,
            ", ".join(renamed),
        )


def import_logits(run: ImportLogitsRun) -> None:
    """Write scores of another program to `<run.root>/foreign/<name>/<split>_<rows>` as stored logits.

    Raises:
        FerError: scores that are not what they are said to be, rows that are missing, unknown or there twice, no proof or
            statement of the class order, or other logits under the same name.
    """
    path, model = _check_options(run)
    foreign = run.foreign
    table = read_foreign_scores(
        path, values=foreign.values.value, join=foreign.join.value, class_order=foreign.class_order
    )
    logits = logits_of(table, values=foreign.values.value)
    rows = _rows(run)
    joined = join_rows(table, rows.selection, foreign.split)
    for home, count in joined.left_aside.items():
        log.info("%s: left aside %d rows that are %s rows of the manifest", path, count, home)
    if table.ignored:
        log.info("%s: not read: %s", path, ", ".join(table.ignored))
    from fer_lightning.pipeline.logits.foreign_logits import foreign_logits  # torch

    stored = foreign_logits(rows, table, logits[joined.places], model, num_workers=run.data.num_workers or 0)
    by_position = foreign.join is JoinBy.position
    if by_position:
        log.warning(
            "foreign.join=position: nothing proves that row i of %s is row i of the %s rows of %s; name the rows in the file if you can",
            path,
            foreign.split,
            rows.manifest,
        )
    folder = model / f"{foreign.split}_{stored.record.row_set_fingerprint[:8]}"
    if _is_there(folder, stored):
        log.info("%s holds these very logits already", folder)
    else:
        from fer_lightning.runs.stored_logits import write_stored_logits

        with explained_write_errors(folder, option="run.root"):
            write_stored_logits(folder, stored)
        log.info("%s: logits of %d %s rows", folder, stored.record.n, foreign.split)
    _tell_agreement(stored, by_position=by_position)
