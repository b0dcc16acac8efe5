"""A cheap look at a checkpoint file, before torch is loaded."""

import zipfile
from pathlib import Path

from fer_lightning.errors import FerError

CHECKPOINT_KEY = "fer_lightning"
"""Entry of every checkpoint of this project that holds its own record."""

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
    if not zipfile.is_zipfile(path):
        raise FerError(f"{option}: {path} is not a checkpoint (no torch archive, or a truncated one)")
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if not pickles or CHECKPOINT_KEY.encode() not in archive.read(pickles[0]):
            raise FerError(
                f"{option}: {path} was not written by fer_lightning; "
                "for weights from elsewhere use backbone.checkpoint=<file>"
            )
