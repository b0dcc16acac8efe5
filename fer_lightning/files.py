"""Files that are either whole or absent, and their digests."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from fer_lightning.errors import FerError

FileStamp = tuple[int, int, int]
"""Size, time of change in nanoseconds, number."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, flush it to disk, and rename it.

    Args:
        path: final place; never seen half-written.
        write: writes the whole content to the path it is given.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # on a read-only disk it would hide what went wrong before
            temporary.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, with Unix line endings."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


@contextlib.contextmanager
def explained_write_errors(folder: Path, *, option: str) -> Iterator[None]:
    """Say which folder could not be written, and by which option another is chosen.

    Raises:
        FerError: the disk is full, the folder is read-only, or something is in the way.
    """
    try:
        yield
    except OSError as error:
        raise FerError(f"cannot write to {folder}: {error.strerror or error}; choose another {option}") from error


def stamp_of(path: Path) -> FileStamp | None:
    """Return size, time of change and number of a file, by which another content is noticed; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
