"""Which rows `evaluate` judges: those it is given, or those that the model's run recorded."""

from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path

import numpy as np

from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.data.rows.manifest import read_manifest
from fer_lightning.data.rows.source_filter import filter_sources
from fer_lightning.data.selection import Selection, select_rows
from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationCalibration
from fer_lightning.pipeline.rows.run_record import RunRecord, read_run_record
from fer_lightning.pipeline.rows.seen_in_training import seen_of_given, seen_of_recorded
from fer_lightning.training.config import CalibrationConfig

_PICTURE_OPTIONS = ("clahe", "clahe_clip_limit", "clahe_tiles")


@dataclass(frozen=True)
class EvaluationRows:
    """Rows to judge, and how."""

    selection: Selection
    split: str
    """Which of its rows."""
    manifest: str
    """As named by the command, or by the run's record."""
    calibration: CalibrationConfig
    """Of val rows; its method is the one asked for, else the one that the run has recorded."""
    rows_seen_in_training: int | None
    """How many of them the model was trained on; None where that could not be checked."""
    rows_left_out: int
    """Faulty rows of the split that an allowance leaves out."""

    @property
    def requested_rows(self) -> int:
        """Rows of the split, faulty ones included."""
        return len(self.selection.rows[self.split]) + self.rows_left_out


def evaluation_rows(run: EvaluateRun, run_dir: Path) -> EvaluationRows:
    """Select the rows of an evaluation.

    Without `data.manifest`, rows and calibration are those of the run the model lies in, and options that say otherwise
    are refused. With it, the given options count, and rows that the model was trained on are refused; a manifest
    without val rows is carved exactly as the run carved it, or not at all: then a source filter chooses from the carved
    split, the larger `data.max_bad_rows` counts, and options that would carve another split are refused.

    Args:
        run: the typed run.
        run_dir: folder of the model file.

    Raises:
        FerError: neither a manifest nor a record, a manifest or files that changed, an option that would have no
            effect, or rows seen in training that `data.allow_leaks` does not name.
    """
    refuse_changes(
        run.data, DataConfig(), _PICTURE_OPTIONS, "data", "the checkpoint says how its pictures are prepared"
    )
    record = read_run_record(run_dir)
    if run.data.manifest is not None:
        return _given_rows(run, record)
    if record is None:
        raise FerError(
            f"data.manifest is not set, and {run_dir} is no run directory that could tell which rows to take"
        )
    return _recorded_rows(run, record)


def _given_rows(run: EvaluateRun, record: RunRecord | None) -> EvaluationRows:
    split, manifest = _split(run), str(run.data.manifest)
    if record is not None and _carved_by_the_run(run, record):
        selection = _carved_again(run, record)
        seen = seen_of_recorded(selection, split, record, run.data)
        return _rows(selection, split, manifest, _calibration(run, record), seen)
    selection = select_rows(run.data, run.source_filter, splits=(split,))
    if selection.carved_val_rows and split != "test":
        raise FerError(
            f"{manifest} has no val rows, and this model's run did not carve them from it: a val split carved "
            "now could hold rows the model was trained on. Mark val rows in the manifest, or evaluate test rows (evaluate.split=test)"
        )
    seen_rows = seen_of_given(selection, split, record, run.data)
    return _rows(selection, split, manifest, _calibration(run, record), seen_rows)


def _split(run: EvaluateRun) -> str:
    return run.evaluate.split or "val"


def _calibration(run: EvaluateRun, record: RunRecord | None) -> CalibrationConfig:
    return run.calibration.settled(None if record is None else record.calibration.method.value)


def _rows(
    selection: Selection, split: str, manifest: str, calibration: CalibrationConfig, seen: int | None
) -> EvaluationRows:
    return EvaluationRows(selection, split, manifest, calibration, seen, selection.left_out_of(split))


