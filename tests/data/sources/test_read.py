"""Every layout finds its adapter, and messages name the data set."""

import inspect
from pathlib import Path

import pytest

from fer_lightning.data.sources import read
from fer_lightning.data.sources.config import Pictures, SourceConfig, SourceKind
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError


@pytest.mark.parametrize("kind", SourceKind)
def test_every_layout_has_an_adapter(kind: SourceKind) -> None:
    names = list(inspect.signature(read.adapter(kind)).parameters)
    assert names == ["source", *(["images_dir"] if kind in {SourceKind.fer2013, SourceKind.ferplus} else [])]


def test_fault_of_a_data_set_is_told_with_its_name(tmp_path: Path) -> None:
    source = SourceConfig(kind=SourceKind.folder, path=str(tmp_path / "nowhere"))
    with pytest.raises(FerError, match=r"^mine: .*nowhere"):
        read.read_source("mine", source, images_dir=tmp_path)


def test_pictures_of_a_pixel_csv_go_where_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Path]] = []

    def reads(_: SourceConfig, **options: Path) -> SourceReading:
        asked.append(options)
        return SourceReading()

    monkeypatch.setattr(read, "adapter", lambda _: reads)
    default = Path("images/x")
    read.read_source("x", SourceConfig(kind=SourceKind.ferplus, path="p"), images_dir=default)
    read.read_source("x", SourceConfig(kind=SourceKind.fer2013, path="p", images="own"), images_dir=default)
    read.read_source("x", SourceConfig(kind=SourceKind.expw, path="p", pictures=Pictures.boxes), images_dir=default)
    assert asked == [{"images_dir": Path("images/x")}, {"images_dir": Path("own")}, {}]
