"""Stored logits that are given as such: the folder whose split, rows and view fit is taken, and joined by row id."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fer_lightning.data.pictures.canonical import recorded_digest
from fer_lightning.errors import FerError, NoRowsError
from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows
from fer_lightning.pipeline.rows.row_columns import row_columns
from fer_lightning.runs.stored_logits import StoredLogits, read_stored_logits
from fer_lightning.runs.stored_logits_record import RECORD_FILE, StoredLogitsRecord, read_stored_record, stored_folders


@dataclass(frozen=True)
class GivenLogits:
    """A folder of stored logits, or one that holds several."""

    path: Path
    folders: tuple[Path, ...]
    records: tuple[StoredLogitsRecord, ...]
    option: str
    """That named it, for messages."""

    def fitting(self, split: str, view: str) -> dict[str, Path]:
        """Return row-set fingerprint -> folder of the logits of a split through a view; float32 where there are both."""
        found: dict[str, Path] = {}
        for folder, record in sorted(zip(self.folders, self.records, strict=True), key=lambda one: one[1].dtype):
            if (record.split, record.view, record.corruption) == (split, view, "none"):
                found[record.row_set_fingerprint] = folder  # float16 sorts first
        return found

    def listing(self) -> str:
        """Return what there is, a line for each folder."""
        lines = [
            f"  {folder.name}: {record.n} {record.split} rows {record.row_set_fingerprint[:8]} of {record.manifest}, view "
            f"{record.view}{'' if record.corruption == 'none' else f', changed pictures ({record.corruption})'}"
            for folder, record in zip(self.folders, self.records, strict=True)
        ]
        return "\n".join(lines)


def open_given_logits(given: Path, *, option: str) -> GivenLogits:
    """Return the stored logits in a folder, or in the folders that it holds; their numbers are not read.

    Args:
        given: the folder, or a file of stored logits.
        option: the option that named it, for messages.

    Raises:
        FerError: there are none, or a record is damaged.
    """
    folders = stored_folders(given)
    if not folders:
        raise FerError(f"{option}: {given} is no run directory and holds no stored logits (no {RECORD_FILE})")
    return GivenLogits(given, tuple(folders), tuple(read_stored_record(one, option=option) for one in folders), option)


def _checked(folder: Path, *, option: str) -> StoredLogits:
    stored = read_stored_logits(folder, option=option)
    record = stored.record
    if record.kind in {"checkpoint", "onnx"}:
        digest = recorded_digest(record.canonical) or ""
        if digest != record.canonical_digest:
            raise FerError(
                f"{option}: {folder}: canonical_digest is {record.canonical_digest[:12]}, but pictures prepared as it says "
                f"({', '.join(f'{name} {value}' for name, value in record.canonical.items())}) have {digest[:12] or 'none'}: the "
                "logits are of pictures prepared in another way (size, CLAHE). Store them again with task=store_logits"
            )
    return stored


def _difference(row_ids: Sequence[str], labels: Sequence[int], stored: StoredLogits) -> str:
    """Say in what the rows of stored logits differ from those wanted."""
    wanted, found = (
        dict(zip(row_ids, labels, strict=True)),
        dict(zip(stored.row_ids, stored.labels.tolist(), strict=True)),
    )
    if wanted.keys() == found.keys():
        other = [row for row in stored.row_ids if wanted[row] != found[row]]
        path = stored.image_paths[stored.row_ids.index(other[0])]
        return (
            f"the same rows with {len(other)} other label{'s' if len(other) > 1 else ''}: {path} is "
            f"{EMOTIONS[found[other[0]]]} there and {EMOTIONS[wanted[other[0]]]} here"
        )
    both = len(wanted.keys() & found.keys())
    return f"{len(found)} rows, {len(wanted)} are wanted, and {both} are in both"


def _refusal(given: GivenLogits, split: str, view: str, fingerprint: str, difference: str) -> FerError:
    return FerError(
        f"{given.option}: {given.path} holds no logits of the {split} rows {fingerprint[:8]} through view {view}"
        f"{difference}. It holds\n{given.listing()}"
    )


def on_rows(given: GivenLogits, rows: EvaluationRows, view: str) -> StoredLogits:
    """Return the stored logits of given rows, in their order and with what the manifest says of them.

    Raises:
        FerError: there are none of these rows, labels, sources, or this view; tells what there is and what differs.
    """
    split, fingerprint, columns = rows.split, rows.selection.fingerprint(rows.split), row_columns(rows)
    found = given.fitting(split, view)
    if fingerprint not in found:
        differences = [
            f"\n{folder.name} has {_difference(columns.row_ids, columns.labels.tolist(), _checked(folder, option=given.option))}"
            for folder in found.values()
        ]
        raise _refusal(given, split, view, fingerprint, "".join(differences))
    stored = _checked(found[fingerprint], option=given.option).in_order_of(columns.row_ids)
    _check_sources(stored, columns.sources, where=f"{given.option}: {found[fingerprint]}", other=rows.manifest)
    selection, record, group_columns = rows.selection, stored.record, list(rows.selection.group_columns)
    linked_alike = record.manifest_sha256 == selection.manifest.sha256 and record.group_columns == group_columns
    return StoredLogits(
        record=replace(
            record,
            manifest=rows.manifest,
            manifest_sha256=selection.manifest.sha256,
            requested_rows=rows.requested_rows,
            rows_left_out=rows.rows_left_out,
            group_columns=group_columns,
        ),
        logits=stored.logits,
        groups=stored.groups if linked_alike else torch.from_numpy(selection.groups(split)),
        face_sides=stored.face_sides,
        **vars(columns),
    )


def _check_sources(stored: StoredLogits, sources: Sequence[str], *, where: str, other: str) -> None:
    differing = [row for row, (mine, its) in enumerate(zip(stored.sources, sources, strict=True)) if mine != its]
    if differing:
        row = differing[0]
        raise FerError(
            f"{where}: the source of {len(differing)} rows differs: {stored.image_paths[row]} is of {stored.sources[row]} there, "
            f"and of {sources[row]} in {other}"
        )


def common_rows(given: Sequence[GivenLogits], split: str, view: str) -> str:
    """Return the fingerprint of the rows of a split that all of several folders have logits of.

    Raises:
        NoRowsError: none of them has any.
        FerError: there are none, or several; tells what there is.
    """
    found = [one.fitting(split, view) for one in given]
    common = set(found[0]).intersection(*found[1:])
    if len(common) == 1:
        return common.pop()
    listing = "\n".join(f"{one.path}:\n{one.listing()}" for one in given)
    if common:
        raise FerError(
            f"{given[0].option}: there are logits of several sets of {split} rows; name the one by data.manifest=<file>\n{listing}"
        )
    if not any(found):
        raise NoRowsError(
            f"{given[0].option}: there are no logits of {split} rows through view {view}. There are\n{listing}"
        )
    difference = ""
    if all(found) and len(given) > 1:
        first, second = (_checked(next(iter(one.values())), option=given[0].option) for one in found[:2])
        difference = f" {given[1].path} has {_difference(first.row_ids, first.labels.tolist(), second)}."
    raise FerError(
        f"{given[0].option}: there are no {split} rows that all have logits of through view {view}.{difference} There are\n{listing}"
    )


def alike(given: Sequence[GivenLogits], fingerprint: str, split: str, view: str) -> list[StoredLogits]:
    """Return stored logits of the same rows, in the order of the first.

    Raises:
        FerError: one of them has none of these, or other sources.
    """
    parts: list[StoredLogits] = []
    for one in given:
        folder = one.fitting(split, view).get(fingerprint)
        if folder is None:
            raise _refusal(one, split, view, fingerprint, "")
        stored = _checked(folder, option=one.option)
        if parts:
            stored = stored.in_order_of(parts[0].row_ids)
            _check_sources(stored, parts[0].sources, where=f"{one.option}: {folder}", other=str(given[0].path))
        parts.append(stored)
    return parts
