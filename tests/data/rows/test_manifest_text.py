"""One spelling of a manifest: column order, empty columns, line ends."""

from pathlib import Path

from fer_lightning.data.rows.manifest import read_manifest
from fer_lightning.data.rows.manifest_text import csv_text, manifest_text
from tests.data.conftest import Workshop, make_box, make_row


def test_csv_quotes_what_needs_it_and_ends_lines_alike() -> None:
    text = csv_text(["a", "b"], [("x, y", 'say "no"'), (1, "é\nè")])
    assert text == 'a,b\n"x, y","say ""no"""\n1,"é\nè"\n'


def test_columns_come_in_one_order_and_unused_ones_go(workshop: Workshop) -> None:
    row = make_row(
        "p.png", zebra="1", vote_Fear="2", confidence="3", weight="", **make_box("4.0", 5, 6, 7), age="", subject="s"
    )
    manifest = workshop.read([row, make_row("q.png", "Sad", "val")])
    assert manifest_text(manifest) == (
        "image_path,label,split,source,subject,bbox_top,bbox_left,bbox_right,bbox_bottom,confidence,vote_Fear,age,zebra\n"
        "p.png,Happy,train,ferplus,s,4,5,6,7,3,2,,1\n"
        "q.png,Sad,val,ferplus,,,,,,,,,\n"
    )


def test_text_read_back_is_the_same_manifest(workshop: Workshop) -> None:
    rows = [
        make_row("ü, 1.png", "Fear", note='"quoted"'),
        make_row("b.png", "Angry", "test", "rafdb", **make_box(0, 0, 9, 9)),
    ]
    manifest = workshop.read(rows)
    copy = Path("copy.csv")
    copy.write_text(manifest_text(manifest), encoding="utf-8", newline="")
    again = read_manifest(copy)
    assert (again.row_ids, again.extras) == (manifest.row_ids, manifest.extras)
    assert manifest_text(again) == manifest_text(manifest)
