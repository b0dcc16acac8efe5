"""Source filters that match nothing are errors."""

import numpy as np
import pytest

from fer_lightning.data.config import SourceFilterConfig
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.data.rows.source_filter import filter_sources
from fer_lightning.errors import FerError
from tests.data.conftest import Workshop, make_row


@pytest.fixture
def manifest(workshop: Workshop) -> Manifest:
    where = [("ferplus", "train"), ("mine", "val"), ("ferplus", "val"), ("rafdb_basic", "test"), ("ferplus", "train")]
    return workshop.read([make_row(f"{n}.png", split=split, source=source) for n, (source, split) in enumerate(where)])


def test_empty_filter_keeps_everything(manifest: Manifest) -> None:
    rows, report = filter_sources(manifest, SourceFilterConfig())
    assert rows.tolist() == [0, 1, 2, 3, 4]
    assert (report.rows_before, report.rows_after, report.left_out) == (5, 5, {})
    assert report.kept["ferplus"] == {"train": 2, "val": 1, "test": 0}


def test_include_and_exclude_in_manifest_order(manifest: Manifest) -> None:
    rows, report = filter_sources(manifest, SourceFilterConfig(name="some", include=["rafdb_basic", "ferplus"]))
    assert rows.tolist() == [0, 2, 3, 4]
    assert report.left_out == {"mine": 1}
    assert list(report.kept) == ["ferplus", "rafdb_basic"]
    rows, report = filter_sources(manifest, SourceFilterConfig(exclude=["ferplus", "expw_hq"]))
    assert rows.tolist() == [1, 3]
    assert (report.exclude, report.left_out) == (("ferplus", "expw_hq"), {"ferplus": 3})


@pytest.mark.parametrize("absent", ["expw_hq", "Ferplus", "ferplu"])
def test_included_source_without_rows(manifest: Manifest, absent: str) -> None:
    with pytest.raises(
        FerError,
        match=rf"source_filter=a includes {absent}, which has no row in .*its sources: ferplus, mine, rafdb_basic",
    ):
        filter_sources(manifest, SourceFilterConfig(name="a", include=["ferplus", absent]))


def test_excluded_source_that_nobody_knows(manifest: Manifest) -> None:
    with pytest.raises(FerError, match=r"source_filter=b excludes ferplu, which is neither in .* nor a known source"):
        filter_sources(manifest, SourceFilterConfig(name="b", exclude=["ferplu", "expw_hq"]))


def test_filter_that_leaves_nothing(manifest: Manifest) -> None:
    with pytest.raises(FerError, match=r"source_filter=c leaves no row of"):
        filter_sources(manifest, SourceFilterConfig(name="c", exclude=["ferplus", "mine", "rafdb_basic"]))
    with pytest.raises(FerError, match=r"leaves no row"):
        filter_sources(manifest.take(np.empty(0, dtype=np.int64)), SourceFilterConfig())


def test_source_on_both_lists() -> None:
    with pytest.raises(ValueError, match=r"includes and excludes ferplus"):
        SourceFilterConfig(include=["ferplus", "mine"], exclude=["ferplus"])
