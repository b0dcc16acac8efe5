"""How the picture was taken: light, things in front of the face, and what the camera lost."""

from dataclasses import dataclass

import cv2
import numpy as np

from fer_lightning.data.sources.generated.brush import Brush, Image, ellipse, shaded
from fer_lightning.data.sources.generated.identity import Identity


@dataclass(frozen=True, kw_only=True)
class Capture:
    """One picture's circumstances.

    Attributes:
        light: direction to the light (right, down, towards the camera), length 1.
        exposure: factor on all values.
        contrast: factor around mid-grey.
        cast: factors on blue, green, red.
        blur: Gaussian sigma as a share of the width of a head.
        noise: standard deviation of the sensor noise, 0..255.
        occluder: `none`, `hand`, `bar` or `corner`.
        occluder_at: position parameters of the occluder, each 0..1.
    """

    light: tuple[float, float, float]
    exposure: float
    contrast: float
    cast: tuple[float, float, float]
    blur: float
    noise: float
    occluder: str
    occluder_at: tuple[float, float]


def draw_capture(rng: np.random.Generator, *, occlusion_share: float, degradation: float) -> Capture:
    """Draw circumstances.

    Args:
        rng: generator of this picture.
        occlusion_share: probability that something covers a part of the face.
        degradation: factor on the spread of light, blur and noise; 0 gives clean pictures.
    """
    spread = degradation
    right, down = rng.normal(0.0, 0.3 * spread), rng.normal(-0.25, 0.2 * spread)
    length = float(np.sqrt(right**2 + down**2 + 0.8))
    blue, red = rng.normal(1.0, 0.05 * spread, 2)
    occluded = rng.random() < occlusion_share
    return Capture(
        light=(float(right) / length, float(down) / length, float(np.sqrt(0.8)) / length),
        exposure=float(np.exp(rng.normal(0.0, 0.11 * spread))),
        contrast=float(np.exp(rng.normal(0.0, 0.1 * spread))),
        cast=(float(blue), 1.0, float(red)),
        blur=min(0.02, float(rng.exponential(0.006))) * spread,
        noise=min(10.0, float(rng.exponential(2.5))) * spread,
        occluder=("hand", "bar", "corner")[int(rng.integers(3))] if occluded else "none",
        occluder_at=(float(rng.random()), float(rng.random())),
    )


def cover(brush: Brush, who: Identity, capture: Capture) -> None:
    """Paint what stands in front of the face, if anything."""
    first, second = capture.occluder_at
    side = -1.0 if first < 0.5 else 1.0
    if capture.occluder == "hand":
        skin = shaded(who.skin, 0.9)
        x, y = side * (0.55 + 0.3 * second), 0.75 + 0.4 * second
        brush.fill(ellipse(x + 0.25 * side, y + 0.55, 0.34, 0.5), skin, flat=True)
        for finger in range(4):
            tip = ellipse(x + side * (0.16 * finger - 0.12), y + 0.05 * finger, 0.085, 0.34, tilt=0.25 * side)
            brush.fill(tip, shaded(skin, 0.94 + 0.03 * finger), flat=True)
    elif capture.occluder == "bar":
        y = (-0.75, 0.95)[int(second < 0.5)] + 0.3 * (first - 0.5)
        band = np.array([(-2.5, y - 0.16), (2.5, y - 0.1), (2.5, y + 0.2), (-2.5, y + 0.14)])
        brush.fill(band, (60.0 + 120.0 * first, 90.0, 60.0 + 120.0 * second), flat=True)
    elif capture.occluder == "corner":
        x = side * (0.5 + 0.35 * second)
        shape = np.array([(x, -2.5), (x + side * 0.15, 2.8), (side * 3.0, 2.8), (side * 3.0, -2.5)])
        brush.fill(shape, (110.0 * second, 60.0, 90.0 * first), flat=True)


def develop(picture: Image, capture: Capture, rng: np.random.Generator, *, head_width: float) -> Image:
    """Apply exposure, colour cast, blur and noise.

    Args:
        picture: (H, W, 3) or (H, W) uint8.
        capture: circumstances.
        rng: generator of this picture, for the noise.
        head_width: pixels, for the blur.

    Returns:
        The picture as the camera stored it, same shape.
    """
    steps = np.arange(256, dtype=np.float64)
    tones = (steps - 118.0) * capture.contrast + 118.0
    casts = capture.cast if picture.ndim == 3 else (1.0,)
    table = np.stack([np.clip(tones * capture.exposure * cast, 0, 255) for cast in casts], axis=-1)
    lut = np.rint(table).astype(np.uint8)
    result = np.asarray(cv2.LUT(picture, lut[None] if picture.ndim == 3 else lut[:, 0]), dtype=np.uint8)
    sigma = capture.blur * head_width
    if sigma > 0.25:
        result = np.asarray(cv2.GaussianBlur(result, (0, 0), sigma), dtype=np.uint8)
    if capture.noise > 0.5:
        result = _with_noise(result, capture.noise, rng)
    return result


def _with_noise(picture: Image, noise: float, rng: np.random.Generator) -> Image:
    """Add grain: the same on all channels, from triangular integer noise (cheaper than Gaussian)."""
    size = picture.shape[0] * picture.shape[1]
    raw = np.frombuffer(rng.bytes(2 * size), dtype=np.uint8).reshape(2, picture.shape[0], picture.shape[1])
    # The sum of two uniform bytes has a standard deviation of 104.5.
    grain = (raw[0].astype(np.float32) + raw[1] - 255.0) * np.float32(noise / 104.5)
    if picture.ndim == 3:
        grain = np.asarray(cv2.merge([grain, grain, grain]), dtype=np.float32)
    return np.asarray(cv2.add(picture, grain, dtype=cv2.CV_8U), dtype=np.uint8)
