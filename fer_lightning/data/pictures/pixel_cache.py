"""Canonical pictures on disk: built once in parallel, shared by runs, verified, and equal to decoding bit for bit."""

import contextlib
import hashlib
import logging
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.config import PixelCache
from fer_lightning.data.pictures.canonical import CanonicalSpec, Picture
from fer_lightning.data.pictures.file_stamps import file_stamps
from fer_lightning.data.pictures.store import DecodedPictures, DecodingStore, Pictures, PictureStore
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError
from fer_lightning.files import write_atomically

log = logging.getLogger(__name__)

_SEGMENT_ROWS = 512
_SAMPLE = 64  # rows whose size tells that of the others
_SPARE = 1.1
_WORTH_PROCESSES = 2000
_GIB = 2**30


@dataclass(frozen=True)
class _Index:
    """Where the cached rows are; entry i of each array is row i of the manifest."""

    segments: NDArray[np.int32]
    """Number of the segment file; -1 where a row is not cached, or its file has changed since."""
    offsets: NDArray[np.int64]
    channels: NDArray[np.uint8]


class CachedPictures:
    """Pictures read from segment files."""

    def __init__(self, folder: Path, index: _Index, rows: NDArray[np.int64], size: int) -> None:
        self._folder = folder
        self._segments = index.segments[rows].tolist()
        self._offsets = index.offsets[rows].tolist()
        self._channels = index.channels[rows].tolist()
        self._size = size
        self._maps: dict[int, NDArray[np.uint8]] = {}

    def __call__(self, position: int) -> Picture:
        """Return a view of the picture; it cannot be written to."""
        segment, offset, channels = self._segments[position], self._offsets[position], self._channels[position]
        pixels = self._maps.get(segment)
        if pixels is None:
            pixels = self._maps[segment] = np.memmap(_segment_path(self._folder, segment), dtype=np.uint8, mode="r")
        picture = pixels[offset : offset + self._size * self._size * channels]
        return picture.reshape((self._size, self._size) if channels == 1 else (self._size, self._size, 3))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the maps behind: a loader process opens its own."""
        return {**self.__dict__, "_maps": {}}


class CachingStore:
    """The store that keeps pictures on disk."""

    def __init__(self, folder: Path, manifest: Manifest, spec: CanonicalSpec) -> None:
        self.spec = spec
        self._folder = folder
        self._manifest = manifest
        self._index = _read_index(folder, manifest)

    def pictures(self, rows: NDArray[np.int64]) -> Pictures:
        """Return the pictures of some rows; those that are not cached are decoded."""
        if (self._index.segments[rows] < 0).any():
            return DecodedPictures(self._manifest, rows, self.spec)
        return CachedPictures(self._folder, self._index, rows, self.spec.size)

    def missing(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows that are not cached."""
        return rows[self._index.segments[rows] < 0]

    def verify(self, rows: NDArray[np.int64], *, count: int) -> None:
        """Decode random rows again and compare.

        Args:
            rows: rows to choose from.
            count: how many; -1: all.

        Raises:
            FerError: a cached picture differs from its file.
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
    folder = cache_dir / "pixels" / f"{manifest.path.stem}_{spec.size}px_{_key(manifest, spec)[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            store = CachingStore(folder, manifest, spec)
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
    first = 1 + max(_segment_numbers(folder), default=-1)
    jobs = [
        (folder, first + number, rows[start : start + _SEGMENT_ROWS], stamps[start : start + _SEGMENT_ROWS])
        for number, start in enumerate(range(0, len(rows), _SEGMENT_ROWS))
    ]
    with tqdm(
        total=len(rows), desc="pixel cache", unit="image", disable=None if len(rows) < _WORTH_PROCESSES else False
    ) as bar:
        if len(rows) < _WORTH_PROCESSES or num_processes == 1:
            for path, number, part, stamp in jobs:
                _write_segment(path, number, part, stamp, DecodedPictures(manifest, part, spec))
                bar.update(len(part))
            return
        with ProcessPoolExecutor(num_processes) as pool:
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
    try:
        for path, number, part, stamp in jobs:
            if len(waiting) >= in_flight:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
            pictures = DecodedPictures(manifest, part, spec)
            waiting.add(pool.submit(_write_segment, path, number, part, stamp, pictures))
        yield from (future.result() for future in waiting)
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)  # segments that are complete stay
        raise


def _write_segment(
    folder: Path, number: int, rows: NDArray[np.int64], stamps: NDArray[np.int64], pictures: DecodedPictures
) -> int:
    """Write the pixels, then the table that makes them count."""
    compact = [pictures(position) for position in range(len(rows))]
    sizes = [picture.nbytes for picture in compact]
    channels = [1 if picture.ndim == 2 else 3 for picture in compact]

    def write_pixels(path: Path) -> None:
        with path.open("wb") as file:
            for picture in compact:
                file.write(picture.data)

    def write_table(path: Path) -> None:
        with path.open("wb") as file:
            offsets = np.cumsum([0, *sizes], dtype=np.int64)
            np.savez(file, rows=rows, offsets=offsets, channels=np.array(channels, dtype=np.uint8), stamps=stamps)

    write_atomically(_segment_path(folder, number), write_pixels)
    write_atomically(_table_path(folder, number), write_table)
    return len(rows)


def _segment_path(folder: Path, number: int) -> Path:
    return folder / f"segment{number:06d}.bin"


def _table_path(folder: Path, number: int) -> Path:
    return folder / f"segment{number:06d}.npz"


def _segment_numbers(folder: Path) -> list[int]:
    """Return the numbers of all segments, complete or not."""
    return sorted({int(path.stem.removeprefix("segment")) for path in folder.glob("segment*.*")})


def _read_index(folder: Path, manifest: Manifest) -> _Index:
    """Read the tables of all complete segments; a row counts while its file is as it was when it was decoded."""
    index = _Index(
        segments=np.full(len(manifest), -1, dtype=np.int32),
        offsets=np.zeros(len(manifest), dtype=np.int64),
        channels=np.zeros(len(manifest), dtype=np.uint8),
    )
    tables = {}
    for number in _segment_numbers(folder):
        table = _read_table(folder, number)
        if table is not None:
            tables[number] = table
    if not tables:
        return index
    rows = np.unique(np.concatenate([table["rows"] for table in tables.values()]))
    now = np.zeros((len(manifest), 2), dtype=np.int64)
    now[rows] = file_stamps(manifest, rows)
    for number, table in tables.items():
        same = (now[table["rows"]] == table["stamps"]).all(axis=1)
        kept = table["rows"][same]
        index.segments[kept] = number
        index.offsets[kept] = table["offsets"][:-1][same]
        index.channels[kept] = table["channels"][same]
    return index


def _read_table(folder: Path, number: int) -> dict[str, NDArray[Any]] | None:
    """Return a segment's table, or None where the segment is incomplete."""
    path = _table_path(folder, number)
    if not path.is_file():
        return None
    try:
        with path.open("rb") as raw, np.load(raw) as file:
            table = {name: file[name] for name in ("rows", "offsets", "channels", "stamps")}
        whole = _segment_path(folder, number).stat().st_size == table["offsets"][-1]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return table if whole else None
