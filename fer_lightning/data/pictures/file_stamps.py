"""Size and times of change of image files: what tells that a file is not the one that was looked at."""

import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.rows.manifest import Manifest


class FileStamp(NamedTuple):
    """State of a file; it changes whenever another content takes the file's place."""

    num_bytes: int
    modified_ns: int
    changed_ns: int
    """Also new where a file of the same size and time of modification was moved, copied or unpacked here."""


_NO_FILE = FileStamp(-1, -1, -1)


def file_stamp(path: str) -> FileStamp:
    """Return the stamp of a file.

    Raises:
        OSError: there is no such file, or it cannot be looked up.
        ValueError: a name that no file can have.
    """
    status = os.stat(path)  # noqa: PTH116  # pathlib takes ten times as long, and there are hundreds of thousands
    return FileStamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def file_stamps(manifest: Manifest, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (n, 3): the `FileStamp` of each row's file; -1 where there is none."""
    stamps = np.empty((len(rows), len(FileStamp._fields)), dtype=np.int64)
    of_path: dict[str, FileStamp] = {}
    root = str(manifest.root)
    for position, row in enumerate(rows.tolist()):
        path = manifest.image_paths[row]
        stamp = of_path.get(path)
        if stamp is None:
            try:
                stamp = file_stamp(f"{root}/{path}")
            except (OSError, ValueError):
                stamp = _NO_FILE
            of_path[path] = stamp
        stamps[position] = stamp
    return stamps
