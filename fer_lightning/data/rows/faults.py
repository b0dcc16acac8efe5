"""Rows that cannot be used: collected, listed, and refused together."""

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of

log = logging.getLogger(__name__)

_SHOWN = 5


class FaultKind(StrEnum):
    """What can be wrong with a row; the identifiers stand in reports and stay as they are."""

    wrong_field_count = "wrong_field_count"
    empty_path = "empty_path"
    leaves_root = "leaves_root"
    unknown_label = "unknown_label"
    unknown_split = "unknown_split"
    empty_source = "empty_source"
    bad_box = "bad_box"
    bad_number = "bad_number"
    bad_neg_label = "bad_neg_label"
    crop_with_box = "crop_with_box"
    duplicate_row = "duplicate_row"
    missing_file = "missing_file"
    empty_file = "empty_file"
    unreadable = "unreadable"
    truncated = "truncated"
    box_outside = "box_outside"
    faulty = "faulty"


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one manifest row."""

    line: int
    """Line of the manifest file, the header being line 1."""
    column: str
    value: str
    reason: str
    kind: FaultKind = FaultKind.faulty
    related: tuple[int, ...] = ()
    """Lines of other rows that are part of it."""

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason} ({self.column}={self.value!r})"


def settle_faults(faults: Sequence[Fault], *, manifest: Path, max_bad_rows: int) -> frozenset[int]:
    """Refuse faulty rows, or leave them out where the user has allowed that many.

    Args:
        faults: everything found; several faults may share a row.
        manifest: the file they are in.
        max_bad_rows: how many rows may be left out.

    Returns:
        Line numbers to leave out.

    Raises:
        FerError: more faulty rows than allowed; the message shows the first, the CSV it names lists all.
    """
    faults = sorted(faults, key=lambda fault: fault.line)
    lines = frozenset(fault.line for fault in faults)
    if not lines:
        return lines
    report = _write_report(faults, manifest)
    if len(lines) > max_bad_rows:
        shown = "\n  ".join(str(fault) for fault in faults[:_SHOWN])
        more = f"\n  ... and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise FerError(
            f"{manifest}: {len(lines)} faulty row{'s' if len(lines) > 1 else ''}:\n  {shown}{more}\n"
            f"All of them: {report}. Mend the manifest, or leave up to N of them out with data.max_bad_rows=N."
        )
    log.warning(
        "%s: left out %d faulty rows (data.max_bad_rows=%d), listed in %s", manifest, len(lines), max_bad_rows, report
    )
    return lines


def _write_report(faults: Sequence[Fault], manifest: Path) -> str:
    """Write all faults to `<manifest name>_<sha256>.faults.csv` in the working directory.

    The manifest's own folder may be read-only, and manifests of different folders share names.
    """
    report = Path(f"{manifest.stem}_{sha256_of(manifest)[:8]}.faults.csv")
    try:
        with report.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["line", "kind", "column", "value", "reason"])
            writer.writerows([fault.line, fault.kind, fault.column, fault.value, fault.reason] for fault in faults)
    except OSError as error:
        return f"(no list: cannot write {report} here: {error.strerror})"
    return str(report)
