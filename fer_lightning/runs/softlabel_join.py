"""Joins soft labels with the rows of a manifest: by row id, and only where both speak of the same rows, labels and pictures."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS, check_class_order
from fer_lightning.runs.softlabels import SoftLabels

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

_SHOWN = 5


@dataclass(frozen=True, eq=False)
class JoinedSoftLabels:
    """Soft labels of some rows of a manifest, in the order of those rows."""

    positions: NDArray[np.int64]
    """(n,) place of each row in the file of the soft labels; -1 where it has none."""
    logits: "Tensor"
    """(n, 7) float32; NaN where a row has none."""
    labels: "Tensor"
    """(n,) int64 of the manifest, which are those of the soft labels wherever a row has some."""


def check_canonicals(softlabels: SoftLabels, canonical: CanonicalSpec, *, option: str) -> None:
    """Refuse pictures that are prepared in another way than those the teachers saw.

    The size may differ: a student may be smaller than its teachers. Of a foreign teacher's pictures nothing is known, and
    a teacher without weight has taught nothing.

    Args:
        softlabels: whose record says how the teachers' pictures were prepared.
        canonical: preparation of the student's pictures.
        option: the option that named the soft labels, for messages.

    Raises:
        FerError: CLAHE or one of its parameters differs; names the teacher and every parameter.
    """
    record = softlabels.record
    for teacher, of_teacher in zip(record.teachers, record.canonicals, strict=True):
        if not of_teacher or not teacher.weight:
            continue
        try:
            theirs = CanonicalSpec(**{**of_teacher, "size": canonical.size})  # type: ignore[arg-type]
        except TypeError as error:
            raise FerError(
                f"{option}: pictures of teacher {teacher.name} are prepared by options unknown to this version: {error}"
            ) from error
        if theirs.digest() != canonical.digest():
            different = [
                f"{name} is {getattr(theirs, name)} there, {value} here"
                for name, value in vars(canonical).items()
                if getattr(theirs, name) != value
            ]
            raise FerError(
                f"{option}: teacher {teacher.name} saw pictures that were prepared in another way: {'; '.join(different)}. "
                "Set data.clahe, data.clahe_clip_limit and data.clahe_tiles as the teachers' runs did"
            )


def changed_rows(softlabels: SoftLabels, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield what is not in a manifest as it was when soft labels were exported: `row`, `label`, `source` or `split`, and how.

    Args:
        softlabels: what was exported.
        manifest: as it is now; rows may stand elsewhere, and there may be more.
    """
    place = {row_id: number for number, row_id in enumerate(manifest.row_ids)}
    labels, splits, sources = manifest.labels.tolist(), manifest.splits.tolist(), manifest.sources.tolist()
    kept = np.isin(manifest.sources, sorted(set(softlabels.sources)))
    carved = not np.any(manifest.splits[kept] == "val")  # then val rows are called train in the file
    rows = zip(
        softlabels.row_ids,
        softlabels.image_paths,
        softlabels.labels.tolist(),
        softlabels.sources,
        softlabels.splits,
        strict=True,
    )
    for row_id, path, label, source, split in rows:
        number = place.get(row_id)
        if number is None:
            yield "row", f"{path} ({source}, {split}) is not in it"
            continue
        line = f"line {manifest.lines[number]}, {path}"
        if labels[number] != label:
            yield "label", f"{line}: label is {EMOTIONS[labels[number]]}, was {EMOTIONS[label]}"
        if sources[number] != source:
            yield "source", f"{line}: source is {sources[number]}, was {source}"
        if splits[number] != split and not (carved and (splits[number], split) == ("train", "val")):
            yield "split", f"{line}: split is {splits[number]}, was {split}"


def _shown(changes: list[str]) -> str:
    more = f"\n  ... and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return "".join(f"\n  {change}" for change in changes[:_SHOWN]) + more


