"""Exports a whole ensemble to one ONNX file and checks it against PyTorch."""

import logging
from pathlib import Path

from fer_lightning.deploy.onnx_export import record_exports, recorded_exports, write_onnx_file
from fer_lightning.labels import EMOTIONS
from fer_lightning.runs.artifacts import OnnxExport, OnnxRecord
from fer_lightning.runs.ensemble_file import ENSEMBLE_ONNX_FILE, fusion_text
from fer_lightning.runs.ensemble_network import read_ensemble_network
from fer_lightning.runs.recorded_calibration import chosen_calibration

log = logging.getLogger(__name__)


def export_ensemble(folder: Path, *, calibrator: Path | None = None) -> OnnxExport:
    """Export an ensemble to `ensemble.onnx`: uint8 canonical pictures in, fused logits out; recorded in `onnx.json`.

    In the `prob` space its logits are log-probabilities.

    Args:
        folder: of the ensemble; the caller holds its lock.
        calibrator: `calibrator.json` of the one that is exported; None: what `ensemble.json` holds.

    Returns:
        The record of the ONNX files of the folder.

    Raises:
        FerError: no ensemble, one that is no network, a teacher that was replaced, or another's calibrator.
        TrainingError: the file does not follow the ensemble.
    """
    read, earlier = read_ensemble_network(folder, option="export.run_dir"), recorded_exports(folder)
    ensemble, calibration = read.ensemble, read.ensemble.calibration
    if calibrator is not None:
        calibration = chosen_calibration(calibrator, read.sha256, view=ensemble.view, option="export.calibrator")
    if calibration is None:
        log.warning("%s: no calibration recorded for this ensemble; exporting without one", folder)
    teachers = ensemble.teachers
    record = OnnxRecord(
        emotions=list(EMOTIONS),
        canonical=dict(vars(read.canonical)),
        canonical_digest=read.canonical.digest(),
        checkpoint=read.path.name,
        checkpoint_sha256=read.sha256,
        epoch=-1,
        weights=fusion_text(ensemble.space, [one.weight for one in teachers], [one.name for one in teachers]),
        manifest_sha256=ensemble.manifest_sha256,
        calibration=calibration,
    )
    exported = write_onnx_file(read.build(), folder / ENSEMBLE_ONNX_FILE, record)
    return record_exports(folder, earlier, [exported])
