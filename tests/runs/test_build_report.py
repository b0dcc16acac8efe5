"""The report beside a manifest tells where its pictures are, as long as it speaks of these bytes."""

from pathlib import Path

import pytest

from fer_lightning.errors import FerError
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.build_report import BuildReport, BuiltSource, recorded_root, report_path


def report(root: str) -> BuildReport:
    source = BuiltSource(
        kind="folder",
        path="x",
        items=3,
        rows={"train": {"Happy": 2}},
        dropped={"tie": 1},
        carved={},
        pinned=0,
        notes=["é"],
    )
    return BuildReport(
        manifest="m.csv",
        manifest_sha256="abc",
        root=root,
        mode="sources",
        clean=True,
        min_side=16,
        test_fraction=0.1,
        val_fraction=0.1,
        seed=1,
        inputs=[],
        sources={"x": source},
        leaks_left={"subject": 2},
    )


def test_root_is_found_from_the_manifests_own_folder(tmp_path: Path) -> None:
    manifest = tmp_path / "lists" / "m.csv"
    manifest.parent.mkdir()
    assert recorded_root(manifest, "abc") is None
    write_artifact(report_path(manifest), report("../data"))
    assert recorded_root(manifest, "abc") == tmp_path / "lists" / "../data"
    assert recorded_root(manifest, "other bytes") is None


def test_report_that_is_none_is_refused(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    report_path(manifest).write_text("{}", encoding="utf-8")
    with pytest.raises(FerError, match=r"m.build.json is no BuildReport of schema version 1"):
        recorded_root(manifest, "abc")
