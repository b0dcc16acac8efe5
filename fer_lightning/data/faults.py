"""Rows that cannot be used: collected, listed, and refused together."""

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.errors import FerError

log = logging.getLogger(__name__)

_SHOWN = 5


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one manifest row."""

    line: int
    """Line of the manifest file, the header being line 1."""
    column: str
    value: str
    reason: str

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
    """Write all faults to `<manifest name>.faults.csv` in the working directory; the manifest's may be read-only."""
    report = Path(f"{manifest.stem}.faults.csv")
    try:
        with report.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["line", "column", "value", "reason"])
            writer.writerows([fault.line, fault.column, fault.value, fault.reason] for fault in faults)
    except OSError as error:
        return f"(no list: cannot write {report} here: {error.strerror})"
    return str(report)
