"""Exports a checkpoint to one ONNX file and checks it against PyTorch."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import onnx
import torch
from torch import Tensor, nn

from fer_lightning.data.batches.augment import to_float
from fer_lightning.deploy.onnx_classifier import INPUT_NAME, OUTPUT_NAME, open_onnx
from fer_lightning.errors import TrainingError
from fer_lightning.files import sha256_of, write_atomically
from fer_lightning.labels import EMOTIONS
from fer_lightning.runs.artifacts import (
    ONNX_RECORD_FILE,
    CalibrationRecord,
    OnnxExport,
    OnnxParity,
    OnnxRecord,
    read_artifact,
    to_json,
    write_artifact,
)
from fer_lightning.runs.checkpoint import ClassifierCheckpoint, read_checkpoint
from fer_lightning.runs.checkpoint_file import CHECKPOINT_FILES, CHECKPOINT_KEY
from fer_lightning.runs.recorded_calibration import chosen_calibration, recorded_calibration

log = logging.getLogger(__name__)

_OPSET = 18
_BATCH_SIZES = (1, 2, 5)
_TOLERANCE = 1e-3
"""Largest allowed difference of a logit; logits span 2 x scale, 60 by default."""


class _FromUint8(nn.Module):
    """Takes canonical pictures as they are: the step to floats cannot be forgotten."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        return cast("Tensor", self.network(to_float(pictures)))


def write_onnx_file(network: nn.Module, path: Path, record: OnnxRecord) -> OnnxParity:
    """Write an ONNX file: uint8 canonical pictures (N, 3, S, S) in, logits (N, 7) out, N free.

    It is compared with PyTorch at batch sizes 1, 2 and 5 before it takes its place.

    Args:
        network: (N, 3, S, S) float RGB in [0, 1] -> (N, 7) logits.
        path: where to.
        record: what the file carries in its metadata.

    Raises:
        TrainingError: the logits differ by more than 0.001 or are not finite, or an argmax differs; nothing is written.
    """
    model, size = _FromUint8(network).eval(), int(record.canonical["size"])
    pictures = torch.randint(0, 256, (max(_BATCH_SIZES), 3, size, size), generator=torch.Generator().manual_seed(0))
    pictures = pictures.to(torch.uint8)
    difference, same_argmax = 0.0, True

    def write(temporary: Path) -> None:
        nonlocal difference, same_argmax
        _export(model, pictures[:2], temporary, record)
        difference, same_argmax = _compare(model, temporary, pictures)
        if not difference <= _TOLERANCE or not same_argmax:  # NaN is no parity
            raise TrainingError(
                f"{path.name} differs from {record.checkpoint} by up to {difference:.2g} in a logit "
                f"(allowed {_TOLERANCE:g}, argmax {'equal' if same_argmax else 'differs'}); it was not written"
            )

    write_atomically(path, write)
    log.info("exported %s: logits within %.1e of PyTorch", path, difference)
    return OnnxParity(
        file=path.name,
        sha256=sha256_of(path),
        checkpoint=record.checkpoint,
        checkpoint_sha256=record.checkpoint_sha256,
        batch_sizes=list(_BATCH_SIZES),
        max_abs_logit_difference=difference,
        same_argmax=same_argmax,
    )


def export_onnx_file(
    checkpoint: ClassifierCheckpoint, path: Path, *, calibration: CalibrationRecord | None
) -> OnnxParity:
    """Write a checkpoint as an ONNX file that carries class order, canonical picture, digest and calibration.

    Args:
        checkpoint: what to export.
        path: where to.
        calibration: the checkpoint's calibration, or None.

    Raises:
        TrainingError: the file does not follow the checkpoint, see `write_onnx_file`.
    """
    record = OnnxRecord(
        emotions=list(EMOTIONS),
        canonical=dict(vars(checkpoint.canonical)),
        canonical_digest=checkpoint.canonical.digest(),
        checkpoint=checkpoint.path.name,
        checkpoint_sha256=checkpoint.sha256,
        epoch=checkpoint.epoch,
        weights=checkpoint.weights_are,
        manifest_sha256=checkpoint.manifest_sha256,
        calibration=calibration,
    )
    return write_onnx_file(checkpoint.build(), path, record)


def _export(model: nn.Module, example: Tensor, path: Path, record: OnnxRecord) -> None:
    with _quiet_exporter():
        program = torch.onnx.export(
            model,
            (example,),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes={"pictures": {0: torch.export.Dim("batch", min=1, max=4096)}},
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise TrainingError("torch.onnx.export returned no program")
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {CHECKPOINT_KEY: to_json(record)})
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())


def _compare(model: nn.Module, path: Path, pictures: Tensor) -> tuple[float, bool]:
    """Return the largest logit difference and whether every argmax agrees."""
    exported = open_onnx(path, option="export")
    differences, same = [], True
    with torch.inference_mode():
        for batch_size in _BATCH_SIZES:
            expected, got = model(pictures[:batch_size]), exported(pictures[:batch_size])
            differences.append((expected - got).abs().max())
            same = same and bool((expected.argmax(1) == got.argmax(1)).all())
    return float(torch.stack(differences).max()), same  # torch's max keeps NaN, Python's may lose it


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's own remarks off the console; its errors still come through."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def recorded_exports(run_dir: Path) -> OnnxExport:
    """Return the record of the ONNX files of a folder, which may be empty.

    Raises:
        FerError: it is damaged.
    """
    record_file = run_dir / ONNX_RECORD_FILE
    return read_artifact(record_file, OnnxExport) if record_file.exists() else OnnxExport(files=[])


def record_exports(run_dir: Path, earlier: OnnxExport, exported: Sequence[OnnxParity]) -> OnnxExport:
    """Write the record of ONNX files, those of earlier calls included, and return it."""
    names = {parity.file for parity in exported}
    record = OnnxExport(files=[*(parity for parity in earlier.files if parity.file not in names), *exported])
    write_artifact(run_dir / ONNX_RECORD_FILE, record)
    return record


def export_run(run_dir: Path, which: Sequence[str], *, calibrator: Path | None = None) -> OnnxExport:
    """Export a run's checkpoints to `best.onnx` and `last.onnx` and record them in `onnx.json`.

    Args:
        run_dir: the run directory; the caller holds its lock.
        which: `best`, `last`.
        calibrator: `calibrator.json` of the one that is exported; None: what the run has fitted.

    Returns:
        The record of all ONNX files of the run.

    Raises:
        FerError: no such checkpoint.
        TrainingError: a file does not follow its checkpoint.
    """
    earlier = recorded_exports(run_dir)
    return record_exports(run_dir, earlier, [_export_checkpoint(run_dir, name, calibrator) for name in which])


def _export_checkpoint(run_dir: Path, name: str, calibrator: Path | None) -> OnnxParity:
    checkpoint = read_checkpoint(run_dir / CHECKPOINT_FILES[name], option="export.run_dir")
    calibration = recorded_calibration(run_dir, checkpoint.sha256)
    if calibrator is not None:
        calibration = chosen_calibration(calibrator, checkpoint.sha256, view="single", option="export.calibrator")
    if calibration is None:
        log.warning("%s: no calibration recorded for this %s; exporting without one", run_dir, name)
    return export_onnx_file(checkpoint, run_dir / f"{name}.onnx", calibration=calibration)
