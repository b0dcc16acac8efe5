"""Findings of an audit: their kinds, how severe each is, and the list of them as CSV."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.config import Severity
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.files import write_atomically
from fer_lightning.labels import EMOTIONS

SEVERITIES = (Severity.error, Severity.warning, Severity.note)
"""The most severe first."""

_KINDS: dict[Severity, dict[str, str]] = {
    Severity.error: {
        "wrong_field_count": "Rows with another number of fields than the header",
        "empty_path": "Rows without an image path",
        "leaves_root": "Paths that leave the root",
        "unknown_label": "Unknown labels",
        "unknown_split": "Unknown splits",
        "empty_source": "Rows without a source",
        "bad_number": "Numbers that are none",
        "bad_neg_label": "Negative labels that are no emotions",
        "bad_box": "Boxes that are none",
        "crop_with_box": "Crops that still carry the box of their photo: they would be cropped twice",
        "duplicate_row": "Rows of the same picture and box as another row",
        "missing_file": "Files that are not there",
        "empty_file": "Files without a byte",
        "unreadable": "Files that are no readable picture",
        "truncated": "Pictures that end too early",
        "box_outside": "Boxes that do not lie inside their picture",
        "faulty": "Other faulty rows",
        "leak": "Rows of different splits that belong together",
        "conflicting_copies": "Equal pixels under different labels",
        "prediction_without_row": "Predictions of rows that are not in the manifest",
        "prediction_of_another_label": "Predictions made against another label than the manifest's",
    },
    Severity.warning: {
        "exact_copies": "Equal pixels within a split of a source",
        "near_copies": "Near copies within a split: re-encoded, resized or mirrored",
        "conflicting_near_copies": "Near copies under different labels",
        "copies_across_sources": "Equal pixels in several sources",
        "tiny": "Tiny pictures or boxes",
        "suspected_label": "Labels that the model contradicts, the likeliest errors first",
    },
    Severity.note: {
        "byte_order_mark": "Byte order mark",
        "crlf": "Windows line endings",
        "non_ascii_names": "Names outside ASCII",
        "unicode_spelling": "Names in another Unicode form than the file system's",
        "unknown_columns": "Unknown columns",
        "empty_split": "Splits without rows",
        "absent_class": "Classes without rows in a split",
        "source_without_rows": "Sources without rows in a split",
    },
}
_LEAKS = {
    "image": "One image file on both sides of a split",
    "content": "Equal pixels on both sides of a split",
    "near_content": "Near copies on both sides of a split: re-encoded, resized or mirrored",
}
_SHOWN = 5
_ORDER = {kind: place for place, kind in enumerate(kind for kinds in _KINDS.values() for kind in kinds)}
_SEVERITY = {kind: severity for severity, kinds in _KINDS.items() for kind in kinds}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing found."""

    kind: str
    """An identifier that stays: the keys above, `leak_<what is shared>` for leaks."""
    line: int = 0
    """Line of the manifest, the header being line 1; 0: about the file."""
    row_id: str = ""
    image_path: str = ""
    detail: str
    related: tuple[int, ...] = ()
    """Lines of the other rows that are part of it."""

    @property
    def severity(self) -> Severity:
        """How much it matters; a matter of its kind."""
        return severity_of(self.kind)

    @property
    def lines(self) -> tuple[int, ...]:
        """Lines of all rows that are part of it."""
        return (self.line, *self.related) if self.line else self.related


def severity_of(kind: str) -> Severity:
    """Return how much findings of a kind matter."""
    return _SEVERITY[_base(kind)]


def title_of(kind: str) -> str:
    """Return what findings of a kind are, for people."""
    if kind.startswith("leak_"):
        shared = kind.removeprefix("leak_")
        return _LEAKS.get(shared, f"The same {shared} on both sides of a split")
    return _KINDS[severity_of(kind)][kind]


def _base(kind: str) -> str:
    return "leak" if kind.startswith("leak_") else kind


def sorted_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings by severity and kind; within a kind they keep their order."""
    return tuple(sorted(findings, key=lambda finding: (_ORDER[_base(finding.kind)], finding.kind)))


def rows_finding(kind: str, manifest: Manifest, rows: Sequence[int] | NDArray[np.int64], detail: str = "") -> Finding:
    """Return a finding about rows: the first is the one it is listed under.

    Args:
        kind: its kind.
        manifest: the manifest.
        rows: row numbers.
        detail: what there is to say beside the rows, which are described after it where there are several.
    """
    numbers = [int(row) for row in rows]
    if len(numbers) > 1:
        described = ", ".join(_describe(manifest, row) for row in numbers[:_SHOWN])
        more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
        detail = f"{detail}{': ' if detail else ''}{described}{more}"
    return Finding(
        kind=kind,
        line=int(manifest.lines[numbers[0]]),
        row_id=manifest.row_ids[numbers[0]],
        image_path=manifest.image_paths[numbers[0]],
        detail=detail,
        related=tuple(int(manifest.lines[row]) for row in numbers[1:]),
    )


def _describe(manifest: Manifest, row: int) -> str:
    label, split, source = EMOTIONS[manifest.labels[row]], manifest.splits[row], manifest.sources[row]
    return f"line {manifest.lines[row]} ({source}, {split}, {label})"


def write_findings(path: Path, findings: Sequence[Finding]) -> None:
    """Write one line per finding, atomically."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["severity", "kind", "line", "row_id", "image_path", "detail", "related_lines"])
            for one in findings:
                related = " ".join(map(str, one.related))
                line = one.line or ""
                writer.writerow([one.severity.value, one.kind, line, one.row_id, one.image_path, one.detail, related])

    write_atomically(path, write)
