"""Copies within splits, across sources and under different labels."""

from fer_lightning.data.audit.copies import (
    copy_findings,
    equal_pixels,
    leak_detail,
    near_copy_findings,
    shared_pixels,
)
from fer_lightning.data.pictures.image_facts import FileStatus
from fer_lightning.data.rows.manifest import Manifest
from tests.data.audit.facts import make_facts, make_pairs
from tests.data.conftest import Workshop, make_row


def read_rows(workshop: Workshop, *rows: str) -> Manifest:
    """Rows written as `label split source`; row i is line i + 2."""
    return workshop.read([make_row(f"{number}.png", *row.split()) for number, row in enumerate(rows)])


def test_equal_pixels_are_grouped_and_unusable_rows_are_not() -> None:
    broken = {1: FileStatus.unreadable, 3: FileStatus.truncated}
    assert equal_pixels(make_facts("cxaxbcaca", statuses=broken)) == [[0, 5, 7], [2, 6, 8]]
    assert equal_pixels(make_facts("abc")) == []
    assert equal_pixels(make_facts("")) == []
    assert equal_pixels(make_facts("aa", statuses=dict.fromkeys((0, 1), FileStatus.empty))) == []


def test_exact_copies_within_a_split_of_a_source(workshop: Workshop) -> None:
    rows = ("Sad train s", "Sad train s", "Sad val s", "Sad train s", "Sad val s", "Fear val s")
    findings = copy_findings(read_rows(workshop, *rows), [[0, 1, 2, 3, 4]])
    assert [(one.kind, one.lines) for one in findings] == [("exact_copies", (2, 3, 5)), ("exact_copies", (4, 6))]
    assert findings[1].detail == "equal pixels: line 4 (s, val, Sad), line 6 (s, val, Sad)"
    assert {one.severity.value for one in findings} == {"warning"}


def test_a_copy_in_another_split_alone_is_left_to_the_leaks(workshop: Workshop) -> None:
    assert copy_findings(read_rows(workshop, "Sad train s", "Sad val s"), [[0, 1]]) == []


def test_conflicting_labels_are_an_error_wherever_the_copies_are(workshop: Workshop) -> None:
    manifest = read_rows(workshop, "Sad train s", "Fear val s", "Sad train s")
    (first,) = copy_findings(manifest, [[0, 1]])
    assert (first.kind, first.severity.value, first.lines) == ("conflicting_copies", "error", (2, 3))
    assert [one.kind for one in copy_findings(manifest, [[0, 1, 2]])] == ["conflicting_copies", "exact_copies"]


def test_one_picture_in_two_sources(workshop: Workshop) -> None:
    manifest = read_rows(workshop, "Sad train fer2013", "Sad train ferplus", "Sad val ferplus", "Sad val third")
    (one,) = copy_findings(manifest, [[0, 1]])
    assert (one.kind, one.severity.value, one.lines) == ("copies_across_sources", "warning", (2, 3))
    assert shared_pixels(manifest, [[0, 1], [0, 1, 2, 3]]) == [
        ("fer2013", "ferplus", 2),
        ("fer2013", "third", 1),
        ("ferplus", "third", 1),
    ]


def test_near_copies_are_chained_within_a_split(workshop: Workshop) -> None:
    manifest = read_rows(workshop, *["Sad train s"] * 4, *["Sad val s"] * 3)
    pairs = make_pairs((2, 3, 0.99, False), (0, 2, 0.98, True), (4, 6, 0.976, True), (1, 5, 1.0, False))
    findings = near_copy_findings(manifest, pairs)
    assert [(one.kind, one.lines, one.detail.split(":")[0]) for one in findings] == [
        ("near_copies", (2, 4, 5), "likeness at least 0.980 (some mirrored)"),
        ("near_copies", (6, 8), "likeness 0.976 (mirrored)"),
    ]
    assert near_copy_findings(manifest, make_pairs()) == []


def test_near_copies_under_different_labels(workshop: Workshop) -> None:
    manifest = read_rows(workshop, "Sad train s", "Fear train s", "Sad val s", "Happy test s")
    pairs = make_pairs((0, 1, 0.99, False), (0, 2, 0.99, False), (2, 3, 0.98, False))
    assert [(one.kind, one.lines) for one in near_copy_findings(manifest, pairs)] == [
        ("near_copies", (2, 3)),
        ("conflicting_near_copies", (2, 3)),
        ("conflicting_near_copies", (4, 5)),
    ]


def test_leaks_say_what_is_shared_and_by_how_many(workshop: Workshop) -> None:
    manifest = read_rows(workshop, "Sad train s", "Sad test s", "Sad train s", "Sad val s")
    assert leak_detail(manifest, "subject", "s12", [0, 1, 2]) == "subject s12; 2 in train, 1 in test"
    assert leak_detail(manifest, "content", "0a1b", [0, 3]) == "equal pixels; 1 in train, 1 in val"