def _carved_by_the_run(run: EvaluateRun, record: RunRecord) -> bool:
    """Whether the rows asked for are of a split that the run carved from this very manifest."""
    path = Path(str(run.data.manifest))
    if _split(run) == "test" or not record.alignment.carved_val_rows or not path.is_file():
        return False
    if sha256_of(path) != record.alignment.manifest_sha256:
        return False
    manifest = read_manifest(path, root=_folder(run.data.root), max_bad_rows=_max_bad_rows(run, record))
    chosen, _ = filter_sources(manifest, run.source_filter)
    return not np.any(manifest.splits[chosen] == "val")


def _carved_again(run: EvaluateRun, record: RunRecord) -> Selection:
    """Carve as the run did, make sure that it came out the same, and choose the sources asked for."""
    split, why = _split(run), f"{run.data.manifest} is carved as {record.run_dir} recorded"
    for name in ("val_fraction", "split_seed", "group_columns", "limit_rows"):
        if getattr(run.data, name) != getattr(record.data, name):
            refuse_changes(run.data, DataConfig(), (name,), "data", why)
    data = record.data_as_now(run.data, manifest=run.data.manifest, root=run.data.root)
    data = replace(data, max_bad_rows=_max_bad_rows(run, record))
    selection = select_rows(data, record.source_filter, splits=("train", split))
    if selection.fingerprint(split) != record.alignment.row_set_fingerprints[split]:
        raise FerError(
            f"{run.data.manifest} is the manifest of {record.run_dir}, but its {split} rows as carved now differ from those "
            "recorded: files are gone, broken or changed since. They could hold rows the model was trained on; bring the files back, "
            "evaluate on evaluate.split=test, or mark val rows in the manifest"
        )
    unused = [source for source in run.source_filter.include if source not in selection.filter_report.kept]
    if unused:
        raise FerError(f"source_filter.include={unused} would have no effect: {record.run_dir} left them out")
    chosen, report = filter_sources(selection.manifest, run.source_filter)
    rows = {name: members[np.isin(members, chosen)] for name, members in selection.rows.items()}
    return replace(selection, rows=rows, filter_report=report)


def _max_bad_rows(run: EvaluateRun, record: RunRecord) -> int:
    return max(run.data.max_bad_rows, record.data.max_bad_rows)


def _folder(root: str | None) -> Path | None:
    return None if root is None else Path(root)


def _recorded_rows(run: EvaluateRun, record: RunRecord) -> EvaluationRows:
    why = f"without data.manifest the rows and the calibration that {record.run_dir} recorded are taken; name the manifest to change them"
    refuse_changes(run.data, DataConfig(num_workers=run.data.num_workers), None, "data", why)
    refuse_changes(run.source_filter, SourceFilterConfig(), None, "source_filter", why)
    refuse_changes(run.calibration, EvaluationCalibration(), None, "calibration", why)
    split, manifest = _split(run), str(record.data.manifest)
    if not Path(manifest).is_file():
        raise FerError(
            f"{record.run_dir} recorded data.manifest={manifest}, which is not there, seen from this folder. "
            "Name it as it is found now: data.manifest=<file> (and the run's source_filter)"
        )
    selection = select_rows(record.data, record.source_filter, splits=("train", split))
    same_rows = selection.fingerprint(split) == record.alignment.row_set_fingerprints[split]
    if selection.manifest.sha256 != record.alignment.manifest_sha256 or not same_rows:
        raise FerError(
            f"{manifest} is no longer the manifest that {record.run_dir} recorded"
            f"{'' if same_rows else f', and its {split} rows differ'}. To evaluate on it as it is now, name it: data.manifest=<file>"
        )
    seen = seen_of_recorded(selection, split, record, record.data)
    return _rows(selection, split, manifest, record.calibration, seen)


def refuse_changes(given: object, default: object, names: tuple[str, ...] | None, group: str, why: str) -> None:
    """Refuse options that differ from their defaults where they would have no effect."""
    for name in names or tuple(field.name for field in fields(given)):  # type: ignore[arg-type]
        value = getattr(given, name)
        if value != getattr(default, name):
            shown = value.value if isinstance(value, Enum) else value
            raise FerError(f"{group}.{name}={shown} would have no effect: {why}")
