"""Turns one planned picture into the bytes of its file."""

import cv2
import numpy as np

from fer_lightning.data.sources.generated.brush import Image
from fer_lightning.data.sources.generated.conditions import Capture, develop, draw_capture
from fer_lightning.data.sources.generated.face import Sitting, draw_face
from fer_lightning.data.sources.generated.identity import draw_identity
from fer_lightning.data.sources.generated.plan import PlannedFace, PlannedPicture
from fer_lightning.data.sources.generated.sources import TRAITS, Traits
from fer_lightning.data.sources.generated.spec import GeneratedSetSpec
from fer_lightning.data.sources.generated.streams import Stream, generator
from fer_lightning.data.sources.generated.upper_face import Gaze


def render(picture: PlannedPicture, spec: GeneratedSetSpec) -> bytes:
    """Draw a picture and encode it.

    Args:
        picture: what to draw.
        spec: seed and difficulty.

    Returns:
        Contents of the file, PNG or JPEG after the source's traits.
    """
    traits = TRAITS[picture.source]
    rng = generator(spec.seed, Stream.PICTURE_DRAWING, picture.index)
    capture = _draw_capture(rng, spec)
    factor = traits.supersampling
    canvas = _background(rng, round(traits.height * factor), round(traits.width * factor))
    # Higher heads first: who stands lower stands in front, and no shoulder covers another face.
    for face in sorted(picture.faces, key=lambda face: face.placement.centre_y):
        own = capture if len(picture.faces) == 1 else _same_light(capture, _draw_capture(rng, spec))
        _draw_planned(canvas, face, own, rng, factor=factor, seed=spec.seed)
    if factor != 1.0:
        size = (traits.width, traits.height)
        canvas = np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if traits.grey:
        canvas = np.asarray(cv2.cvtColor(canvas, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
    head_width = 2.0 * min(face.placement.scale for face in picture.faces)
    return _encoded(develop(canvas, capture, rng, head_width=head_width), traits, rng)


def _draw_planned(
    canvas: Image, face: PlannedFace, capture: Capture, rng: np.random.Generator, *, factor: float, seed: int
) -> None:
    """Draw a face on the part of the canvas it can reach."""
    width = canvas.shape[1]
    place = face.placement.resized(factor)
    left = max(0, int(place.centre_x - 2.4 * place.scale))
    right = min(width, int(place.centre_x + 2.4 * place.scale) + 1)
    top = max(0, int(place.centre_y - 2.2 * place.scale))
    sitting = Sitting(
        who=draw_identity(generator(seed, Stream.SUBJECT, face.subject)),
        expression=face.expression,
        gaze=Gaze(
            right=float(np.clip(rng.normal(0.0, 0.25), -0.7, 0.7)),
            down=float(np.clip(rng.normal(0.0, 0.4), -1.0, 1.0)),
            blink=float(rng.uniform(0.3, 0.9)) if rng.random() < 0.03 else 0.0,
        ),
    )
    draw_face(canvas[top:, left:right], sitting, place.resized(1.0, left=left, top=top), capture)


def _draw_capture(rng: np.random.Generator, spec: GeneratedSetSpec) -> Capture:
    return draw_capture(rng, occlusion_share=spec.occlusion_share, degradation=spec.degradation)


def _same_light(shared: Capture, own: Capture) -> Capture:
    """People of one photo stand in one light; what covers them is their own."""
    return Capture(
        light=shared.light,
        exposure=shared.exposure,
        contrast=shared.contrast,
        cast=shared.cast,
        blur=shared.blur,
        noise=shared.noise,
        occluder="hand" if own.occluder == "corner" else own.occluder,  # a wall would hide the neighbours
        occluder_at=own.occluder_at,
    )


def _background(rng: np.random.Generator, height: int, width: int) -> Image:
    """Return a soft mottled background around one colour."""
    # Walls and gardens: mostly grey with a tint, brighter and darker in places.
    colour = rng.uniform(50, 205) + rng.normal(0.0, 20.0, 3)
    light, tint = rng.normal(0.0, 18.0, (4, 5, 1)), rng.normal(0.0, 5.0, (4, 5, 3))
    patches = np.clip(colour + light + tint, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(patches, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _encoded(picture: Image, traits: Traits, rng: np.random.Generator) -> bytes:
    options = []
    if traits.extension == ".jpg":
        low, high = traits.jpeg_quality
        options = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(low, high + 1))]
    return encode(picture, traits.extension, options)


def encode(picture: Image, extension: str, options: list[int]) -> bytes:
    """Return the bytes of an image file.

    Raises:
        OSError: OpenCV could not encode it.
    """
    done, data = cv2.imencode(extension, picture, options)
    if not done:
        raise OSError(f"OpenCV could not encode a {picture.shape} picture as {extension}")
    return bytes(data.tobytes())