def check_manifest(softlabels: SoftLabels, manifest: Manifest, *, manifest_sha256: str, option: str) -> None:
    """Refuse a manifest in which the exported rows are not what they were.

    A file with other bytes is taken where every exported row is in it with the same label, source and split, wherever it
    stands; that is logged.

    Args:
        softlabels: what was exported.
        manifest: to be joined with.
        manifest_sha256: of its file.
        option: the option that named the soft labels, for messages.

    Raises:
        FerError: it is another manifest; lists the first rows that differ.
    """
    record = softlabels.record
    if manifest_sha256 == record.manifest_sha256:
        return
    changes = [change for _, change in changed_rows(softlabels, manifest)]
    digests = f"SHA-256 {manifest_sha256[:12]}, not {record.manifest_sha256[:12]}"
    if changes:
        raise FerError(
            f"{option}: {manifest.path} is another manifest than the soft labels were exported from, {record.manifest} "
            f"({digests}); {len(changes)} differences in the {record.n} exported rows:{_shown(changes)}\n"
            "Train on the manifest of the export, or export soft labels of this one"
        )
    log.warning(
        "%s: %s has other bytes than the manifest of the soft labels (%s), but every exported row is in it as it was",
        option,
        manifest.path,
        digests,
    )


def _refuse_missing(
    softlabels: SoftLabels, manifest: Manifest, missing: NDArray[np.int64], total: int, *, option: str
) -> None:
    if not len(missing):
        return
    rows = [
        f"line {manifest.lines[row]}, {manifest.image_paths[row]} ({manifest.sources[row]}, {manifest.splits[row]})"
        for row in missing.tolist()
    ]
    raise FerError(
        f"{option}: {len(missing)} of {total} rows have no soft labels, which are of {', '.join(softlabels.record.splits)} "
        f"rows of {', '.join(sorted(set(softlabels.sources)))}:{_shown(rows)}\n"
        "Export soft labels of these rows too, or leave the rows out with source_filter"
    )


def _refuse_other_labels(
    softlabels: SoftLabels, manifest: Manifest, rows: NDArray[np.int64], positions: NDArray[np.int64], *, option: str
) -> None:
    here, there = manifest.labels[rows], softlabels.labels.numpy()[positions]
    different = np.flatnonzero((positions >= 0) & (here != there))
    if len(different):
        changes = [
            f"line {manifest.lines[rows[at]]}, {manifest.image_paths[rows[at]]}: label is {EMOTIONS[here[at]]} here, "
            f"{EMOTIONS[there[at]]} in the soft labels"
            for at in different.tolist()
        ]
        raise FerError(f"{option}: labels of {len(different)} rows differ:{_shown(changes)}")


def join_softlabels(
    softlabels: SoftLabels,
    manifest: Manifest,
    rows: NDArray[np.int64],
    *,
    manifest_sha256: str,
    canonical: CanonicalSpec,
    option: str,
    allow_missing: bool = False,
) -> JoinedSoftLabels:
    """Join soft labels with rows of a manifest, by row id: never by path or by position.

    Args:
        softlabels: as `read_softlabels` returns them.
        manifest: the student's.
        rows: (n,) its row numbers.
        manifest_sha256: of its file.
        canonical: preparation of the student's pictures; their size may differ from that of the teachers'.
        option: the option that named the soft labels, for messages.
        allow_missing: take rows without soft labels, at position -1.

    Raises:
        FerError: another class order, preparation or manifest, another label, or rows without soft labels; says which.
    """
    import torch

    try:
        check_class_order(softlabels.record.class_order, where=f"{option}: the soft labels' record")
    except ValueError as error:
        raise FerError(str(error)) from error
    check_canonicals(softlabels, canonical, option=option)
    check_manifest(softlabels, manifest, manifest_sha256=manifest_sha256, option=option)
    place = {row_id: position for position, row_id in enumerate(softlabels.row_ids)}
    found = (place.get(manifest.row_ids[row], -1) for row in rows.tolist())
    positions = np.fromiter(found, dtype=np.int64, count=len(rows))
    _refuse_other_labels(softlabels, manifest, rows, positions, option=option)
    missing = positions < 0
    if not allow_missing:
        _refuse_missing(softlabels, manifest, rows[missing], len(rows), option=option)
    logits = softlabels.logits[torch.from_numpy(positions)].float()
    logits[torch.from_numpy(missing)] = torch.nan
    return JoinedSoftLabels(positions, logits, torch.from_numpy(manifest.labels[rows]))
