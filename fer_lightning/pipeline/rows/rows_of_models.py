"""The rows that several teachers are compared or fused on: the same for all of them, and seen in training by none."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.errors import FerError, NoRowsError
from fer_lightning.pipeline.evaluation.config import EvaluateRun
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows, evaluation_rows, refuse_changes
from fer_lightning.pipeline.rows.run_record import read_run_record
from fer_lightning.pipeline.rows.seen_in_training import seen_of_given

_REMEDY = "Models are compared and fused on the same rows only: name the manifest to take, data.manifest=<file> (and source_filter)"


def _plain(run: EvaluateRun, split: str) -> EvaluateRun:
    """Return a run that asks for rows alone: how an ensemble is calibrated is no matter of its teachers' rows."""
    target = replace(run.evaluate, split=split, checkpoint=None, manifests=[])
    return EvaluateRun(run=run.run, evaluate=target, data=run.data, source_filter=run.source_filter)


def _same_rows(run: EvaluateRun, rows: EvaluationRows, of: Path, model: Path, *, option: str) -> EvaluationRows:
    """Return the rows of one model for another one, after making sure that it would choose the same."""
    record, split, selection = read_run_record(model.parent), rows.split, rows.selection
    mine = selection.fingerprint(split)
    its, manifest = mine, rows.manifest
    if record is not None and run.data.manifest is None:
        its, manifest = record.alignment.row_set_fingerprints[split], str(record.data.manifest)
    elif record is not None and selection.carved_val_rows and split != "test":
        its = evaluation_rows(run, model.parent).selection.fingerprint(split)
    if its != mine:
        raise FerError(
            f"{option}: {of.parent} has {split} rows {mine[:8]} of {rows.manifest}, and {model.parent} has {split} rows "
            f"{its[:8]} of {manifest}. {_REMEDY}"
        )
    return replace(rows, rows_seen_in_training=seen_of_given(selection, split, record, selection.data))


def rows_of_models(run: EvaluateRun, models: Sequence[Path], split: str, *, option: str) -> list[EvaluationRows]:
    """Return the rows of a split for each of several models: one selection for all.

    Without `data.manifest` they are those that the first model with a run has recorded, and the others must have recorded
    the same; with it, those that it holds.

    Args:
        run: the typed run.
        models: model files.
        split: whose rows.
        option: the option that named the models, for messages.

    Raises:
        NoRowsError: the split has no rows.
        FerError: neither a manifest nor a record, models with different rows, or rows seen in training by one of them.
    """
    asking = _plain(run, split)
    first = next((path for path in models if read_run_record(path.parent) is not None), models[0])
    rows = evaluation_rows(asking, first.parent)
    if not len(rows.selection.rows[split]):
        raise NoRowsError(f"{rows.manifest} has no {split} rows")
    return [rows if path == first else _same_rows(asking, rows, first, path, option=option) for path in models]


def rows_without_models(run: EvaluateRun, split: str, *, option: str) -> EvaluationRows | None:
    """Return the rows of `data.manifest`, or None where stored logits alone say of which rows they are.

    Args:
        run: the typed run.
        split: whose rows.
        option: the option that named the stored logits, for messages.

    Raises:
        NoRowsError: the split has no rows.
        FerError: an option that has no effect without a manifest.
    """
    if run.data.manifest is None:
        why = f"{option} names stored logits alone, whose rows and pictures are settled; data.manifest says of which rows they must be"
        refuse_changes(run.data, DataConfig(num_workers=run.data.num_workers), None, "data", why)
        refuse_changes(run.source_filter, SourceFilterConfig(), None, "source_filter", why)
        return None
    rows = evaluation_rows(_plain(run, split), Path(run.run.root))
    if not len(rows.selection.rows[split]):
        raise NoRowsError(f"{rows.manifest} has no {split} rows")
    return rows
