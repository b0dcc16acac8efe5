"""Runs an ONNX file of this project on canonical pictures."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state
from torch import Tensor

from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.errors import FerError
from fer_lightning.labels import check_class_order
from fer_lightning.runs.artifacts import OnnxRecord, from_json
from fer_lightning.runs.checkpoint_file import CHECKPOINT_KEY

_ORT_ERRORS: tuple[type[Exception], ...] = (
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoSuchFile,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
    UnicodeDecodeError,  # damaged names
)

INPUT_NAME, OUTPUT_NAME = "pictures", "logits"


@dataclass(frozen=True)
class OnnxClassifier:
    """A session and the record its file carries."""

    session: onnxruntime.InferenceSession
    record: OnnxRecord
    canonical: CanonicalSpec
    sha256: str
    """Of the bytes the session was made from."""

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return logits.

        Args:
            pictures: (N, 3, S, S) uint8 RGB canonical pictures.

        Returns:
            (N, 7) float32.
        """
        (logits,) = self.session.run([OUTPUT_NAME], {INPUT_NAME: np.ascontiguousarray(pictures.numpy())})
        return torch.from_numpy(logits)


def open_onnx(path: Path, *, option: str) -> OnnxClassifier:
    """Open an ONNX file written by `export_onnx`.

    Args:
        path: the file.
        option: the option that named it, for messages.

    Raises:
        FerError: missing, not ONNX, without this project's record, of another class order, or fed with pictures that
            this version prepares differently.
    """
    if not path.is_file():
        raise FerError(f"{option}: no file {path}")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    try:
        content = path.read_bytes()
        session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        text = session.get_modelmeta().custom_metadata_map.get(CHECKPOINT_KEY)
    except _ORT_ERRORS as error:
        raise FerError(f"{option}: {path} is not an ONNX model: {str(error).splitlines()[0]}") from error
    if text is None:
        raise FerError(f"{option}: {path} was not exported by fer_lightning: its pictures and class order are unknown")
    record = from_json(text, OnnxRecord, where=str(path))
    try:
        check_class_order(record.emotions, where=str(path))
    except ValueError as error:
        raise FerError(str(error)) from error
    try:
        canonical = CanonicalSpec(**record.canonical)  # type: ignore[arg-type]
    except TypeError as error:
        raise FerError(f"{option}: {path} expects pictures that this version does not know: {error}") from error
    if canonical.digest() != record.canonical_digest:
        raise FerError(f"{option}: {path} expects pictures that this version prepares differently (canonical digest)")
    return OnnxClassifier(session, record, canonical, hashlib.sha256(content).hexdigest())
