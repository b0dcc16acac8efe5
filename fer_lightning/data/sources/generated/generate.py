"""Writes a generated set: pictures first, the manifest last."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2

from fer_lightning.data.pictures.worker_pool import worker_pool
from fer_lightning.data.sources.generated.duplicates import PlantedDuplicate, copy_bytes, plan_duplicates
from fer_lightning.data.sources.generated.manifest import MANIFEST_NAME, manifest_text
from fer_lightning.data.sources.generated.plan import PlannedPicture, plan_pictures
from fer_lightning.data.sources.generated.render import render
from fer_lightning.data.sources.generated.spec import GeneratedSetSpec

cv2.setNumThreads(1)  # the processes share the work; threads in each would only wait for one another

Progress = Callable[[int, int], None]

_CHUNK = 16  # pictures per task of a worker


@dataclass(frozen=True, kw_only=True)
class GeneratedSet:
    """What was written.

    Attributes:
        manifest: path of the CSV.
        num_rows: its rows, planted duplicates included.
        planted: the duplicates among them, in the order of the last rows.
    """

    manifest: Path
    num_rows: int
    planted: tuple[PlantedDuplicate, ...]


def generate_set(
    root: Path, spec: GeneratedSetSpec, *, num_workers: int = 1, progress: Progress | None = None
) -> GeneratedSet:
    """Draw a set of faces into a folder.

    The bytes follow from `spec` alone, whatever `num_workers`. An old manifest is removed first and the new one
    written last, so a folder with a manifest is complete; an interrupted call is simply repeated.
    Pictures that another spec left in the folder are not removed.

    Args:
        root: folder, made if missing.
        spec: what to generate.
        num_workers: processes; 1 draws in this one.
        progress: called with files written so far and files in all.

    Returns:
        Where the manifest is and what was planted.

    Raises:
        ValueError: `num_workers` below 1, or more duplicates than pictures to copy.
        OSError: a file could not be written.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers is {num_workers}; expected at least 1")
    pictures = plan_pictures(spec)
    copies = plan_duplicates(spec, pictures)
    manifest = root / MANIFEST_NAME
    manifest.unlink(missing_ok=True)
    for folder in sorted({(root / picture.path).parent for picture in (*pictures, *(copy for copy, _ in copies))}):
        folder.mkdir(parents=True, exist_ok=True)
    total = len(pictures) + len(copies)
    _write_pictures(root, spec, pictures, num_workers, functools.partial(_report, progress, total))
    for done, (copy, planted) in enumerate(copies, start=len(pictures) + 1):
        _replace_bytes(root / copy.path, copy_bytes(root, spec, copy, planted))
        _report(progress, total, done)
    _replace_bytes(manifest, manifest_text(pictures, (copy for copy, _ in copies)).encode())
    num_rows = sum(len(picture.faces) for picture in pictures) + len(copies)
    return GeneratedSet(manifest=manifest, num_rows=num_rows, planted=tuple(planted for _, planted in copies))


def _write_pictures(
    root: Path, spec: GeneratedSetSpec, pictures: list[PlannedPicture], num_workers: int, report: Callable[[int], None]
) -> None:
    write = functools.partial(_write_picture, root, spec)
    if num_workers == 1:
        for done, picture in enumerate(pictures, start=1):
            write(picture)
            report(done)
        return
    with worker_pool(num_workers, task="draws pictures", advice="with fewer processes (num_workers)") as pool:
        for done, _ in enumerate(pool.map(write, pictures, chunksize=_CHUNK), start=1):
            report(done)


def _write_picture(root: Path, spec: GeneratedSetSpec, picture: PlannedPicture) -> None:
    _replace_bytes(root / picture.path, render(picture, spec))


def _replace_bytes(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old or the new one, never half of it."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


def _report(progress: Progress | None, total: int, done: int) -> None:
    if progress is not None:
        progress(done, total)
