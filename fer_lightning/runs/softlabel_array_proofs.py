"""Checks the arrays of soft labels: bytes, types, shapes, values, and fused logits against those of the teachers."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.labels import NUM_CLASSES
from fer_lightning.runs.ensemble_teachers import with_a_share
from fer_lightning.runs.logit_checks import no_logits
from fer_lightning.runs.softlabel_examined import Examined
from fer_lightning.runs.softlabel_fusion import AS_FUSED, fusion_text_of
from fer_lightning.runs.softlabel_layout import array_kinds, read_bytes, row_ids_of, unpacked_arrays
from fer_lightning.runs.softlabels import SOFTLABELS_FILE, HashManifest


def _examine_teacher_logits(seen: Examined, record: HashManifest, arrays: dict[str, NDArray[Any]]) -> None:
    if "teacher_logits" in arrays:
        of_teachers = arrays["teacher_logits"].swapaxes(0, 1)
        for teacher, own in zip(with_a_share(record.teachers), of_teachers, strict=True):
            found = no_logits(own.reshape(-1, NUM_CLASSES)) or "logits"
            seen.hold(f"teacher_logits of {teacher.name}", found, "logits")


def examine_arrays(seen: Examined, record: HashManifest) -> None:
    """Read `softlabels.npz`, and hold it against what is recorded of it and against what logits are.

    Args:
        seen: gets `arrays` and `row_ids`, where types and shapes are right.
        record: of the folder.
    """
    path = seen.folder / SOFTLABELS_FILE
    content = seen.read(f"{SOFTLABELS_FILE} readable", lambda: read_bytes(path), "readable")
    if content is None:
        return
    arrays = seen.read(f"{SOFTLABELS_FILE} whole", lambda: unpacked_arrays(path, content), "whole")
    seen.hold(f"SHA-256 of {SOFTLABELS_FILE}", hashlib.sha256(content).hexdigest(), record.softlabels_sha256)
    if arrays is None:
        return
    kinds = array_kinds(record)
    found = {name: f"{array.dtype.str.lstrip('|')} {array.shape}" for name, array in arrays.items()}
    expected = {name: f"{np.dtype(kind).str.lstrip('|')} {shape}" for name, (kind, shape) in kinds.items()}
    if not seen.hold(f"arrays of {SOFTLABELS_FILE}", found, expected):
        return
    seen.arrays = arrays
    for name in ("logits", *(["view_logits"] if "view_logits" in arrays else [])):
        seen.hold(name, no_logits(arrays[name].reshape(-1, NUM_CLASSES)) or "logits", "logits")
    _examine_teacher_logits(seen, record, arrays)
    if "view_draws" in arrays:
        draws = arrays["view_draws"]
        inside = bool(((draws >= 0) & (draws < 1)).all())
        seen.hold("view_draws", "in [0, 1)" if inside else "outside [0, 1)", "in [0, 1)")
    highest = int(arrays["y"].max())
    seen.hold("y", f"0..{highest}" if highest >= NUM_CLASSES else "classes", "classes")
    row_ids = seen.read("row ids readable", lambda: row_ids_of(arrays["row_ids"]), "text")
    seen.row_ids = () if row_ids is None else row_ids


def examine_fusion(seen: Examined, record: HashManifest) -> None:
    """Hold fused logits against those of the teachers, where there are any and all are finite.

    Args:
        seen: with the arrays, as far as they could be read.
        record: whose teachers and space are those of the ensemble.
    """
    arrays = seen.arrays
    if arrays is None or "teacher_logits" not in arrays:
        return
    if all(np.isfinite(arrays[name]).all() for name in ("logits", "view_logits", "teacher_logits") if name in arrays):
        seen.hold("logits against teacher_logits", fusion_text_of(record, arrays), AS_FUSED)
