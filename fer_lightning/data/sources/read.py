"""From the layout of a data set to its adapter, which is imported only when it is used."""

import importlib
from collections.abc import Callable
from pathlib import Path

from fer_lightning.data.sources.config import SourceConfig, SourceKind
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError

# `read_<kind>` is defined in `<kind>.py` but for this one.
_MODULE_OF = {SourceKind.rafdb_basic: "rafdb"}
_EXTRACTS_PICTURES = {SourceKind.fer2013, SourceKind.ferplus}


def adapter(kind: SourceKind) -> Callable[..., SourceReading]:
    """Return the function that reads a layout."""
    module = importlib.import_module(f"fer_lightning.data.sources.{_MODULE_OF.get(kind, kind.value)}")
    found: Callable[..., SourceReading] = getattr(module, f"read_{kind.value}")
    return found


def read_source(name: str, source: SourceConfig, *, images_dir: Path) -> SourceReading:
    """Read a data set as it is on disk.

    Args:
        name: its name in the manifest, for messages.
        source: layout and place.
        images_dir: folder for pictures that lie in a CSV, unless `source.images` names another.

    Raises:
        FerError: what the adapter cannot read, with the data set's name before it.
    """
    extras: dict[str, Path] = {}
    if source.kind in _EXTRACTS_PICTURES:
        extras["images_dir"] = images_dir if source.images is None else Path(source.images)
    try:
        return adapter(source.kind)(source, **extras)
    except FerError as error:
        raise FerError(f"{name}: {error}") from error
