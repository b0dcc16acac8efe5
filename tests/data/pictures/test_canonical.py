"""The canonical picture against plain OpenCV and albumentations."""

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fer_lightning.data.pictures.canonical import (
    CanonicalSpec,
    EmptyPictureError,
    MissingPictureError,
    Picture,
    TruncatedPictureError,
    canonical_picture,
    compact_canonical_picture,
    decode,
    expand,
)
from fer_lightning.errors import FerError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for news at import
import albumentations

PLAIN = CanonicalSpec(size=64, clahe=False)


def make_picture(height: int, width: int, seed: int = 0) -> Picture:
    """Smooth noise: as in a photograph, neighbours are alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 48), (100, 80), (30, 200), (224, 224), (1, 1)])
def test_equals_cv2_and_albumentations(height: int, width: int) -> None:
    image = make_picture(height, width)
    shrinks = height > 64 and width > 64
    resized = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    assert np.array_equal(canonical_picture(image, None, PLAIN), resized)
    oracle = albumentations.CLAHE(clip_limit=(2.0, 2.0), tile_grid_size=(8, 8), p=1)(image=resized)["image"]
    equalised = canonical_picture(image, None, CanonicalSpec(size=64))
    assert np.array_equal(equalised, oracle)
    assert equalised.shape == (64, 64, 3)
    assert equalised.dtype == np.uint8


def test_clahe_spreads_a_flat_picture_and_keeps_a_grey_one_grey() -> None:
    image = (make_picture(224, 224) // 8 + 100).astype(np.uint8)
    grey = np.repeat(image[..., :1], 3, axis=2)
    spec = CanonicalSpec(size=224)
    assert canonical_picture(image, None, spec).std() > 1.2 * image.std()
    channels = canonical_picture(grey, None, spec).astype(int)
    assert np.ptp(channels, axis=2).max() <= 1


def test_box_is_cropped_before_the_resize() -> None:
    image = make_picture(120, 90)
    cropped = canonical_picture(image, (10, 20, 84, 110), PLAIN)  # top, left, right, bottom
    assert np.array_equal(cropped, cv2.resize(image[10:110, 20:84], (64, 64), interpolation=cv2.INTER_LINEAR))
    assert np.array_equal(canonical_picture(image, (0, 0, 90, 120), PLAIN), canonical_picture(image, None, PLAIN))
    exact = canonical_picture(image, (0, 1, 65, 64), PLAIN)
    assert np.array_equal(exact, image[:64, 1:65])
    assert exact.flags.c_contiguous


@pytest.mark.parametrize(
    "box", [(0, 0, 91, 120), (0, 0, 90, 121), (-1, 0, 90, 120), (0, -1, 90, 120), (5, 5, 5, 9), (9, 5, 9, 9)]
)
def test_box_outside_the_image_is_no_picture(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(
        FerError, match=r"box \(.*\) \(top, left, right, bottom\) is outside an image of 120 x 90 pixels"
    ):
        canonical_picture(make_picture(120, 90), box, PLAIN)


def test_input_is_left_alone() -> None:
    image = make_picture(64, 64)
    before = image.copy()
    canonical_picture(image, None, CanonicalSpec(size=64))
    assert np.array_equal(image, before)


def test_digest_tells_pictures_apart() -> None:
    spec = CanonicalSpec(size=64)
    others = [
        replace(spec, size=96),
        replace(spec, clahe=False),
        replace(spec, clahe_clip_limit=3.0),
        replace(spec, clahe_tiles=4),
    ]
    assert len({spec.digest(), *(other.digest() for other in others)}) == 5
    assert spec.digest() == CanonicalSpec(size=64, clahe_clip_limit=2.0, clahe_tiles=8).digest()
    assert replace(PLAIN, clahe_tiles=4).digest() == PLAIN.digest()  # unused without CLAHE
    assert len(spec.digest()) == 64


def test_decode_gives_rgb(tmp_path: Path) -> None:
    image = make_picture(20, 30)
    path = tmp_path / "é 表.png"
    Image.fromarray(image).save(path)
    assert np.array_equal(decode(path), image)
    grey = tmp_path / "grey.png"
    Image.fromarray(image[..., 0]).save(grey)
    assert np.array_equal(decode(grey), np.repeat(image[..., :1], 3, axis=2))


def test_decode_applies_the_exif_orientation(tmp_path: Path) -> None:
    image = make_picture(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "a.png"), np.rot90(image, -1))


def test_decode_refuses_what_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(FerError, match=r"cannot read .*absent.png: No such file"):
        decode(tmp_path / "absent.png")
    with pytest.raises(FerError, match=r"cannot read .*: Is a directory"):
        decode(tmp_path)
    for content in (b"", b"not a picture"):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(FerError, match=rf"cannot decode .*a.png \({len(content)} bytes\)"):
            decode(tmp_path / "a.png")
    data = cv2.imencode(".jpg", make_picture(64, 64))[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(FerError, match=r"cannot decode .*cut.jpg"):
        decode(tmp_path / "cut.jpg")
    header = bytearray(cv2.imencode(".bmp", make_picture(4, 4))[1].tobytes())
    header[18:26] = np.array([60000, 60000], dtype="<i4").tobytes()  # width and height
    (tmp_path / "huge.bmp").write_bytes(header)
    with pytest.raises(FerError, match=r"cannot decode .*huge.bmp"):
        decode(tmp_path / "huge.bmp")


@pytest.mark.parametrize("size", [24, 96])
def test_grey_stays_grey_and_within_a_level_of_the_way_through_lab(size: int) -> None:
    grey = np.random.default_rng(2).integers(0, 256, (48, 48), dtype=np.uint8)
    spec = CanonicalSpec(size=size)
    picture = canonical_picture(np.repeat(grey[..., None], 3, axis=2), None, spec)
    assert np.array_equal(picture, canonical_picture(grey, None, spec))
    assert np.array_equal(picture[..., 0], picture[..., 1])
    assert np.array_equal(picture[..., 0], picture[..., 2])
    interpolation = cv2.INTER_AREA if size < 48 else cv2.INTER_LINEAR
    square = cv2.resize(np.repeat(grey[..., None], 3, axis=2), (size, size), interpolation=interpolation)
    lab = cv2.cvtColor(square, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(2.0, (8, 8)).apply(np.ascontiguousarray(lab[..., 0]))
    through_lab = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    assert np.array_equal(picture[..., 1], through_lab[..., 1])
    assert np.abs(picture.astype(int) - through_lab).max() <= 1


def test_compact_pictures_have_one_channel_exactly_where_all_are_equal() -> None:
    grey = np.random.default_rng(3).integers(0, 256, (20, 20), dtype=np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=2)
    spec = CanonicalSpec(size=20, clahe=False)
    compact = compact_canonical_picture(picture, None, spec)
    assert compact.shape == (20, 20)
    assert np.array_equal(expand(compact), picture)
    picture[3, 4, 2] ^= 1  # not in the middle row
    assert compact_canonical_picture(picture, None, spec).shape == (20, 20, 3)
    assert compact_canonical_picture(picture, (5, 5, 15, 15), spec).shape == (20, 20)
    target = np.empty((20, 20, 3), dtype=np.uint8)
    assert expand(compact, target) is target or np.shares_memory(expand(compact, target), target)
    assert np.array_equal(expand(picture, target), picture)


def encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, make_picture(64, 64))[1].tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    data = encoded(suffix)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(TruncatedPictureError, match=r"cannot decode .*cut\.\w+ \(\d+ bytes\): it is truncated"):
        decode(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_grey_fill_of_a_lenient_decoder_is_refused(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some builds of OpenCV return a picture whose lower half is grey."""
    data = encoded(suffix)
    (tmp_path / "cut").write_bytes(data[: len(data) * 3 // 4])
    (tmp_path / "whole").write_bytes(data)
    filled = np.full((64, 64, 3), 128, np.uint8)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: filled)
    with pytest.raises(TruncatedPictureError, match="it is truncated"):
        decode(tmp_path / "cut")
    assert np.array_equal(decode(tmp_path / "whole"), filled)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("junk", [b"\0", b"\r\n" * 20, b"\0" * 5000, b"some other program's notes " * 50])
def test_junk_behind_a_whole_picture_is_accepted(tmp_path: Path, suffix: str, junk: bytes) -> None:
    (tmp_path / "plain").write_bytes(encoded(suffix))
    (tmp_path / "junk").write_bytes(encoded(suffix) + junk)
    assert np.array_equal(decode(tmp_path / "junk"), decode(tmp_path / "plain"))


def test_whole_files_are_not_decoded_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("Pillow was asked")

    monkeypatch.setattr(Image, "open", refuse)
    for suffix in (".jpg", ".png", ".bmp", ".webp"):
        (tmp_path / "a").write_bytes(encoded(suffix))
        assert decode(tmp_path / "a").shape == (64, 64, 3)


def test_missing_empty_and_unreadable_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    for name, error in (
        ("absent.png", MissingPictureError),
        ("empty.png/below", MissingPictureError),
        ("nul\0.png", MissingPictureError),
        ("empty.png", EmptyPictureError),
        ("text.png", FerError),
    ):
        with pytest.raises(FerError) as caught:
            decode(tmp_path / name)
        assert type(caught.value) is error


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow's, for a TIFF file whose tags are cut off
@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tiff", ".bmp", ".gif", ".jp2"])
def test_opencv_prints_nothing_about_broken_files(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encoded(suffix)
    for share in (0.02, 0.3, 0.9):
        (tmp_path / "cut").write_bytes(data[: int(share * len(data))])
        with pytest.raises(FerError, match="cannot decode"):
            decode(tmp_path / "cut")
    assert capfd.readouterr() == ("", "")
