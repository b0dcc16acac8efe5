"""Unusable and tiny pictures, and the table of sizes."""

import numpy as np

from fer_lightning.data.audit.pictures import picture_findings
from fer_lightning.data.audit.tables import class_counts, source_sizes
from fer_lightning.data.pictures.image_facts import FileStatus
from fer_lightning.labels import EMOTIONS
from tests.data.audit.facts import make_facts
from tests.data.conftest import Workshop, make_box, make_row


def test_each_status_has_its_kind(workshop: Workshop) -> None:
    rows = [make_row(f"{number}.png") for number in range(5)] + [make_row("5.png", **make_box(0, 0, 30, 40))]
    manifest = workshop.read(rows)
    workshop.draw("5.png", height=24, width=36)
    facts = make_facts("abcdef", statuses={status.value: status for status in FileStatus})
    assert [(one.kind, one.line, one.detail) for one in picture_findings(manifest, facts, min_side=32)] == [
        ("empty_file", 4, "the file has no bytes"),
        ("unreadable", 5, "not a picture that can be decoded"),
        ("truncated", 6, "the picture ends before its last pixel"),
        ("missing_file", 3, f"no such file under {workshop.root}"),
        (
            "box_outside",
            7,
            "box is outside its image of 24 x 36 pixels (height x width): top 0, left 0, right 30, bottom 40",
        ),
    ]


def test_tiny_is_judged_by_the_box_where_there_is_one(workshop: Workshop) -> None:
    rows = [
        make_row("a.png"),
        make_row("b.png"),
        make_row("c.png"),
        make_row("d.png", **make_box(10, 10, 60, 41)),
        make_row("e.png", **make_box(10, 10, 42, 42)),
        make_row("f.png"),
    ]
    sizes = [(32, 32), (31, 90), (90, 31), (100, 100), (100, 100), (0, 0)]
    facts = make_facts("abcdef", sizes=sizes, statuses={5: FileStatus.unreadable})
    found = picture_findings(workshop.read(rows), facts, min_side=32)
    assert [(one.line, one.detail) for one in found if one.kind == "tiny"] == [
        (3, "picture of 31 x 90 pixels (height x width)"),
        (4, "picture of 90 x 31 pixels (height x width)"),
        (5, "box of 31 x 50 pixels (height x width)"),
    ]
    assert {one.severity.value for one in found if one.kind == "tiny"} == {"warning"}


def test_sizes_count_files_once(workshop: Workshop) -> None:
    rows = [make_row("a.png", **make_box(0, 0, 9, 9 + face)) for face in range(3)]
    rows += [make_row("b.png"), make_row("c.png", source="lab"), make_row("d.png", source="lab"), make_row("x.png")]
    sizes = [(300, 200)] * 3 + [(48, 48), (2000, 1024), (31, 47), (9, 9)]
    facts = make_facts("aaabcdx", sizes=sizes, statuses={6: FileStatus.truncated})
    ferplus, lab = source_sizes(workshop.read(rows), facts)
    assert ferplus == ("ferplus", 2, 48, 124.0, 200, {"48-63": 1, "128-223": 1})
    assert lab == ("lab", 2, 31, 527.5, 1024, {"0-31": 1, "1024 and more": 1})


def test_class_counts_are_of_the_rows_given(workshop: Workshop) -> None:
    rows = [make_row("a.png", "Sad"), make_row("b.png", "Sad", "val"), make_row("c.png", "Fear", source="lab")]
    manifest = workshop.read([*rows, make_row("d.png", "Sad")])
    none = dict.fromkeys(EMOTIONS, 0)
    assert class_counts(manifest, np.arange(3)) == {
        "ferplus": {"train": none | {"Sad": 1}, "val": none | {"Sad": 1}, "test": none},
        "lab": {"train": none | {"Fear": 1}, "val": none, "test": none},
    }
