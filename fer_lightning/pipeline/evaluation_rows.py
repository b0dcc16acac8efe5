"""Which rows `evaluate` judges: those it is given, or those that the model's run recorded."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.data.selection import Selection, select_rows
from fer_lightning.errors import FerError
from fer_lightning.pipeline.config import EvaluateRun
from fer_lightning.runs.artifacts import AlignmentReport, read_artifact
from fer_lightning.runs.run_dir import read_config
from fer_lightning.training.config import CalibrationConfig, CalibrationMethod

_PICTURE_OPTIONS = ("clahe", "clahe_clip_limit", "clahe_tiles")


@dataclass(frozen=True)
class EvaluationRows:
    """Rows to judge, and how."""

    selection: Selection
    manifest: str
    """As named by the command, or by the run's record."""
    calibration: CalibrationConfig


@dataclass(frozen=True)
class _Record:
    """What a run recorded about its rows."""

    run_dir: Path
    data: DataConfig
    source_filter: SourceFilterConfig
    calibration: CalibrationConfig
    seed: int
    alignment: AlignmentReport


def evaluation_rows(run: EvaluateRun, run_dir: Path) -> EvaluationRows:
    """Select the rows of an evaluation.

    Without `data.manifest`, rows and calibration are those of the run the model lies in, and options that say otherwise
    are refused. With it, the given options count; a manifest without val rows is carved exactly as the run carved it,
    or not at all.

    Args:
        run: the typed run.
        run_dir: folder of the model file.

    Raises:
        FerError: neither a manifest nor a record, a manifest that changed, or an option that would have no effect.
    """
    _refuse_changes(
        run.data, DataConfig(), _PICTURE_OPTIONS, "data", "the checkpoint says how its pictures are prepared"
    )
    record = _read_record(run_dir) if (run_dir / "config.yaml").is_file() else None
    if run.data.manifest is not None:
        return _given_rows(run, record)
    if record is None:
        raise FerError(
            f"data.manifest is not set, and {run_dir} is no run directory that could tell which rows to take"
        )
    return _recorded_rows(run, record)


def _given_rows(run: EvaluateRun, record: _Record | None) -> EvaluationRows:
    split = run.evaluate.split
    selection = select_rows(run.data, run.source_filter, seed=run.run.seed, splits=(split,))
    if selection.carved_val_rows and split != "test":
        if record is None or record.alignment.manifest_sha256 != selection.manifest.sha256:
            raise FerError(
                f"{run.data.manifest} has no val rows, and this model's run did not carve them from it: a val split carved "
                "now could hold rows the model was trained on. Evaluate on evaluate.split=test, or mark val rows in the manifest"
            )
        data = DataConfig(**{**vars(record.data), "manifest": run.data.manifest, "root": run.data.root})
        selection = select_rows(data, record.source_filter, seed=record.seed, splits=("train", split))
    return EvaluationRows(selection, str(run.data.manifest), run.calibration)


def _recorded_rows(run: EvaluateRun, record: _Record) -> EvaluationRows:
    why = f"without data.manifest the rows and the calibration that {record.run_dir} recorded are taken; name the manifest to change them"
    _refuse_changes(run.data, DataConfig(num_workers=run.data.num_workers), None, "data", why)
    _refuse_changes(run.source_filter, SourceFilterConfig(), None, "source_filter", why)
    _refuse_changes(run.calibration, CalibrationConfig(), None, "calibration", why)
    split, manifest = run.evaluate.split, str(record.data.manifest)
    if not Path(manifest).is_file():
        raise FerError(
            f"{record.run_dir} recorded data.manifest={manifest}, which is not there, seen from this folder. "
            "Name it as it is found now: data.manifest=<file> (and the run's source_filter)"
        )
    selection = select_rows(record.data, record.source_filter, seed=record.seed, splits=("train", split))
    same_rows = selection.fingerprint(split) == record.alignment.row_set_fingerprints[split]
    if selection.manifest.sha256 != record.alignment.manifest_sha256 or not same_rows:
        raise FerError(
            f"{manifest} is no longer the manifest that {record.run_dir} recorded"
            f"{'' if same_rows else f', and its {split} rows differ'}. To evaluate on it as it is now, name it: data.manifest=<file>"
        )
    return EvaluationRows(selection, manifest, record.calibration)


def _read_record(run_dir: Path) -> _Record:
    values = read_config(run_dir)
    try:
        calibration: dict[str, Any] = {
            **values["calibration"],
            "method": CalibrationMethod(values["calibration"]["method"]),
        }
        return _Record(
            run_dir=run_dir,
            data=DataConfig(**values["data"]),
            source_filter=SourceFilterConfig(**values["source_filter"]),
            calibration=CalibrationConfig(**calibration),
            seed=int(values["run"]["seed"]),
            alignment=read_artifact(run_dir / "alignmentreport.json", AlignmentReport),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FerError(f"{run_dir / 'config.yaml'} is not the record of a run of this version: {error!r}") from error


def _refuse_changes(given: object, default: object, names: tuple[str, ...] | None, group: str, why: str) -> None:
    """Refuse options that differ from their defaults where they would have no effect."""
    for name in names or tuple(field.name for field in fields(given)):  # type: ignore[arg-type]
        if getattr(given, name) != getattr(default, name):
            raise FerError(f"{group}.{name}={getattr(given, name)} would have no effect: {why}")
