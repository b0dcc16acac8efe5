"""The whole audit: every check in turn, every finding in one list."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.audit.columns import absence_findings, fault_findings, file_findings, name_findings
from fer_lightning.data.audit.copies import (
    SharedPixels,
    copy_findings,
    equal_pixels,
    leak_detail,
    near_copy_findings,
    shared_pixels,
)
from fer_lightning.data.audit.findings import Finding, rows_finding, sorted_findings
from fer_lightning.data.audit.pictures import picture_findings
from fer_lightning.data.audit.predictions import Predictions
from fer_lightning.data.audit.tables import ClassCounts, SourceSizes, class_counts, source_sizes
from fer_lightning.data.config import AuditConfig, DataConfig
from fer_lightning.data.copies.near_duplicates import NearPairs, near_duplicates
from fer_lightning.data.pictures.image_facts import FileStatus, ImageFacts, image_facts
from fer_lightning.data.rows.columns import SPLITS
from fer_lightning.data.rows.faults import Fault
from fer_lightning.data.rows.manifest import Inspection, missing_files
from fer_lightning.data.splits.leaks import find_leaks

if TYPE_CHECKING:
    from fer_lightning.data.audit.labels import LabelCheck


@dataclass(kw_only=True)
class Audit:
    """Everything an audit found."""

    inspection: Inspection
    rows: NDArray[np.int64]
    """Row numbers of `inspection.manifest` that were looked at: of the sources chosen, without a fault."""
    faulty_rows: int = 0
    """Rows of these sources with a fault, which were not looked at beyond it."""
    findings: tuple[Finding, ...] = ()
    """By severity and kind."""
    class_counts: ClassCounts = field(default_factory=dict)
    sizes: list[SourceSizes] = field(default_factory=list)
    shared_pixels: list[SharedPixels] = field(default_factory=list)
    label_check: "LabelCheck | None" = None
    checked: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)


def survey(
    inspection: Inspection,
    chosen: NDArray[np.int64],
    data: DataConfig,
    audit: AuditConfig,
    *,
    predictions: Predictions | None,
    num_workers: int,
) -> Audit:
    """Look for everything.

    Args:
        inspection: the manifest, read.
        chosen: row numbers of `inspection.every_row`: the sources that take part.
        data: group columns, and where facts of pictures are kept.
        audit: what to look at.
        predictions: of a model, for the labels.
        num_workers: processes that decode pictures.
    """
    manifest = inspection.manifest
    rows = np.flatnonzero(np.isin(manifest.lines, inspection.every_row.lines[chosen]))
    missing = missing_files(manifest, rows)
    present = rows[~np.isin(manifest.lines[rows], [fault.line for fault in missing])]
    result = Audit(inspection=inspection, rows=rows, class_counts=class_counts(manifest, rows))
    findings = _column_findings(result, chosen, missing)
    facts, near = _look(result, present, data, audit, num_workers, findings)
    by_split = {split: rows[manifest.splits[rows] == split] for split in SPLITS}
    for leak in find_leaks(manifest, by_split, group_columns=data.group_columns, facts=facts, near=near):
        detail = leak_detail(manifest, leak.kind, leak.value, leak.rows)
        findings.append(rows_finding(f"leak_{leak.kind}", manifest, leak.rows, detail))
    shared = ["image files", *(column for column in data.group_columns if column in manifest.extras)]
    shared += ["pixels"] * (facts is not None) + ["near copies"] * (near is not None)
    result.checked.append(f"Leaks between splits: {', '.join(shared)}")
    _compare_labels(result, predictions, findings)
    result.findings = sorted_findings(findings)
    return result


def _column_findings(result: Audit, chosen: NDArray[np.int64], missing: list[Fault]) -> list[Finding]:
    manifest, every_row, rows = result.inspection.manifest, result.inspection.every_row, result.rows
    left_out = np.ones(len(every_row), dtype=np.bool_)
    left_out[chosen] = False
    left_out_lines = set(every_row.lines[left_out & (np.char.strip(every_row.sources) != "")].tolist())
    faults = [fault for fault in result.inspection.faults if fault.line not in left_out_lines]
    result.faulty_rows = len({fault.line for fault in faults})
    result.checked.append(f"Columns of {len(rows) + result.faulty_rows:,} rows, files of {len(rows):,}")
    if result.faulty_rows:
        told = f"Files, copies, leaks and labels of {result.faulty_rows:,} faulty rows: mend them and audit again"
        result.not_checked.append(told)
    return [
        *fault_findings([*faults, *missing], every_row),
        *file_findings(manifest.path, manifest),
        *name_findings(manifest, rows, missing),
        *absence_findings(manifest, rows),
    ]


def _look(
    result: Audit,
    rows: NDArray[np.int64],
    data: DataConfig,
    audit: AuditConfig,
    num_workers: int,
    findings: list[Finding],
) -> tuple[ImageFacts | None, NearPairs | None]:
    """Decode pictures and compare them; add what that finds."""
    manifest = result.inspection.manifest
    if not audit.images:
        result.not_checked.append("Pictures, their sizes, boxes and copies: audit.images=false")
        return None, None
    facts = image_facts(manifest, rows, store=Path(data.cache_dir) / "facts", num_workers=num_workers)
    findings += picture_findings(manifest, facts, min_side=audit.min_side)
    groups = equal_pixels(facts)
    findings += copy_findings(manifest, groups)
    result.shared_pixels = shared_pixels(manifest, groups)
    result.sizes = source_sizes(manifest, facts)
    usable = int((facts.status == FileStatus.ok).sum())
    result.checked.append(f"Pictures of {len(rows):,} rows, decoded; pixels of {usable:,} compared")
    if not audit.near_duplicates:
        result.not_checked.append("Near copies: audit.near_duplicates=false")
        return facts, None
    near = near_duplicates(facts)
    findings += near_copy_findings(manifest, near)
    result.checked.append(f"Near copies among {usable:,} rows: {len(near.first):,} pairs")
    return facts, near


def _compare_labels(result: Audit, predictions: Predictions | None, findings: list[Finding]) -> None:
    if predictions is None:
        result.not_checked.append("Labels: no audit.predictions=<predictions.csv of task=evaluate>")
        return
    from fer_lightning.data.audit.labels import label_findings  # torch

    known = frozenset(result.inspection.every_row.row_ids)
    found, check = label_findings(result.inspection.manifest, result.rows, predictions, known_ids=known)
    findings += found
    result.label_check = check
    result.checked.append(f"Labels of {check.rows_compared:,} rows against predictions")
    if check.rows_without_prediction:
        result.not_checked.append(f"Labels of {check.rows_without_prediction:,} rows without a prediction")
