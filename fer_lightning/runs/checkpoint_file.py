"""A cheap look at a checkpoint file, before torch is loaded."""

import zipfile
import zlib
from pathlib import Path

from fer_lightning.errors import FerError

CHECKPOINT_KEY = "fer_lightning"
"""Entry of every checkpoint of this project that holds its own record."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, OSError, EOFError)  # what a broken archive raises

CHECKPOINT_FILES = {"best": "best.pt", "last": "checkpoint_last.pt"}


def check_checkpoint_file(path: Path, *, option: str) -> None:
    """Refuse a file that is not a checkpoint of this project, without loading torch.

    Args:
        path: the file.
        option: the option that named it, for the message.

    Raises:
        FerError: missing, not a torch archive, truncated, or written by something else.
    """
    if not path.is_file():
        raise FerError(f"{option}: no file {path}")
    try:
        if not zipfile.is_zipfile(path):
            raise FerError(f"{option}: {path} is not a checkpoint (no torch archive, or a truncated one)")
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            ours = bool(pickles) and CHECKPOINT_KEY.encode() in archive.read(pickles[0])
    except _DAMAGE as error:
        raise FerError(f"{option}: {path} is damaged: {error}") from error
    if not ours:
        raise FerError(
            f"{option}: {path} was not written by fer_lightning; "
            "for weights from elsewhere use backbone.checkpoint=<file>"
        )
