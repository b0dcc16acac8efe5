"""Canonical pictures on disk: built once in parallel, shared by runs, verified, and equal to decoding bit for bit."""

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import filelock
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.config import PixelCache
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.pictures.file_stamps import file_stamps
from fer_lightning.data.pictures.segments import (
    CachedPictures,
    SegmentMaps,
    read_index,
    segment_numbers,
    write_segment,
)
from fer_lightning.data.pictures.store import DecodedPictures, DecodingStore, Pictures, PictureStore
from fer_lightning.data.pictures.worker_pool import worker_pool
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError

log = logging.getLogger(__name__)

_SEGMENT_ROWS = 512
_SAMPLE = 64  # rows whose size tells that of the others
_SPARE = 1.1
_WORTH_PROCESSES = 2000
_GIB = 2**30


class CachingStore:
    """The store that keeps pictures on disk."""

    def __init__(self, folder: Path, manifest: Manifest, spec: CanonicalSpec) -> None:
        self.spec = spec
        self._folder = folder
        self._manifest = manifest
        self._index = read_index(folder, manifest)
        self._maps = SegmentMaps(folder, self._index.checksums)  # shared: each segment is checked once

    def pictures(self, rows: NDArray[np.int64]) -> Pictures:
        """Return the pictures of some rows; those that are not cached are decoded."""
        if (self._index.segments[rows] < 0).any():
            return DecodedPictures(self._manifest, rows, self.spec)
        return CachedPictures(self._maps, self._index, rows, self.spec.size)

    def missing(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows that are not cached."""
        return rows[self._index.segments[rows] < 0]

    def verify(self, rows: NDArray[np.int64], *, count: int) -> None:
        """Decode random rows again and compare.

        Args:
            rows: rows to choose from.
            count: how many; -1: all.

        Raises:
            FerError: a cached picture differs from its file, or its segment is damaged.
        """
        chosen = rows if count < 0 or count >= len(rows) else np.random.default_rng().choice(rows, count, replace=False)
        cached, decoded = self.pictures(chosen), DecodedPictures(self._manifest, chosen, self.spec)
        bar = tqdm(range(len(chosen)), desc="verifying the pixel cache", unit="image", disable=len(chosen) < 1000)
        for position in bar:
            if not np.array_equal(cached(position), decoded(position)):
                raise FerError(
                    f"the pixel cache {self._folder} holds another picture than {self._manifest.image_paths[chosen[position]]} "
                    f"(manifest line {self._manifest.lines[chosen[position]]}). Delete that folder: it is built again"
                )


def open_pictures(
    manifest: Manifest,
    rows: NDArray[np.int64],
    spec: CanonicalSpec,
    *,
    mode: PixelCache,
    cache_dir: Path,
    verify_rows: int,
    num_processes: int | None = None,
) -> PictureStore:
    """Return the store of a run's pictures, with all of its rows cached where that is wanted and possible.

    What is cached already, by this run or another one on the same manifest and pictures, is used; the rest is decoded
    in parallel. A build that was interrupted goes on where it stopped, and a second process waits for the first.

    Args:
        manifest: the manifest.
        rows: row numbers the run will use.
        spec: canonical picture.
        mode: `off`: decode every time; `auto`: cache where the disk has room; `on`: or else an error.
        cache_dir: folder of all caches.
        verify_rows: random rows to decode again and compare; -1: all.
        num_processes: of the build; unset: the number of processors.

    Raises:
        FerError: a picture that cannot be decoded, no room where the cache is demanded, or a cache that differs.
    """
    if mode is PixelCache.off:
        return DecodingStore(manifest, spec)
    folder = _folder(cache_dir, manifest, spec)
    try:
        store = CachingStore(folder, manifest, spec)  # without the lock: a complete cache may be read-only
        if len(store.missing(rows)):
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder):
                store = CachingStore(folder, manifest, spec)  # another process may have been here
                missing = store.missing(rows)
                if len(missing):
                    if not _has_room(folder, manifest, missing, spec, demanded=mode is PixelCache.on):
                        return DecodingStore(manifest, spec)
                    _build(folder, manifest, missing, spec, num_processes or os.cpu_count() or 1)
                    store = CachingStore(folder, manifest, spec)
    except OSError as error:
        if mode is PixelCache.on:
            raise FerError(
                f"data.cache=on: cannot write {folder}: {error.strerror}; choose another data.cache_dir"
            ) from error
        log.warning("no pixel cache: cannot write %s (%s); pictures are decoded in every epoch", folder, error.strerror)
        return DecodingStore(manifest, spec)
    store.verify(rows, count=verify_rows)
    return store


def existing_cache(
    manifest: Manifest, rows: NDArray[np.int64], spec: CanonicalSpec, *, cache_dir: Path, verify_rows: int
) -> PictureStore | None:
    """Return the cache in which an earlier run has kept all of these rows, or None; nothing is built.

    Args:
        manifest: the manifest.
        rows: row numbers that will be used.
        spec: canonical picture.
        cache_dir: folder of all caches.
        verify_rows: random rows to decode again and compare; -1: all.

    Raises:
        FerError: a cached picture differs from its file.
    """
    folder = _folder(cache_dir, manifest, spec)
    if not folder.is_dir():
        return None
    try:
        store = CachingStore(folder, manifest, spec)
    except OSError as error:
        log.warning("pictures are decoded: cannot read the pixel cache %s (%s)", folder, error.strerror)
        return None
    if len(store.missing(rows)):
        return None
    store.verify(rows, count=verify_rows)
    return store


def _folder(cache_dir: Path, manifest: Manifest, spec: CanonicalSpec) -> Path:
    return cache_dir / "pixels" / f"{manifest.path.stem}_{spec.size}px_{_key(manifest, spec)[:16]}"


def _key(manifest: Manifest, spec: CanonicalSpec) -> str:
    root = os.path.abspath(manifest.root)  # noqa: PTH100  # resolve() would follow links
    return hashlib.sha256(f"{manifest.sha256}\n{root}\n{spec.digest()}".encode()).hexdigest()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's build lock; the kernel lets go of it when a process dies."""
    lock = filelock.FileLock(folder / "build.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log.info("another process is building %s; waiting for it", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _has_room(
    folder: Path, manifest: Manifest, rows: NDArray[np.int64], spec: CanonicalSpec, *, demanded: bool
) -> bool:
    """Estimate the size from a sample, compare with the disk, and say both."""
    sample = rows[np.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows))).astype(np.int64)]
    decoded = DecodedPictures(manifest, sample, spec)
    mean = sum(decoded(position).nbytes for position in range(len(sample))) / len(sample)
    needed, free = mean * len(rows), shutil.disk_usage(folder).free
    sizes = f"{len(rows)} pictures of {spec.size} px need about {needed / _GIB:.2f} GiB in {folder} ({free / _GIB:.1f} GiB free)"
    if needed * _SPARE < free:
        log.info("pixel cache: %s", sizes)
        return True
    if demanded:
        raise FerError(
            f"data.cache=on: {sizes}. Free some, choose another data.cache_dir, or train with data.cache=off"
        )
    log.warning("no pixel cache: %s; pictures are decoded in every epoch", sizes)
    return False


