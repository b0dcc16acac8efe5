"""Findings that need no picture: faulty rows, missing files, and what is odd about the file itself."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.audit.findings import Finding
from fer_lightning.data.rows.columns import SPLITS
from fer_lightning.data.rows.faults import Fault
from fer_lightning.data.rows.listings import FolderListings
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.labels import EMOTIONS

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def fault_findings(faults: Iterable[Fault], every_row: Manifest) -> list[Finding]:
    """Return faulty rows as findings, by line.

    Args:
        faults: what is wrong with rows.
        every_row: the manifest with its faulty rows.
    """
    faults = sorted(faults, key=lambda fault: fault.line)
    if not faults:
        return []
    row_of = {line: row for row, line in enumerate(every_row.lines.tolist())}
    findings = []
    for fault in faults:
        row = row_of.get(fault.line)
        identity, path = ("", "") if row is None else (every_row.row_ids[row], every_row.image_paths[row])
        said = fault.reason if fault.column == "image_path" else f"{fault.reason} ({fault.column}={fault.value!r})"
        findings.append(
            Finding(
                kind=str(fault.kind),
                line=fault.line,
                row_id=identity,
                image_path=path,
                detail=said,
                related=fault.related,
            )
        )
    return findings


def file_findings(path: Path, manifest: Manifest) -> list[Finding]:
    """Return what is odd about a manifest file, as notes.

    Args:
        path: the CSV.
        manifest: its rows.
    """
    data = path.read_bytes()
    findings = []
    if data.startswith(_BYTE_ORDER_MARK):
        findings.append(Finding(kind="byte_order_mark", detail="the file begins with a UTF-8 byte order mark; ignored"))
    if windows := data.count(b"\r\n"):
        others = data.count(b"\n") - windows
        mixed = f", {others:,} of another kind" if others else ""
        findings.append(Finding(kind="crlf", detail=f"{windows:,} lines end in CR LF{mixed}; read as any other"))
    if manifest.unknown_columns:
        names = ", ".join(manifest.unknown_columns)
        findings.append(Finding(kind="unknown_columns", detail=f"kept, and used by nothing: {names}"))
    return findings


def name_findings(manifest: Manifest, rows: NDArray[np.int64], missing: Iterable[Fault]) -> list[Finding]:
    """Return notes about names outside ASCII.

    Args:
        manifest: the manifest.
        rows: row numbers audited.
        missing: rows without a file.
    """
    findings = []
    foreign = [row for row in rows.tolist() if not manifest.image_paths[row].isascii()]
    if foreign:
        first = f"the first in line {manifest.lines[foreign[0]]}: {manifest.image_paths[foreign[0]]}"
        told = f"{len(foreign):,} rows have a path outside ASCII, {first}"
        findings.append(Finding(kind="non_ascii_names", detail=told))
    listings = FolderListings(manifest.root)
    respelt = [fault.line for fault in missing if listings.in_another_form(fault.value)]
    if respelt:
        told = f"{len(respelt):,} missing files are there under the same name in another Unicode normal form (NFC, NFD)"
        findings.append(Finding(kind="unicode_spelling", detail=told, related=tuple(respelt)))
    return findings


def absence_findings(manifest: Manifest, rows: NDArray[np.int64]) -> list[Finding]:
    """Return notes about splits, classes and sources that have no rows.

    Args:
        manifest: the manifest.
        rows: row numbers audited.
    """
    labels, splits, sources = manifest.labels[rows], manifest.splits[rows], manifest.sources[rows]
    findings = []
    present = [split for split in SPLITS if np.any(splits == split)]
    for split in SPLITS:
        if split not in present:
            carved = "; training carves one from train" if split == "val" and "train" in present else ""
            findings.append(Finding(kind="empty_split", detail=f"{split} has no rows{carved}"))
    for split in present:
        counts = np.bincount(labels[splits == split], minlength=len(EMOTIONS))
        absent = [name for name, count in zip(EMOTIONS, counts.tolist(), strict=True) if not count]
        if absent:
            findings.append(Finding(kind="absent_class", detail=f"{split} has no rows of {', '.join(absent)}"))
    for source in np.unique(sources).tolist():
        lacking = [split for split in present if not np.any((sources == source) & (splits == split))]
        if lacking:
            told = f"{source} has no rows in {', '.join(lacking)}"
            findings.append(Finding(kind="source_without_rows", detail=told))
    return findings
