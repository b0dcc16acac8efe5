"""Kinds, severities and the list of findings."""

import csv
from pathlib import Path

import pytest

from fer_lightning.data.audit.findings import (
    Finding,
    rows_finding,
    severity_of,
    sorted_findings,
    title_of,
    write_findings,
)
from fer_lightning.data.config import Severity
from fer_lightning.data.rows.faults import FaultKind
from tests.data.conftest import Workshop, cycle_rows


@pytest.mark.parametrize("kind", list(FaultKind))
def test_every_fault_is_an_error_with_a_title(kind: FaultKind) -> None:
    assert severity_of(str(kind)) is Severity.error
    assert title_of(str(kind))


def test_leaks_are_errors_whatever_is_shared() -> None:
    for kind in ("leak_image", "leak_content", "leak_near_content", "leak_subject", "leak_camera_id"):
        assert severity_of(kind) is Severity.error
    assert title_of("leak_camera_id") == "The same camera_id on both sides of a split"


def test_findings_are_sorted_by_severity_and_kind_and_keep_their_order_within() -> None:
    kinds = ["crlf", "suspected_label", "leak_subject", "tiny", "leak_content", "suspected_label", "missing_file"]
    found = sorted_findings(Finding(kind=kind, line=9 - place, detail="") for place, kind in enumerate(kinds))
    assert [(one.kind, one.line) for one in found] == [
        ("missing_file", 3),
        ("leak_content", 5),
        ("leak_subject", 7),
        ("tiny", 6),
        ("suspected_label", 8),
        ("suspected_label", 4),
        ("crlf", 9),
    ]


def test_a_finding_describes_its_first_rows_and_relates_all(workshop: Workshop) -> None:
    manifest = workshop.read(cycle_rows(9))
    found = rows_finding("near_copies", manifest, range(1, 9), "alike")
    assert found.detail.startswith("alike: line 3 (ferplus, train, Disgust), line 4 (ferplus, train, Fear), ")
    assert found.detail.endswith("line 7 (ferplus, train, Surprise) and 3 more")
    assert (found.line, found.related) == (3, tuple(range(4, 11)))
    assert rows_finding("tiny", manifest, [4], "small").detail == "small"


def test_list_keeps_awkward_values(tmp_path: Path) -> None:
    awkward = 'a,"b"\né.png'
    findings = [
        Finding(kind="tiny", line=7, row_id="x", image_path=awkward, detail="why, not", related=(8, 11)),
        Finding(kind="crlf", detail="<b>"),
    ]
    write_findings(tmp_path / "findings.csv", findings)
    with (tmp_path / "findings.csv").open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "severity": "warning",
        "kind": "tiny",
        "line": "7",
        "row_id": "x",
        "image_path": awkward,
        "detail": "why, not",
        "related_lines": "8 11",
    }
    assert (second["severity"], second["line"], second["detail"]) == ("note", "", "<b>")
