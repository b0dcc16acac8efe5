"""Audits a manifest: every fault it can hide, written down as JSON, CSV and a page."""

import dataclasses
import logging
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.audit.findings import SEVERITIES, severity_of, title_of, write_findings
from fer_lightning.data.audit.predictions import read_predictions
from fer_lightning.data.config import DataConfig
from fer_lightning.data.rows.manifest import OPTIONAL_COLUMNS, SPLITS, Inspection, inspect_manifest
from fer_lightning.data.rows.source_filter import filter_sources
from fer_lightning.errors import AuditFailedError, FerError
from fer_lightning.files import write_text_atomically
from fer_lightning.pipeline.config import AuditManifestRun
from fer_lightning.reports.tables import text_table
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.audit_report import AuditReport, FindingCount, LabelComparison, PictureSizes, SharedPictures
from fer_lightning.runs.lock import RunLock

if TYPE_CHECKING:
    from fer_lightning.data.audit.survey import Audit

log = logging.getLogger(__name__)

_TAKEN = ("manifest", "root", "group_columns", "cache_dir", "num_workers")


def audit_manifest(run: AuditManifestRun) -> None:
    """Audit and write `audit.json`, `findings.csv` and `audit.html` to a directory of their own.

    Raises:
        FerError: no manifest, no CSV, or an option that would have no effect.
        AuditFailedError: after everything is written: something at least as severe as `audit.fail_on` was found.
        RunLockedError: another audit writes to the same directory.
    """
    inspection = _inspect(run.data)
    chosen = _chosen_rows(run, inspection)
    predictions = None if run.audit.predictions is None else read_predictions(Path(run.audit.predictions))
    output = _output_dir(run, inspection)
    with RunLock(output, unlock_stale=run.run.unlock_stale):
        from fer_lightning.data.audit.survey import survey  # OpenCV
        from fer_lightning.reports.audit_page import audit_page

        workers = run.data.num_workers if run.data.num_workers is not None else (os.cpu_count() or 1)
        audit = survey(inspection, chosen, run.data, run.audit, predictions=predictions, num_workers=workers)
        report = _report(run, audit)
        write_findings(output / "findings.csv", audit.findings)
        write_text_atomically(output / "audit.html", audit_page(audit, report, num_pictures=run.audit.thumbnails))
        write_artifact(output / "audit.json", report)
    _tell(report, output)
    if report.failed:
        raise AuditFailedError(_verdict(report, output))


def _inspect(data: DataConfig) -> Inspection:
    """Refuse options that an audit does not take, and read the manifest."""
    for field in dataclasses.fields(DataConfig):
        value = getattr(data, field.name)
        if field.name not in _TAKEN and value != getattr(DataConfig(), field.name):
            raise FerError(
                f"data.{field.name}={value} would have no effect: an audit lists every fault, and trains on nothing"
            )
    if data.manifest is None:
        raise FerError("task=audit_manifest needs data.manifest=<manifest.csv> (data=generated: the generated set)")
    root = None if data.root is None else Path(data.root)
    if root is not None and not root.is_dir():
        raise FerError(f"data.root: no folder {root}")
    return inspect_manifest(Path(data.manifest), root=root)


def _chosen_rows(run: AuditManifestRun, inspection: Inspection) -> NDArray[np.int64]:
    """Return the rows of the sources that take part, faulty ones included."""
    every_row = inspection.every_row
    columns = [column for column in run.data.group_columns if column not in {*every_row.extras, *OPTIONAL_COLUMNS}]
    if columns:
        raise FerError(
            f"data.group_columns names {', '.join(columns)}, which is no column of {every_row.path} "
            f"(it has {', '.join(every_row.extras) or 'none to group by'})"
        )
    if not len(every_row):
        return np.empty(0, dtype=np.int64)
    rows, _ = filter_sources(every_row, run.source_filter)
    return rows


def _output_dir(run: AuditManifestRun, inspection: Inspection) -> Path:
    manifest = inspection.manifest
    output = Path(run.run.root) / "audits" / f"{manifest.path.stem}_{manifest.sha256[:8]}"
    if run.audit.output_dir is not None:
        output = Path(run.audit.output_dir)
        if (output / "config.yaml").exists():
            raise FerError(f"audit.output_dir: {output} is a run directory; choose one for the audit alone")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FerError(f"cannot make {output}: {error.strerror}; choose another audit.output_dir") from error
    return output


def _report(run: AuditManifestRun, audit: "Audit") -> AuditReport:
    kinds = Counter(finding.kind for finding in audit.findings)
    counts = {
        severity.value: sum(finding.severity is severity for finding in audit.findings) for severity in SEVERITIES
    }
    grave = SEVERITIES[: SEVERITIES.index(run.audit.fail_on) + 1]
    check = audit.label_check
    return AuditReport(
        manifest=str(run.data.manifest),
        manifest_sha256=audit.inspection.manifest.sha256,
        source_filter=run.source_filter.name,
        include_sources=list(run.source_filter.include),
        exclude_sources=list(run.source_filter.exclude),
        rows_in_manifest=_rows_in_file(audit.inspection),
        faulty_rows=audit.faulty_rows,
        rows_audited=len(audit.rows),
        findings=[
            FindingCount(kind=kind, severity=severity_of(kind).value, what=title_of(kind), count=count)
            for kind, count in kinds.items()
        ],
        findings_by_severity=counts,
        fail_on=run.audit.fail_on.value,
        failed=any(counts[severity.value] for severity in grave),
        checked=list(audit.checked),
        not_checked=list(audit.not_checked),
        class_counts=audit.class_counts,
        picture_sizes=[PictureSizes(**sizes._asdict()) for sizes in audit.sizes],
        shared_pictures=[SharedPictures(**shared._asdict()) for shared in audit.shared_pixels],
        label_comparison=None if check is None else LabelComparison(**vars(check)),
    )


def _rows_in_file(inspection: Inspection) -> int:
    lines = set(inspection.every_row.lines.tolist())
    return len(lines | {fault.line for fault in inspection.faults})


def _tell(report: AuditReport, output: Path) -> None:
    """Log the tables and where everything is."""
    rows = [
        [source, *(f"{sum(splits[split].values()):,}" for split in SPLITS)]
        for source, splits in report.class_counts.items()
    ]
    if rows:
        log.info("%s\n", text_table(["source", *SPLITS], rows))
    if report.findings:
        found = [[one.what, one.kind, one.severity, f"{one.count:,}"] for one in report.findings]
        log.info("%s\n", text_table(["finding", "kind", "severity", "count"], found))
    for said in report.checked:
        log.info("checked      %s", said)
    for said in report.not_checked:
        log.info("not checked  %s", said)
    if not report.failed:
        log.info("%s", _verdict(report, output))


def _verdict(report: AuditReport, output: Path) -> str:
    counts = ", ".join(
        f"{count:,} {name}{'' if count == 1 else 's'}" for name, count in report.findings_by_severity.items()
    )
    return f"{report.manifest}: {counts}. Look at {output / 'audit.html'}; all of them: {output / 'findings.csv'}"
