"""Shards of logits in the making: each whole or absent, each with the proof of what it is of, each claimed by one process."""

import logging
import shutil
import zipfile
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from fer_lightning.files import explained_write_errors, write_atomically
from fer_lightning.labels import NUM_CLASSES

log = logging.getLogger(__name__)

_SHARDS = "shards"
_DAMAGE = (zipfile.BadZipFile, ValueError, EOFError, OSError, KeyError)  # what a broken archive raises


class LogitShards:
    """Finished shards of one request.

    Those of one request have a folder of their own below `shards/`: processes that infer the same share them, and what
    an interrupted one has finished is taken by the next. The kernel holds a claim for the process that made it, and lets
    go of it when the process dies.

    Args:
        folder: of the stored logits.
        request: SHA-256 of everything that the logits depend on: model, rows, pictures, batches.
        dtype: of the numbers.
    """

    def __init__(self, folder: Path, request: str, dtype: str) -> None:
        self._shards = folder / _SHARDS
        self._folder = self._shards / request[:16]
        self._request = request
        self._dtype = dtype
        self._locks: dict[int, FileLock] = {}

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:06d}.npz"

    def read(self, number: int, row_ids: NDArray[np.bytes_]) -> NDArray[np.float32] | None:
        """Return the logits of a shard, or None where it is not finished.

        Args:
            number: of the shard.
            row_ids: (n,) of its rows, in order; a file of other rows is not taken.
        """
        file = self._file(number)
        try:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
                request, of_rows, logits = str(arrays["request"]), arrays["row_ids"], arrays["logits"]
        except FileNotFoundError:
            return None
        except _DAMAGE as error:
            log.warning("%s is inferred again: it is damaged (%s)", file, str(error).splitlines()[0])
            return None
        fits = logits.shape == (len(row_ids), NUM_CLASSES) and str(logits.dtype) == self._dtype
        if request != self._request or not fits or not np.array_equal(of_rows, row_ids):
            log.warning("%s is inferred again: it is of another request", file)
            return None
        return np.asarray(logits, dtype=np.float32)

    def write(self, number: int, row_ids: NDArray[np.bytes_], logits: NDArray[np.float32]) -> None:
        """Keep the logits of a shard.

        Args:
            number: of the shard.
            row_ids: (n,) of its rows, in order.
            logits: (n, 7), which the type holds.

        Raises:
            OSError: the file cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        arrays = {"request": np.array(self._request), "row_ids": row_ids, "logits": logits.astype(self._dtype)}

        def save(temporary: Path) -> None:
            with temporary.open("wb") as opened:
                np.savez(opened, allow_pickle=False, **arrays)

        write_atomically(self._file(number), save)

    def claim(self, number: int) -> bool:
        """Claim a shard for this process; tell whether it is the first.

        Raises:
            FerError: no lock can be made.
        """
        lock = FileLock(self._folder / f"{number:06d}.lock")
        with explained_write_errors(self._folder, option="run.root"):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return False
        self._locks[number] = lock
        return True

    def release(self, number: int) -> None:
        """Let go of a claim."""
        self._locks.pop(number).release()

    def release_all(self) -> None:
        """Let go of every claim."""
        for number in list(self._locks):
            self.release(number)

    def remove(self) -> None:
        """Remove the shards of this folder, those of other requests too: whole logits have taken their place."""
        shutil.rmtree(self._shards, ignore_errors=True)
