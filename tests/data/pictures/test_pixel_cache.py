"""Cached pictures are the decoded ones, bit for bit, whatever happened to the cache before."""

import errno
import os
import pickle
import shutil
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import cv2
import filelock
import numpy as np
import pytest

from fer_lightning.data.config import PixelCache
from fer_lightning.data.pictures import pixel_cache
from fer_lightning.data.pictures.canonical import CanonicalSpec, Picture, canonical_picture, decode, expand
from fer_lightning.data.pictures.pixel_cache import CachingStore, open_pictures
from fer_lightning.data.pictures.segments import CachedPictures, write_segment
from fer_lightning.data.pictures.store import DecodedPictures, DecodingStore, PictureStore
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError
from tests.data.conftest import Workshop, make_box, make_row

SPEC = CanonicalSpec(size=32)


@pytest.fixture
def manifest(workshop: Workshop) -> Manifest:
    """Colour and grey, whole and boxed, PNG and JPEG, two faces of one photo."""
    rows = [make_row(f"pictures/colour{number}.png") for number in range(6)]
    rows += [make_row(f"pictures/grey{number}.png") for number in range(3)]
    rows += [make_row("photo.jpg", **make_box(0, 0, 12, 12)), make_row("photo.jpg", **make_box(4, 6, 24, 20))]
    manifest = workshop.read(rows, draw=True)
    for number in range(3):
        path = workshop.root / f"pictures/grey{number}.png"
        grey = cv2.cvtColor(decode(path), cv2.COLOR_RGB2GRAY)
        cv2.imwrite(str(path), cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR) if number == 2 else grey)
    return manifest


def everything(manifest: Manifest) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.arange(len(manifest))


def open_cache(manifest: Manifest, rows: object = None, spec: CanonicalSpec = SPEC, **options: Any) -> PictureStore:
    chosen = everything(manifest) if rows is None else np.asarray(rows)
    given = {"mode": PixelCache.on, "cache_dir": Path("cache"), "verify_rows": -1, **options}
    return open_pictures(manifest, chosen, spec, **given)


def cache_folder() -> Path:
    (folder,) = Path("cache/pixels").iterdir()
    return folder


def expected(manifest: Manifest, row: int, spec: CanonicalSpec = SPEC) -> Picture:
    bbox = manifest.bboxes[row].tolist() if manifest.has_bbox[row] else None
    return canonical_picture(decode(manifest.root / manifest.image_paths[row]), bbox, spec)


def assert_right(store: PictureStore, manifest: Manifest, spec: CanonicalSpec = SPEC) -> None:
    rows = everything(manifest)[::-1]
    pictures = store.pictures(rows)
    for position, row in enumerate(rows.tolist()):
        assert np.array_equal(expand(pictures(position)), expected(manifest, row, spec))


