"""Exports a run's checkpoints, or an ensemble, to ONNX."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.errors import FerError
from fer_lightning.pipeline.config import ExportOnnxRun, ExportTarget
from fer_lightning.runs.checkpoint_file import CHECKPOINT_FILES, check_checkpoint_file
from fer_lightning.runs.ensemble_file import check_network, ensemble_file, is_ensemble, read_ensemble
from fer_lightning.runs.lock import RunLock

if TYPE_CHECKING:
    from fer_lightning.runs.artifacts import OnnxExport

log = logging.getLogger(__name__)


def export_onnx(run: ExportOnnxRun) -> None:
    """Write `<which>.onnx` beside each checkpoint, or `ensemble.onnx`, compared with PyTorch before it takes its place.

    Raises:
        FerError: no run directory or ensemble given, a checkpoint is missing or broken, or an ensemble is no network.
        RunLockedError: the folder is in use.
    """
    if run.export.run_dir is None:
        raise FerError("task=export_onnx needs export.run_dir=<run directory or folder of an ensemble>")
    directory, ensemble = Path(run.export.run_dir), is_ensemble(run.export.run_dir)
    calibrator = None if run.export.calibrator is None else Path(run.export.calibrator)
    if ensemble:
        directory = ensemble_file(directory).parent
        _check_ensemble(run.export, directory)
    else:
        for which in run.export.which:
            check_checkpoint_file(directory / CHECKPOINT_FILES[which], option="export.run_dir")
    if calibrator is not None and not calibrator.is_file():
        raise FerError(f"export.calibrator: no file {calibrator}")
    with RunLock(directory, unlock_stale=run.run.unlock_stale):
        exports = _export(run.export, directory, calibrator, ensemble=ensemble)
    for parity in exports.files:
        log.info(
            "%s: logits within %.1e of %s",
            directory / parity.file,
            parity.max_abs_logit_difference,
            parity.checkpoint,
        )


def _check_ensemble(target: ExportTarget, directory: Path) -> None:
    """Refuse what can be known to fail without torch."""
    # With a calibrator the options ask for one checkpoint, whichever: it can stay, for it says nothing here.
    if target.which != ExportTarget().which and target.calibrator is None:
        shown = ",".join(target.which)
        raise FerError(f"export.which=[{shown}] would have no effect: {directory} is an ensemble, which is one file")
    check_network(
        read_ensemble(directory, option="export.run_dir"), where=f"export.run_dir: {ensemble_file(directory)}"
    )


def _export(target: ExportTarget, directory: Path, calibrator: Path | None, *, ensemble: bool) -> "OnnxExport":
    if ensemble:
        from fer_lightning.deploy.ensemble_export import export_ensemble  # torch

        return export_ensemble(directory, calibrator=calibrator)
    from fer_lightning.deploy.onnx_export import export_run  # torch

    return export_run(directory, target.which, calibrator=calibrator)