def _build(folder: Path, manifest: Manifest, rows: NDArray[np.int64], spec: CanonicalSpec, num_processes: int) -> None:
    for left_over in folder.glob(".segment*.tmp"):  # of a build that was killed
        left_over.unlink()
    stamps = file_stamps(manifest, rows)
    first = 1 + max(segment_numbers(folder), default=-1)
    jobs = [
        (folder, first + number, rows[start : start + _SEGMENT_ROWS], stamps[start : start + _SEGMENT_ROWS])
        for number, start in enumerate(range(0, len(rows), _SEGMENT_ROWS))
    ]
    with tqdm(
        total=len(rows), desc="pixel cache", unit="image", disable=None if len(rows) < _WORTH_PROCESSES else False
    ) as bar:
        if len(rows) < _WORTH_PROCESSES or num_processes == 1:
            for path, number, part, stamp in jobs:
                write_segment(path, number, part, stamp, DecodedPictures(manifest, part, spec))
                bar.update(len(part))
            return
        advice = "or train with data.cache=off"
        with worker_pool(min(num_processes, len(jobs)), task="builds the pixel cache", advice=advice) as pool:
            for count in _run_all(pool, jobs, manifest, spec, in_flight=2 * num_processes):
                bar.update(count)


def _run_all(
    pool: ProcessPoolExecutor,
    jobs: Sequence[tuple[Path, int, NDArray[np.int64], NDArray[np.int64]]],
    manifest: Manifest,
    spec: CanonicalSpec,
    *,
    in_flight: int,
) -> Iterator[int]:
    """Yield the rows of each finished segment; a job travels with its own rows only, and few wait at a time."""
    waiting: set[Future[int]] = set()
    for path, number, part, stamp in jobs:
        if len(waiting) >= in_flight:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
        waiting.add(pool.submit(write_segment, path, number, part, stamp, DecodedPictures(manifest, part, spec)))
    yield from (future.result() for future in waiting)
