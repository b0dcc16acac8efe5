"""The page of an audit: one self-contained HTML file with the pictures that findings are about."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import jinja2

from fer_lightning.data.audit.findings import Finding, title_of
from fer_lightning.data.audit.survey import Audit
from fer_lightning.data.rows.columns import SPLITS
from fer_lightning.data.rows.faults import FaultKind
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.labels import EMOTIONS
from fer_lightning.reports.thumbnails import thumbnail
from fer_lightning.runs.audit_report import AuditReport

_LISTED = 50  # findings of a kind that are told without pictures
_ROWS_SHOWN = 4  # of one finding
_NO_PICTURE = {"missing_file", "empty_file", "unreadable"}
_WHOLE_PICTURE = {"box_outside", "crop_with_box"}
_NOT_OPENED = {FaultKind.leaves_root, FaultKind.empty_path}


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One row of a finding, with its picture."""

    uri: str | None
    line: int
    label: str
    split: str
    source: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """One finding with pictures."""

    detail: str
    shots: list[Shot]
    more: int
    """Rows of it that are not shown."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """The findings of one kind."""

    kind: str
    severity: str
    title: str
    count: int
    cards: list[Card]
    listed: list[Finding]
    left: int
    """Findings that are only in the CSV."""


class _Album:
    """Pictures of rows by their lines."""

    def __init__(self, audit: Audit) -> None:
        self._manifest: Manifest = audit.inspection.every_row
        self._row_of = {line: row for row, line in enumerate(self._manifest.lines.tolist())}
        self._closed = {fault.line for fault in audit.inspection.faults if fault.kind in _NOT_OPENED}
        self._uris: dict[tuple[int, bool], str | None] = {}

    def shots(self, finding: Finding) -> list[Shot]:
        """Return some rows of a finding: of each split the first, then the others in order."""
        rows = [self._row_of[line] for line in finding.lines if line in self._row_of]
        firsts = list({str(self._manifest.splits[row]): row for row in reversed(rows)}.values())
        chosen = sorted(firsts, key=rows.index) + [row for row in rows if row not in firsts]
        return [self._shot(row, whole=finding.kind in _WHOLE_PICTURE) for row in chosen[:_ROWS_SHOWN]]

    def _shot(self, row: int, *, whole: bool) -> Shot:
        manifest = self._manifest
        label = int(manifest.labels[row])
        return Shot(
            uri=self._uri(row, whole=whole),
            line=int(manifest.lines[row]),
            label=EMOTIONS[label] if label >= 0 else "no known label",
            split=str(manifest.splits[row]),
            source=str(manifest.sources[row]),
            path=manifest.image_paths[row],
        )

    def _uri(self, row: int, *, whole: bool) -> str | None:
        key = (row, whole)
        if key not in self._uris:
            manifest = self._manifest
            top, left, right, bottom = manifest.bboxes[row].tolist()
            bbox = None if top < 0 else (top, left, right, bottom)
            closed = int(manifest.lines[row]) in self._closed
            self._uris[key] = (
                None if closed else thumbnail(manifest.root / manifest.image_paths[row], bbox, whole=whole)
            )
        return self._uris[key]


def _section(kind: str, findings: Sequence[Finding], album: _Album, num_pictures: int) -> Section:
    cards: list[Card] = []
    listed: list[Finding] = []
    room = 0 if kind in _NO_PICTURE else num_pictures
    for finding in findings:
        shots = album.shots(finding)[:room] if room else []
        if any(shot.uri for shot in shots):
            room -= len(shots)
            cards.append(Card(detail=finding.detail, shots=shots, more=len(finding.lines) - len(shots)))
        elif len(listed) < _LISTED:
            listed.append(finding)
        else:
            break
    return Section(
        kind=kind,
        severity=findings[0].severity.value,
        title=title_of(kind),
        count=len(findings),
        cards=cards,
        listed=listed,
        left=len(findings) - len(cards) - len(listed),
    )


def audit_page(audit: Audit, report: AuditReport, *, num_pictures: int) -> str:
    """Return the page as HTML; everything that comes from the manifest is escaped.

    Args:
        audit: what was found.
        report: the same in figures.
        num_pictures: pictures shown per kind of finding.
    """
    album = _Album(audit)
    sections = [
        _section(kind, list(findings), album, num_pictures)
        for kind, findings in groupby(audit.findings, key=lambda finding: finding.kind)
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["grouped"] = lambda number: f"{number:,}"
    page = environment.get_template("audit.html.j2")
    return page.render(report=report, sections=sections, splits=SPLITS, emotions=EMOTIONS)
