"""Models of either kind, opened: what turns pictures into logits, and what it says of itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.deploy.onnx_classifier import open_onnx
from fer_lightning.errors import FerError
from fer_lightning.pipeline.logits.model_files import ModelFile
from fer_lightning.pipeline.logits.scores import MIRROR, Asked
from fer_lightning.runs.artifacts import CalibrationRecord
from fer_lightning.runs.checkpoint import read_checkpoint
from fer_lightning.training.scoring import LogitsOf, classifier_scorer, pick_device
from fer_lightning.training.views import viewed


@dataclass(frozen=True)
class OpenModel:
    """A model that can be run."""

    logits_of: LogitsOf
    canonical: CanonicalSpec
    sha256: str
    epoch: int
    weights: str
    calibration: CalibrationRecord | None
    """Inside an ONNX file."""
    device: str


def open_model(path: Path, accelerator: str, *, option: str) -> OpenModel:
    """Open a checkpoint or an ONNX file.

    Args:
        path: the file.
        accelerator: device of a checkpoint.
        option: the option that named the model, for messages.

    Raises:
        FerError: it cannot be opened.
    """
    if path.suffix == ".onnx":
        onnx = open_onnx(path, option=option)
        record = onnx.record
        return OpenModel(onnx, onnx.canonical, onnx.sha256, record.epoch, record.weights, record.calibration, "onnx")
    checkpoint = read_checkpoint(path, option=option)
    device = pick_device(accelerator)
    return OpenModel(
        classifier_scorer(checkpoint.build(), device),
        checkpoint.canonical,
        checkpoint.sha256,
        checkpoint.epoch,
        checkpoint.weights_are,
        None,
        device.type,
    )


def open_models(asked: Sequence[Asked], accelerator: str, *, option: str) -> dict[ModelFile, OpenModel]:
    """Open every model that is asked, each once.

    Args:
        asked: whose logits.
        accelerator: device of checkpoints.
        option: the option that named the models, for messages.

    Raises:
        FerError: one cannot be opened, or has been replaced since it was found.
    """
    models = dict.fromkeys(one.model for one in asked)
    opened = {model: open_model(model.path, accelerator, option=option) for model in models}
    for model, found in opened.items():
        if found.sha256 != model.sha256:
            raise FerError(f"{option}: {model.path} was replaced while it was opened; start again")
    return opened


def scorer_of(asked: Asked, opened: OpenModel) -> LogitsOf:
    """Return what turns the pictures of a view into logits."""
    if asked.view == MIRROR:
        return lambda pictures: opened.logits_of(pictures.flip(-1))
    return opened.logits_of if asked.crop is not None else viewed(opened.logits_of, asked.view, opened.canonical.size)
