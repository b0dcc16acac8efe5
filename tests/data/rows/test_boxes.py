"""Boxes inside their images, from headers, as the decoder sees them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fer_lightning.data.pictures.canonical import decode
from fer_lightning.data.rows.boxes import boxes_outside_images
from tests.data.conftest import Row, Workshop, make_box, make_row

HEIGHT, WIDTH = 40, 60


def judge(workshop: Workshop, *rows: Row) -> list[str]:
    return [str(fault) for fault in boxes_outside_images(workshop.read(rows), np.arange(len(rows)))]


def write_turned(path: Path, orientation: int) -> None:
    """A picture of 40 x 60 pixels as stored, with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (WIDTH, HEIGHT)).save(path, exif=exif)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_box_may_fill_its_image_and_not_exceed_it(workshop: Workshop, suffix: str) -> None:
    name = f"a{suffix}"
    workshop.draw(name, height=HEIGHT, width=WIDTH)
    assert (
        judge(workshop, make_row(name, **make_box(0, 0, WIDTH, HEIGHT)), make_row(name, **make_box(5, 5, 6, 6))) == []
    )
    reason = "box is outside its image of 40 x 60 pixels (height x width)"
    assert judge(
        workshop,
        make_row(name, **make_box(0, 0, WIDTH + 1, HEIGHT)),
        make_row(name, **make_box(0, 1, WIDTH, HEIGHT + 1)),
    ) == [f"line 2: {reason} (bbox='0,0,61,40')", f"line 3: {reason} (bbox='0,1,60,41')"]


def test_box_of_the_original_photo_on_a_crop_is_found(workshop: Workshop) -> None:
    workshop.draw("expw_hq/crop.png", height=100, width=100)
    (fault,) = judge(workshop, make_row("expw_hq/crop.png", source="expw_hq", **make_box(120, 300, 420, 240)))
    assert "box is outside its image of 100 x 100 pixels" in fault


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_image_is_measured_as_it_is_decoded(workshop: Workshop, suffix: str, orientation: int) -> None:
    path = workshop.root / f"turned{suffix}"
    write_turned(path, orientation)
    height, width = decode(path).shape[:2]
    assert (height, width) == ((WIDTH, HEIGHT) if orientation > 4 else (HEIGHT, WIDTH))
    rows = [
        make_row(path.name, **make_box(0, 0, *box)) for box in ((width, height), (width, height - 1), (height, width))
    ]
    reason = f"box is outside its image of {height} x {width} pixels (height x width)"
    assert judge(workshop, *rows) == [f"line 4: {reason} (bbox='0,0,{height},{width}')"]


def test_orientation_that_the_decoder_passes_over(workshop: Workshop) -> None:
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.new("RGB", (WIDTH, HEIGHT)).save("xmp.jpg", xmp=packet)
    assert decode(Path("xmp.jpg")).shape == (HEIGHT, WIDTH, 3)
    assert judge(workshop, make_row("xmp.jpg", **make_box(0, 0, WIDTH, HEIGHT))) == []


def test_unreadable_image(workshop: Workshop) -> None:
    Path("empty.png").touch()
    Path("text.jpg").write_text("not a picture")
    boxed = make_box(0, 0, 5, 5)
    faults = judge(workshop, *(make_row(name, **boxed) for name in ("empty.png", "text.jpg", "absent.png")))
    assert faults == [
        "line 2: not a readable image (image_path='empty.png')",
        "line 3: not a readable image (image_path='text.jpg')",
        "line 4: not a readable image (image_path='absent.png')",
    ]


def test_header_that_claims_too_many_pixels(workshop: Workshop) -> None:
    data = bytearray(cv2.imencode(".bmp", np.zeros((4, 4, 3), dtype=np.uint8))[1].tobytes())
    data[18:26] = np.array([60000, 60000], dtype="<i4").tobytes()  # width and height of the header
    Path("huge.bmp").write_bytes(data)
    assert judge(workshop, make_row("huge.bmp", **make_box(0, 0, 5, 5))) == [
        "line 2: not a readable image (image_path='huge.bmp')"
    ]


def test_only_the_rows_asked_for_and_only_boxed_ones(workshop: Workshop) -> None:
    boxed = make_box(0, 0, 5, 5)
    manifest = workshop.read([make_row("a.png", **boxed), make_row("b.png"), make_row("c.png", **boxed)])
    assert boxes_outside_images(manifest, np.array([1])) == []
    assert [fault.line for fault in boxes_outside_images(manifest, np.array([1, 2]))] == [4]
