"""Facts of pictures: what they are, that nothing is looked at twice, and that nothing is taken for what it is not."""

import errno
import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from fer_lightning.data.pictures import canonical, fact_store, picture_looks
from fer_lightning.data.pictures import image_facts as module
from fer_lightning.data.pictures.fingerprints import THUMBNAIL_SIDE, content_digest, perceptual_hashes, thumbnail
from fer_lightning.data.pictures.image_facts import FileStatus, ImageFacts, image_facts
from fer_lightning.data.rows.manifest import Manifest
from tests.data.conftest import Row, Workshop, cycle_rows, make_box, make_row


def look(
    manifest: Manifest, rows: Sequence[int] | None = None, *, store: Path | None = None, num_workers: int = 0
) -> ImageFacts:
    chosen = np.arange(len(manifest)) if rows is None else np.asarray(rows, dtype=np.int64)
    return image_facts(manifest, chosen, store=store, num_workers=num_workers)


def assert_equal(one: ImageFacts, other: ImageFacts) -> None:
    for name in ("rows", "status", "heights", "widths", "contents", "hashes", "mirrored_hashes"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    everything = np.arange(len(one.rows))
    assert np.array_equal(one.thumbnails[everything], other.thumbnails[everything])


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files decoded, in order."""
    names: list[str] = []

    def decode(path: Path) -> canonical.Picture:
        names.append(path.name)
        return canonical.decode(path)

    monkeypatch.setattr(picture_looks, "decode", decode)
    return names


def test_facts_of_a_picture(workshop: Workshop) -> None:
    rows = [make_row("a.png"), make_row("b.jpg"), make_row("a.png", **make_box(3, 5, 60, 33))]
    workshop.draw("a.png", height=40, width=64)
    workshop.draw("b.jpg", height=50, width=30)
    facts = look(workshop.read(rows), [2, 0, 1])
    assert facts.rows.tolist() == [2, 0, 1]
    assert facts.status.tolist() == [FileStatus.ok] * 3
    assert facts.heights.tolist() == [40, 40, 50]
    assert facts.widths.tolist() == [64, 64, 30]
    with Image.open("a.png") as image:
        picture = np.asarray(image)
    for position, pixels in ((1, picture), (0, picture[3:33, 5:60])):
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
        assert np.array_equal(facts.thumbnails[np.array([position])][0], small)
    assert len({tuple(content) for content in facts.contents.tolist()}) == 3


def test_hash_is_the_sign_of_low_frequencies_against_their_median() -> None:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (20, 6, 6), dtype=np.uint8)
    thumbnails = np.stack([cv2.resize(one, (32, 32), interpolation=cv2.INTER_CUBIC) for one in coarse])
    hashes, mirrored = perceptual_hashes(thumbnails)
    for pictures, found in ((thumbnails, hashes), (thumbnails[..., ::-1], mirrored)):
        for picture, value in zip(pictures, found.tolist(), strict=True):
            low = dctn(picture.astype(float), type=2)[:8, :8].reshape(-1)[1:]
            assert [value >> bit & 1 for bit in range(64)] == [0, *(low > np.median(low)).astype(int).tolist()]


def test_hash_of_a_flat_picture_is_0() -> None:
    flat = np.stack([np.full((32, 32), grey, dtype=np.uint8) for grey in (0, 7, 128, 255)])
    assert [found.tolist() for found in perceptual_hashes(flat)] == [[0] * 4, [0] * 4]
    assert [found.shape for found in perceptual_hashes(flat[:0])] == [(0,), (0,)]


def test_contents_are_equal_where_the_pixels_are(workshop: Workshop) -> None:
    path = workshop.draw("a.png", height=40, width=40)
    picture = np.ascontiguousarray(canonical.decode(path)[..., ::-1])  # BGR, as OpenCV writes
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    cv2.imwrite("b.bmp", picture)
    cv2.imwrite("part.png", picture[5:25, 4:30])
    cv2.imwrite("grey.png", grey)
    cv2.imwrite("grey_as_rgb.png", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
    cv2.imwrite("turned.png", picture.transpose(1, 0, 2))
    other = picture.copy()
    other[-1, -1, 0] ^= 1
    cv2.imwrite("one_bit.png", other)
    names = ["a.png", "b.bmp", "part.png", "grey.png", "grey_as_rgb.png", "turned.png", "one_bit.png"]
    rows = [*(make_row(name) for name in names), make_row("a.png", **make_box(5, 4, 30, 25))]
    contents = [tuple(content) for content in look(workshop.read(rows)).contents.tolist()]
    groups = [contents.index(content) for content in contents]
    assert groups == [0, 0, 2, 3, 3, 5, 6, 2]


def test_digest_knows_the_shape() -> None:
    pixels = np.arange(48, dtype=np.uint8)
    shapes = [(48,), (4, 12), (12, 4), (6, 8)]
    digests = {content_digest(pixels.reshape(*shape, 1)[..., 0]).tobytes() for shape in shapes[1:]}
    assert len(digests | {content_digest(pixels.reshape(4, 4, 3)).tobytes()}) == 4
    tail = np.zeros((64, 4, 3), dtype=np.uint8)
    tail[-1, -1, 2] = 1  # grey but for the last value
    assert content_digest(tail).tolist() != content_digest(tail[..., 0]).tolist()
    assert content_digest(tail[:-1]).tolist() == content_digest(tail[:-1, :, 0]).tolist()


def write_faulty_files() -> list[Row]:
    names = {
        "empty.png": b"",
        "cut.jpg": Path("good.jpg").read_bytes()[:-200],
        "cut.png": Path("good.png").read_bytes()[:-200],
        "text.png": b"not a picture",
        "tail.png": Path("good.png").read_bytes() + b"\0" * 500,
    }
    for name, data in names.items():
        Path(name).write_bytes(data)
    Path("folder.png").mkdir()
    return [make_row(name) for name in ["good.jpg", "absent.png", "below/absent.png", *names, "folder.png"]]


EXPECTED = ["ok", "missing", "missing", "empty", "truncated", "truncated", "unreadable", "ok", "unreadable"]


def test_what_is_wrong_with_a_file_is_told(workshop: Workshop) -> None:
    workshop.draw("good.jpg", height=80, width=60)
    workshop.draw("good.png", height=80, width=60)
    rows = write_faulty_files()
    boxes = [(0, 0, 60, 80), (0, 0, 61, 80), (0, 0, 60, 81), (79, 59, 60, 80)]
    rows += [make_row("good.png", **make_box(top, left, right, bottom)) for top, left, right, bottom in boxes]
    manifest = workshop.read(rows)
    for _ in range(2):  # afresh, and from the store
        facts = look(manifest, store=Path("store"))
        statuses = [FileStatus(status).name for status in facts.status]
        assert statuses == [*EXPECTED, "ok", "box_outside", "box_outside", "ok"]
        bad = facts.status != FileStatus.ok
        for name in ("heights", "widths", "contents", "hashes", "mirrored_hashes"):
            assert not getattr(facts, name)[bad].any(), name
        assert not facts.thumbnails[np.flatnonzero(bad)].any()
        assert (facts.heights[~bad] == 80).all()


def test_faces_of_one_photo_are_one_decode(workshop: Workshop, decoded: list[str]) -> None:
    rows = [make_row(f"{name}.png", **make_box(0, 0, 9, 9 + face)) for face in range(4) for name in "ab"]
    facts = look(workshop.read(rows, draw=True))
    assert decoded == ["a.png", "b.png"]
    assert len({tuple(content) for content in facts.contents.tolist()}) == 8


def test_nothing_is_looked_at_twice(workshop: Workshop, decoded: list[str]) -> None:
    workshop.draw("good.jpg", height=80, width=60)
    workshop.draw("good.png", height=80, width=60)
    manifest = workshop.read([*cycle_rows(20), *write_faulty_files()])
    for row in cycle_rows(20):
        workshop.draw(row["image_path"])
    first = look(manifest, range(12), store=Path("store"))
    assert len(decoded) == 12
    look(manifest, store=Path("store"))
    seen_once = len(decoded)
    again = look(manifest, store=Path("store"))
    assert decoded[seen_once:] == ["folder.png"]  # what could not be opened may open the next time
    assert_equal(again, look(manifest))
    assert np.array_equal(first.contents, again.contents[:12])


def test_a_changed_file_is_looked_at_again(workshop: Workshop, decoded: list[str]) -> None:
    manifest = workshop.read(cycle_rows(6), draw=True)
    before = look(manifest, store=Path("store"))
    touched, redrawn, cut = (workshop.root / manifest.image_paths[row] for row in (1, 2, 3))
    os.utime(touched, ns=(1, 1))
    redrawn.write_bytes(workshop.draw("other.png", height=30).read_bytes())
    cut.write_bytes(cut.read_bytes()[:-100])
    decoded.clear()
    after = look(manifest, store=Path("store"))
    assert decoded == [touched.name, redrawn.name, cut.name]
    assert (after.contents == before.contents).all(axis=1).tolist() == [True, True, False, False, True, True]
    assert after.status[3] == FileStatus.truncated
    assert after.heights.tolist() == [24, 24, 30, 0, 24, 24]


def test_files_of_equal_size_and_time_that_changed_places_are_looked_at_again(
    workshop: Workshop, decoded: list[str]
) -> None:
    manifest = workshop.read([make_row("a.bmp"), make_row("b.bmp"), make_row("c.bmp")], draw=True)
    for name in ("a.bmp", "b.bmp"):
        os.utime(workshop.root / name, ns=(10**18, 10**18))
    before = look(manifest, store=Path("store"))
    time.sleep(0.02)  # file times advance in ticks
    for source, target in (("a.bmp", "aside"), ("b.bmp", "a.bmp"), ("aside", "b.bmp")):
        (workshop.root / source).rename(workshop.root / target)
    decoded.clear()
    after = look(manifest, store=Path("store"))
    assert decoded == ["a.bmp", "b.bmp"]
    assert np.array_equal(after.contents, before.contents[[1, 0, 2]])


def refuse(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_store_that_cannot_be_made_is_done_without(
    workshop: Workshop, decoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    Path("blocked").write_text("a file")
    manifest = workshop.read([*cycle_rows(6), make_row("absent.png")])
    for row in cycle_rows(6):
        workshop.draw(row["image_path"])
    for _ in range(2):
        assert_equal(look(manifest, store=Path("blocked/facts")), look(manifest))
    assert len(decoded) == 24
    folder = workshop.root / "blocked/facts"
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot keep what is known about pictures in {folder}: Not a directory; they are looked at again next time"
    ]


def test_a_store_that_cannot_be_written_is_still_read(
    workshop: Workshop, decoded: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_ROWS_PER_FILE", 2)
    monkeypatch.setattr(picture_looks, "_PHOTOS_PER_TASK", 2)
    manifest = workshop.read(cycle_rows(10), draw=True)
    look(manifest, range(4), store=Path("store"))
    kept = sorted(Path("store").iterdir())
    decoded.clear()
    monkeypatch.setattr(fact_store, "write_atomically", refuse)
    facts = look(manifest, store=Path("store"))
    assert decoded == [Path(path).name for path in manifest.image_paths[4:]]
    assert sorted(Path("store").iterdir()) == kept
    assert_equal(facts, look(manifest))
    assert caplog.text.count("cannot keep what is known about pictures") == 1
    assert "No space left on device" in caplog.text


def test_another_box_or_folder_is_another_picture(workshop: Workshop, decoded: list[str]) -> None:
    look(workshop.read([make_row("a.png", **make_box(0, 0, 9, 9))], draw=True), store=Path("store"))
    facts = look(workshop.read([make_row("a.png", **make_box(0, 0, 9, 10))]), store=Path("store"))
    assert decoded == ["a.png", "a.png"]
    assert facts.status.tolist() == [FileStatus.ok]


def test_an_interrupted_call_keeps_what_it_did(
    workshop: Workshop, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_looks, "_PHOTOS_PER_TASK", 3)
    monkeypatch.setattr(module, "_ROWS_PER_FILE", 6)
    manifest = workshop.read(cycle_rows(20), draw=True)
    done = iter(range(10))

    def decode(path: Path) -> canonical.Picture:
        if next(done, None) is None:  # in the fourth task
            raise KeyboardInterrupt
        return canonical.decode(path)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(picture_looks, "decode", decode)
        with pytest.raises(KeyboardInterrupt):
            look(manifest, store=Path("store"))
    assert len(list(Path("store").iterdir())) == 2  # one of six rows, one of the three that were waiting
    facts = look(manifest, store=Path("store"))
    assert decoded == [Path(path).name for path in manifest.image_paths[9:]]
    assert_equal(facts, look(manifest))


def test_a_damaged_store_is_mended(workshop: Workshop, decoded: list[str], caplog: pytest.LogCaptureFixture) -> None:
    manifest = workshop.read(cycle_rows(8), draw=True)
    look(manifest, range(4), store=Path("store"))
    (damaged,) = Path("store").iterdir()
    whole = damaged.read_bytes()
    look(manifest, range(4, 8), store=Path("store"))
    for broken in (whole[:-1], whole[:50], b"", b"junk" * 100, whole + b"\0"):
        damaged.write_bytes(broken)
        (Path("store") / f".{damaged.name}.1.tmp").write_bytes(broken)  # left behind by a killed process
        decoded.clear()
        caplog.clear()
        facts = look(manifest, store=Path("store"))
        assert f"{damaged} is damaged" in caplog.text
        assert decoded == [Path(path).name for path in manifest.image_paths[:4]]
        assert_equal(facts, look(manifest))
        assert damaged.read_bytes() == whole


def test_processes_see_the_same(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_looks, "_PHOTOS_PER_TASK", 4)
    monkeypatch.setattr(picture_looks, "_WORTH_A_POOL", 2)
    manifest = workshop.read([*cycle_rows(30), make_row("absent.png")])
    for row in cycle_rows(30):
        workshop.draw(row["image_path"])
    assert_equal(look(manifest, num_workers=2, store=Path("store")), look(manifest))
    assert_equal(look(manifest, num_workers=2, store=Path("store")), look(manifest))


def _write(manifest: Manifest, rows: NDArray[np.int64]) -> None:
    image_facts(manifest, rows, store=Path("store"))


def test_two_writers_at_once(workshop: Workshop, decoded: list[str]) -> None:
    manifest = workshop.read(cycle_rows(40), draw=True)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(manifest, np.arange(start, start + 30))) for start in (0, 10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    facts = look(manifest, store=Path("store"))
    assert decoded == []
    assert_equal(facts, look(manifest))


def test_no_rows(workshop: Workshop) -> None:
    manifest = workshop.read([make_row("absent.png")])
    for store in (None, Path("store")):
        facts = look(manifest, [], store=store)
        assert facts.contents.shape == (0, 2)
        assert facts.thumbnails[np.empty(0, dtype=np.int64)].shape == (0, 32, 32)


def test_store_keeps_what_was_seen_across_versions_apart(
    workshop: Workshop, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = workshop.read(cycle_rows(3), draw=True)
    look(manifest, store=Path("store"))
    monkeypatch.setattr(cv2, "__version__", "99.0")
    look(manifest, store=Path("store"))
    monkeypatch.setattr(module, "_VERSION", 99)
    look(manifest, store=Path("store"))
    assert len(decoded) == 9


def test_thumbnail_of_grey_equals_that_of_the_same_as_rgb() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (50, 70), dtype=np.uint8)
    assert np.array_equal(thumbnail(grey), thumbnail(np.repeat(grey[..., None], 3, axis=2)))
    assert np.array_equal(thumbnail(grey), cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA))
