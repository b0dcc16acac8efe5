"""Findings that need no picture."""

import unicodedata

import numpy as np
import pytest

from fer_lightning.data.audit.columns import absence_findings, fault_findings, file_findings, name_findings
from fer_lightning.data.audit.findings import Finding
from fer_lightning.data.rows.manifest import inspect_manifest, missing_files
from tests.data.conftest import Workshop, cycle_rows, make_row

HEADER = "image_path,label,split,source"


def test_faults_become_findings_by_line(workshop: Workshop) -> None:
    workshop.manifest.write_text(f"{HEADER}\na.png,Sad,val,s\nb.png\n../c.png,Dread,val,s\na.png,Sad,val,s\n")
    inspection = inspect_manifest(workshop.manifest)
    findings = fault_findings(inspection.faults, inspection.every_row)
    every_row = inspection.every_row
    assert [(one.line, one.kind, one.image_path) for one in findings] == [
        (3, "wrong_field_count", ""),
        (4, "leaves_root", "../c.png"),
        (4, "unknown_label", "../c.png"),
        (5, "duplicate_row", "a.png"),
    ]
    assert {one.severity.value for one in findings} == {"error"}
    assert (findings[3].related, findings[3].lines) == ((2,), (5, 2))
    assert [one.row_id for one in findings] == ["", every_row.row_ids[1], every_row.row_ids[1], every_row.row_ids[0]]
    assert findings[2].detail.endswith("(label='Dread')")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{header}\na.png,Sad,val,s\n", {}),
        (b"\xef\xbb\xbf{header}\na.png,Sad,val,s\n", {"byte_order_mark": "the file begins with a UTF-8 byte order"}),
        (b"{header}\r\na.png,Sad,val,s\r\n", {"crlf": "2 lines end in CR LF;"}),
        (b"{header}\r\na.png,Sad,val,s\nb.png,Sad,val,s\n", {"crlf": "1 lines end in CR LF, 2 of another kind"}),
        (
            b"{header},camera,Subject\na.png,Sad,val,s,,\n",
            {"unknown_columns": "kept, and used by nothing: camera, Subject"},
        ),
    ],
)
def test_what_is_odd_about_the_file(workshop: Workshop, content: bytes, expected: dict[str, str]) -> None:
    workshop.manifest.write_bytes(content.replace(b"{header}", HEADER.encode()))
    findings = file_findings(workshop.manifest, inspect_manifest(workshop.manifest).manifest)
    assert [one.kind for one in findings] == list(expected)
    for one in findings:
        assert one.detail.startswith(expected[one.kind])
        assert (one.severity.value, one.lines) == ("note", ())


def test_names_outside_ascii(workshop: Workshop) -> None:
    composed, decomposed = "é.png", unicodedata.normalize("NFD", "ü.png")
    workshop.draw(composed)
    workshop.draw(decomposed)
    manifest = workshop.read([make_row("a.png"), make_row(composed), make_row("ü.png")])
    rows = np.arange(3)
    missing = missing_files(manifest, rows)
    findings = name_findings(manifest, rows, missing)
    assert [(one.kind, one.detail[:8], one.lines) for one in findings] == [
        ("non_ascii_names", "2 rows h", ()),
        ("unicode_spelling", "1 missin", (4,)),
    ]
    assert name_findings(manifest, rows[:1], missing[:1]) == []


def absences(workshop: Workshop, rows: list[dict[str, str]]) -> list[Finding]:
    manifest = workshop.read(rows)
    return absence_findings(manifest, np.arange(len(manifest)))


def test_splits_classes_and_sources_without_rows(workshop: Workshop) -> None:
    rows = cycle_rows(7)
    rows += [make_row("t.png", "Happy", "test", "other"), make_row("u.png", "Sad", "test", "other")]
    assert [(one.kind, one.detail) for one in absences(workshop, rows)] == [
        ("empty_split", "val has no rows; training carves one from train"),
        ("absent_class", "test has no rows of Angry, Disgust, Fear, Surprise, Neutral"),
        ("source_without_rows", "ferplus has no rows in test"),
        ("source_without_rows", "other has no rows in train"),
    ]
    whole = [*cycle_rows(7), *cycle_rows(7, split="val"), *cycle_rows(7, split="test")]
    assert absences(workshop, whole) == []