def forbid_building(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(pixel_cache, "write_segment", refuse)


def watch_building(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Return a list that will hold the rows of each segment built from now on."""
    built: list[list[int]] = []
    write = write_segment

    def watched(*given: Any) -> int:
        built.append(given[2].tolist())
        return write(*given)

    monkeypatch.setattr(pixel_cache, "write_segment", watched)
    return built


@pytest.mark.parametrize("clahe", [True, False])
def test_cached_pictures_are_the_decoded_ones_bit_for_bit(manifest: Manifest, clahe: bool) -> None:
    spec = CanonicalSpec(size=24, clahe=clahe)
    store = open_cache(manifest, spec=spec)
    assert isinstance(store, CachingStore)
    assert isinstance(store.pictures(everything(manifest)), CachedPictures)
    assert_right(store, manifest, spec)


def test_grey_takes_one_channel_however_it_is_stored(manifest: Manifest) -> None:
    pictures = open_cache(manifest).pictures(everything(manifest))
    assert [pictures(position).ndim for position in range(len(manifest))] == [3] * 6 + [2] * 3 + [3] * 2
    pixels = sum(path.stat().st_size for path in cache_folder().glob("*.bin"))
    assert pixels == 32 * 32 * (8 * 3 + 3)


def test_a_cached_picture_cannot_be_written_to(manifest: Manifest) -> None:
    picture = open_cache(manifest).pictures(everything(manifest))(0)
    with pytest.raises(ValueError, match="read-only"):
        picture[:] = 0


def test_a_second_run_builds_nothing(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    open_cache(manifest)
    forbid_building(monkeypatch)
    assert_right(open_cache(manifest), manifest)


def test_rows_of_another_filter_are_added(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_cache(manifest, [0, 3, 7])
    assert isinstance(first.pictures(np.array([3, 0])), CachedPictures)
    assert isinstance(first.pictures(np.array([0, 1])), DecodedPictures)
    built = watch_building(monkeypatch)
    assert_right(open_cache(manifest), manifest)
    assert built == [[1, 2, 4, 5, 6, 8, 9, 10]]


def test_parallel_segments_hold_the_same_pictures(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_cache, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(pixel_cache, "_SEGMENT_ROWS", 3)
    store = open_cache(manifest, num_processes=2)
    assert len(list(cache_folder().glob("*.bin"))) == 4
    assert_right(store, manifest)


def test_a_parallel_build_that_fails_keeps_what_was_finished(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_cache, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(pixel_cache, "_SEGMENT_ROWS", 3)
    monkeypatch.setattr(pixel_cache, "_SAMPLE", 2)  # the first and the last row
    path = manifest.root / manifest.image_paths[8]
    whole = path.read_bytes()
    path.write_bytes(b"broken")
    with pytest.raises(FerError, match="manifest line 10, pictures/grey2.png: cannot decode"):
        open_cache(manifest, num_processes=2)
    path.write_bytes(whole)
    monkeypatch.setattr(pixel_cache, "_WORTH_PROCESSES", 100)
    built = watch_building(monkeypatch)
    assert_right(open_cache(manifest), manifest)
    assert not {0, 1, 2} & {row for rows in built for row in rows}


def test_a_changed_file_is_decoded_again(manifest: Manifest, workshop: Workshop) -> None:
    open_cache(manifest)
    before = expected(manifest, 2)
    workshop.draw("other.png")
    shutil.copy(workshop.root / "other.png", workshop.root / manifest.image_paths[2])
    assert not np.array_equal(expected(manifest, 2), before)
    assert_right(open_cache(manifest, verify_rows=0), manifest)


def test_half_written_and_lost_segments_are_built_again(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_cache, "_SEGMENT_ROWS", 3)
    open_cache(manifest)
    folder = cache_folder()
    (folder / "segment000000.npz").unlink()  # killed between pixels and table
    with (folder / "segment000001.bin").open("rb+") as file:
        file.truncate(100)
    (folder / "segment000002.bin").unlink()
    (folder / "segment000003.npz").write_bytes(b"PK\x03\x04 no archive")
    (folder / ".segment000004.bin.77.tmp").write_bytes(b"killed while writing")
    store = open_cache(manifest)
    assert_right(store, manifest)
    assert not list(folder.glob(".*.tmp"))


def test_an_interrupted_build_keeps_what_was_finished(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_cache, "_SEGMENT_ROWS", 3)
    write = write_segment

    def stop_at_the_third(*given: Any) -> int:
        if given[1] == 2:
            raise KeyboardInterrupt
        return write(*given)

    monkeypatch.setattr(pixel_cache, "write_segment", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        open_cache(manifest)
    monkeypatch.setattr(pixel_cache, "write_segment", write)
    built = watch_building(monkeypatch)
    assert_right(open_cache(manifest), manifest)
    assert built == [[6, 7, 8], [9, 10]]


def flip_a_bit_of_row_4() -> None:
    with (cache_folder() / "segment000000.bin").open("rb+") as file:
        file.seek(32 * 32 * 3 * 4 + 5)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))


def rewrite_table(**changes: Any) -> None:
    """Change columns of the first segment's table; None: leave it out."""
    path = cache_folder() / "segment000000.npz"
    with np.load(path) as table:
        columns = {**table, **changes}
    np.savez(path, **{name: column for name, column in columns.items() if column is not None})


def test_a_cache_that_differs_from_its_files_is_refused(manifest: Manifest) -> None:
    open_cache(manifest)
    flip_a_bit_of_row_4()
    rewrite_table(checksum=np.uint32(zlib.crc32((cache_folder() / "segment000000.bin").read_bytes())))
    with pytest.raises(FerError, match=r"holds another picture than pictures/colour4.png \(manifest line 6\). Delete"):
        open_cache(manifest)
    open_cache(manifest, verify_rows=0)


def test_a_damaged_segment_is_refused_before_its_pixels_are_used(manifest: Manifest) -> None:
    sent = pickle.dumps(open_cache(manifest).pictures(everything(manifest)))
    flip_a_bit_of_row_4()
    damaged = r"the pixel cache cache/pixels/manifest_32px_\w+ is damaged: segment000000.bin .* Delete that folder"
    with pytest.raises(FerError, match=damaged):
        open_cache(manifest)
    pictures = open_cache(manifest, verify_rows=0).pictures(np.array([0]))
    for _ in range(2):
        with pytest.raises(FerError, match=damaged):
            pictures(0)  # another row of the same segment
    with pytest.raises(FerError, match=damaged):
        pickle.loads(sent)(0)  # noqa: S301  our own bytes


def test_a_segment_is_checked_once_for_all_rows_of_a_store(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    open_cache(manifest)
    checked: list[int] = []
    crc32 = zlib.crc32

    def watched(data: Any) -> int:
        checked.append(len(data))
        return crc32(data)

    monkeypatch.setattr(zlib, "crc32", watched)
    store = open_cache(manifest)
    assert_right(store, manifest)
    assert_right(store, manifest)
    assert checked.count(32 * 32 * (8 * 3 + 3)) == 1


@pytest.mark.parametrize("missing", ["checksum", "third stamp"])
def test_a_table_of_an_earlier_form_counts_as_incomplete(
    manifest: Manifest, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_cache(manifest)
    with np.load(cache_folder() / "segment000000.npz") as table:
        stamps = table["stamps"]
    assert stamps.shape == (11, 3)
    rewrite_table(**{"checksum": None} if missing == "checksum" else {"stamps": stamps[:, :2]})
    built = watch_building(monkeypatch)
    assert_right(open_cache(manifest), manifest)
    assert built == [list(range(11))]


def test_files_of_equal_size_and_time_that_changed_places_are_decoded_again(workshop: Workshop) -> None:
    manifest = workshop.read([make_row("a.bmp"), make_row("b.bmp"), make_row("c.bmp")], draw=True)
    for name in ("a.bmp", "b.bmp"):
        os.utime(workshop.root / name, ns=(10**18, 10**18))
    open_cache(manifest)
    before = [expected(manifest, row) for row in range(3)]
    time.sleep(0.02)  # file times advance in ticks
    for source, target in (("a.bmp", "aside"), ("b.bmp", "a.bmp"), ("aside", "b.bmp")):
        (workshop.root / source).rename(workshop.root / target)
    assert np.array_equal(expected(manifest, 0), before[1])
    assert_right(open_cache(manifest, verify_rows=0), manifest)


def test_foreign_files_are_left_alone(manifest: Manifest) -> None:
    open_cache(manifest, [0, 1])
    names = ["segment000000 (copy).bin", "segment.npz", "segment00.bin", "segment0000001.bin", "segment000000.bin.part"]
    for name in names:
        (cache_folder() / name).write_bytes(b"not ours")
    assert_right(open_cache(manifest), manifest)
    assert all((cache_folder() / name).read_bytes() == b"not ours" for name in names)
    assert (cache_folder() / "segment000001.bin").is_file()


def test_a_complete_cache_needs_no_writing(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_cache(manifest, [0, 1, 2])

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(filelock, "FileLock", refuse)
    monkeypatch.setattr(os, "mkdir", refuse)
    store = open_cache(manifest, [0, 2])
    assert isinstance(store.pictures(np.array([0, 2])), CachedPictures)
    assert isinstance(open_cache(manifest, mode=PixelCache.auto), DecodingStore)
    assert "Read-only file system" in caplog.text
    with pytest.raises(FerError, match="cannot write .*: Read-only file system; choose another data.cache_dir"):
        open_cache(manifest)


def test_the_disk_is_asked_before_anything_is_written(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = shutil.disk_usage(".")._replace(free=20_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(FerError, match=r"data.cache=on: 11 pictures of 32 px need about 0.00 GiB .* choose another"):
        open_cache(manifest)
    store = open_cache(manifest, mode=PixelCache.auto)
    assert isinstance(store, DecodingStore)
    assert "no pixel cache" in caplog.text
    assert not list(cache_folder().glob("segment*"))
    assert_right(store, manifest)


def test_the_estimate_is_the_size(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")
    needed = 32 * 32 * (8 * 3 + 3)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(needed * 1.1) + 1))
    assert isinstance(open_cache(manifest), CachingStore)


def test_a_folder_that_cannot_be_written(manifest: Manifest, caplog: pytest.LogCaptureFixture) -> None:
    Path("blocked").write_text("a file", encoding="utf-8")
    with pytest.raises(FerError, match=r"data.cache=on: cannot write blocked.* choose another data.cache_dir"):
        open_cache(manifest, cache_dir=Path("blocked"))
    assert isinstance(open_cache(manifest, cache_dir=Path("blocked"), mode=PixelCache.auto), DecodingStore)
    assert "no pixel cache: cannot write blocked" in caplog.text


def test_off_keeps_nothing(manifest: Manifest) -> None:
    assert_right(open_cache(manifest, mode=PixelCache.off), manifest)
    assert not Path("cache").exists()


def test_other_pictures_manifests_and_roots_have_caches_of_their_own(manifest: Manifest, workshop: Workshop) -> None:
    open_cache(manifest)
    open_cache(manifest, spec=CanonicalSpec(size=32, clahe=False))
    open_cache(workshop.read([make_row("pictures/colour0.png")]))
    assert len(list(Path("cache/pixels").iterdir())) == 3


def test_a_broken_picture_names_its_line(manifest: Manifest) -> None:
    (manifest.root / manifest.image_paths[4]).write_bytes(b"broken")
    with pytest.raises(FerError, match=r"manifest line 6, pictures/colour4.png: cannot decode"):
        open_cache(manifest)


def test_pictures_travel_without_their_maps(manifest: Manifest) -> None:
    pictures = open_cache(manifest).pictures(everything(manifest))
    first = pictures(0).copy()
    sent = pickle.dumps(pictures)
    assert len(sent) < 4000
    assert np.array_equal(pickle.loads(sent)(0), first)  # noqa: S301  our own bytes


def test_a_second_process_waits_for_the_first(manifest: Manifest, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    open_cache(manifest, [0])
    lock = filelock.FileLock(cache_folder() / "build.lock")
    opened = threading.Event()
    lock.acquire()

    def wait_and_open() -> None:
        open_cache(manifest)
        opened.set()

    waiter = threading.Thread(target=wait_and_open)
    waiter.start()
    assert not opened.wait(0.3)
    lock.release()
    waiter.join(20)
    assert opened.is_set()
    assert "another process is building" in caplog.text


def test_a_cache_that_lies_there_is_used_where_it_holds_every_row_and_never_built(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec, rows = CanonicalSpec(size=16), np.arange(3)
    options: dict[str, Any] = {"cache_dir": tmp_path / "pictures_kept", "verify_rows": -1}
    assert pixel_cache.existing_cache(manifest, rows, spec, **options) is None
    assert not (tmp_path / "pictures_kept").exists()
    open_pictures(manifest, rows, spec, mode=PixelCache.on, **options)
    found = pixel_cache.existing_cache(manifest, rows[1:], spec, **options)
    assert found is not None
    assert np.array_equal(found.pictures(rows)(2), DecodingStore(manifest, spec).pictures(rows)(2))
    assert pixel_cache.existing_cache(manifest, np.arange(4), spec, **options) is None
    assert pixel_cache.existing_cache(manifest, rows, CanonicalSpec(size=17), **options) is None

    def unreadable(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pixel_cache, "read_index", unreadable)
    assert pixel_cache.existing_cache(manifest, rows, spec, **options) is None
    assert "pictures are decoded: cannot read the pixel cache" in caplog.text
