"""Writes soft labels, byte for byte the same each time, and reads them back only where every proof holds."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_lightning.errors import FerError
from fer_lightning.files import write_atomically, write_text_atomically
from fer_lightning.labels import EMOTIONS, NUM_CLASSES
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.ensemble import ENSEMBLE_FILE
from fer_lightning.runs.logit_checks import check_logits
from fer_lightning.runs.softlabel_examined import Examined
from fer_lightning.runs.softlabel_layout import array_names, fingerprints, row_digest
from fer_lightning.runs.softlabel_proofs import examine_softlabels
from fer_lightning.runs.softlabels import (
    ALIGNMENT_FILE,
    CLASS_ORDER_FILE,
    HASH_FILE,
    INDEX_FILE,
    SOFTLABELS_FILE,
    ClassOrder,
    SoftLabels,
)

if TYPE_CHECKING:
    from torch import Tensor


def kept_logits(logits: "Tensor", dtype: str, *, image_paths: Sequence[str], where: str) -> "Tensor":
    """Return logits in the type that they are kept in; nothing becomes infinite.

    Args:
        logits: (N, 7) float64.
        dtype: `float16` or `float32`.
        image_paths: of the rows, for messages.
        where: what the logits are of, for messages.

    Raises:
        FerError: values that are not finite, or that the type cannot hold, with their rows; or probabilities.
    """
    import torch

    values = logits.numpy()
    check_logits(values, image_paths, dtype, where=where)
    return torch.from_numpy(values.astype(dtype))


def _archive(softlabels: SoftLabels) -> bytes:
    """Return the bytes of `softlabels.npz`; NumPy dates every member 1980, so that equal arrays are equal bytes."""
    arrays = {
        "logits": softlabels.logits.numpy(),
        "y": softlabels.labels.numpy().astype(np.uint8),
        "row_ids": np.array([row_id.encode("ascii") for row_id in softlabels.row_ids], dtype="S64"),
    }
    if softlabels.view_logits is not None and softlabels.view_draws is not None:
        arrays |= {"view_logits": softlabels.view_logits.numpy(), "view_draws": softlabels.view_draws.numpy()}
    if softlabels.teacher_logits is not None:
        arrays["teacher_logits"] = softlabels.teacher_logits.numpy()
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _index(softlabels: SoftLabels) -> str:
    rows = zip(
        softlabels.image_paths,
        softlabels.sources,
        softlabels.labels.tolist(),
        softlabels.row_ids,
        softlabels.splits,
        strict=True,
    )
    names = ("image_path", "source", "y", "row_id", "split")
    return "".join(
        json.dumps({"i": number, **dict(zip(names, row, strict=True))}, ensure_ascii=False) + "\n"
        for number, row in enumerate(rows)
    )


def write_softlabels(folder: Path, softlabels: SoftLabels, *, ensemble: bytes) -> SoftLabels:
    """Write arrays, index, class order and `ensemble.json`, then `hash_manifest.json` that vouches for them.

    Figures and `alignmentreport.json`, without which nobody reads the folder, are left to the caller, who has checked what
    was written by then: a report that is there already is removed first.

    Args:
        folder: made when missing.
        softlabels: of its record, digests, fingerprints, n, class order and arrays are filled in here.
        ensemble: content of `ensemble.json`.

    Returns:
        The same with the record as written.

    Raises:
        OSError: the files cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ALIGNMENT_FILE).unlink(missing_ok=True)
    archive, index = _archive(softlabels), _index(softlabels)
    record = replace(
        softlabels.record,
        row_set_fingerprints=fingerprints(softlabels.row_ids, softlabels.labels.tolist(), softlabels.splits),
        row_digest=row_digest(softlabels.row_ids),
        n=len(softlabels.row_ids),
        softlabels_sha256=hashlib.sha256(archive).hexdigest(),
        index_sha256=hashlib.sha256(index.encode()).hexdigest(),
        ensemble_sha256=hashlib.sha256(ensemble).hexdigest(),
        class_order=list(EMOTIONS),
        arrays=array_names(softlabels.record),
    )
    write_atomically(folder / SOFTLABELS_FILE, lambda temporary: temporary.write_bytes(archive))
    write_text_atomically(folder / INDEX_FILE, index)
    write_artifact(folder / CLASS_ORDER_FILE, ClassOrder(emotions=list(EMOTIONS)))
    write_atomically(folder / ENSEMBLE_FILE, lambda temporary: temporary.write_bytes(ensemble))
    write_artifact(folder / HASH_FILE, record)
    return replace(softlabels, record=record)


def softlabels_of(examined: Examined) -> SoftLabels | None:
    """Return the soft labels of an examined folder; None where they could not be read."""
    import torch

    record, arrays, index = examined.record, examined.arrays, examined.index
    if record is None or arrays is None or index is None or len(examined.row_ids) != record.n:
        return None
    if int(arrays["y"].max()) >= NUM_CLASSES:
        return None
    optional = ("view_logits", "view_draws", "teacher_logits")
    others = {name: torch.from_numpy(arrays[name]) if name in arrays else None for name in optional}
    return SoftLabels(
        record=record,
        logits=torch.from_numpy(arrays["logits"]),
        labels=torch.from_numpy(arrays["y"].astype(np.int64)),
        row_ids=examined.row_ids,
        sources=tuple(index["source"]),
        splits=tuple(index["split"]),
        image_paths=tuple(index["image_path"]),
        **others,
    )


def read_softlabels(folder: Path, *, option: str) -> SoftLabels:
    """Read soft labels and refuse them where a proof does not hold.

    All files are there; their digests are those recorded; the class order is the canonical one; types, shapes and n are
    as recorded; logits are finite and no probabilities; those of the teachers give the fused ones; no row comes twice; index
    and arrays name the same rows with the same labels; row digest and row-set fingerprints are those of the rows; the report
    and the figures are of them.

    Args:
        folder: of the soft labels, or one of its files.
        option: the option that named it, for messages.

    Raises:
        FerError: the first proof that does not hold, with what was found and what was expected.
    """
    folder = folder.parent if folder.is_file() else folder
    if not (folder / HASH_FILE).is_file() and not (folder / SOFTLABELS_FILE).is_file():
        raise FerError(f"{option}: {folder} holds no soft labels: there is no {SOFTLABELS_FILE} in it")
    if not (folder / ALIGNMENT_FILE).is_file():
        raise FerError(
            f"{option}: {folder} is an export that was not finished: there is no {ALIGNMENT_FILE} in it. Run the same "
            "task=export_softlabels again, which finishes it"
        )
    examined = examine_softlabels(folder)
    for proof in examined.failed:
        if proof.name == HASH_FILE:
            raise FerError(f"{option}: {proof.found}")
        raise FerError(
            f"{option}: {folder} is not what was exported: {proof.name}: found {proof.found}; expected {proof.expected}. Tell all that "
            f"does not hold with task=diagnose_alignment diagnose.softlabels={folder}; to export again, remove the folder first"
        )
    softlabels = softlabels_of(examined)
    if softlabels is None:
        raise FerError(f"{option}: {folder} cannot be read")
    return softlabels
