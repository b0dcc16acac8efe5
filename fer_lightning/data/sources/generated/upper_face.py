"""Brows, eyes and glasses, moved by action units 1, 2, 4, 5, 6, 7 and 9."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer_lightning.data.sources.generated.brush import Brush, Points, ellipse, shaded
from fer_lightning.data.sources.generated.identity import Colour, Identity

Units = dict[int, float]

_ALONG = np.linspace(-1.0, 1.0, 11)  # inner corner of the eye to the outer corner
_BROW = np.linspace(0.0, 1.0, 8)  # inner end of the brow to the outer end
_SCLERA = (226.0, 230.0, 234.0)


@dataclass(frozen=True, kw_only=True)
class Gaze:
    """Where the eyes look, in half eye widths, and how far they are closed by a blink, 0..1."""

    right: float
    down: float
    blink: float


def paint_eye(brush: Brush, who: Identity, units: Units, side: float, gaze: Gaze) -> None:
    """Paint one eye; `side` is -1 for the left of the picture and +1 for the right."""
    x, upper, lower = _lids(who, units, side, gaze)
    iris_x = side * who.eye_spacing + gaze.right * 0.5 * who.eye_width
    iris_y = 0.22 * gaze.down * who.eye_height - 0.005
    lid_light = shaded(who.skin, 0.8 - 0.25 * who.makeup)
    lid = np.concatenate((np.stack((x, upper - 0.055), axis=1), np.stack((x, lower), axis=1)[::-1]))
    brush.fill(lid, lid_light)
    opening = np.concatenate((np.stack((x, upper), axis=1), np.stack((x, lower), axis=1)[::-1]))
    brush.fill(opening, shaded(_SCLERA, 0.97))
    for radius, colour in ((0.098, who.iris), (0.045, (12.0, 10.0, 10.0))):
        brush.fill(_within(ellipse(iris_x, iris_y, radius, radius), x, upper, lower), colour)
    if brush.placement.scale > 25:
        glint = ellipse(iris_x - 0.03, iris_y - 0.035, 0.02, 0.02)
        brush.fill(_within(glint, x, upper, lower), (250.0, 250.0, 250.0))
    lash = shaded(who.skin, 0.28 - 0.12 * who.makeup)
    brush.stroke(np.stack((x, upper), axis=1), lash, 0.03 + 0.02 * who.makeup)
    brush.stroke(np.stack((x, lower), axis=1), shaded(who.skin, 0.6), 0.012)
    crease = np.stack((x, upper - 0.06 - 0.03 * units[5] + 0.03 * units[4]), axis=1)
    brush.stroke(crease[2:], shaded(who.skin, 0.66), 0.015)


def paint_brow(brush: Brush, who: Identity, units: Units, side: float) -> None:
    """Paint one brow as a tapered band."""
    inner = 0.17 - 0.05 * units[4] - 0.02 * units[9]
    x = inner + (0.68 + 0.35 * (who.eye_spacing - 0.42) - inner) * _BROW
    arch = who.brow_arch * np.sin(np.pi * _BROW**1.4)
    outwards = np.sin(0.5 * np.pi * np.minimum(1.0, 1.4 * _BROW))
    raised = units[1] * 0.21 * (1.0 - _BROW) ** 1.3 + units[2] * 0.2 * outwards
    lowered = units[4] * (0.06 + 0.14 * (1.0 - _BROW) ** 1.5) + units[9] * 0.07 * (1.0 - _BROW)
    # Brows pulled together and up at once (1 + 4) keep their raised inner ends: the oblique brow of grief and fear.
    lowered = lowered * (1.0 - 0.75 * units[1])
    y = -who.brow_height - arch - raised + lowered + 0.06 * _BROW
    half = 0.5 * who.brow_thickness * (1.0 - 0.75 * _BROW**2)
    band = np.concatenate((np.stack((x, y - half), axis=1), np.stack((x, y + half), axis=1)[::-1]))
    brush.fill(band * (side, 1.0), _brow_colour(who))


def paint_glasses(brush: Brush, who: Identity) -> None:
    """Paint the glasses the person wears, if any."""
    if who.glasses == "none":
        return
    width = {"thin": 0.02, "thick": 0.06, "dark": 0.04}[who.glasses]
    frame: Colour = (40.0, 36.0, 34.0)
    for side in (-1.0, 1.0):
        lens = ellipse(side * (who.eye_spacing + 0.01), 0.03, 0.33, 0.23)
        if who.glasses == "dark":
            brush.fill(lens, (46.0, 40.0, 38.0), lift=0.1)
        brush.stroke(np.concatenate((lens, lens[:1])), frame, width, lift=0.1)
        arm = np.array([(side * (who.eye_spacing + 0.34), 0.0), (side * who.face_width, -0.04)])
        brush.stroke(arm, frame, width)
    gap = who.eye_spacing - 0.32
    brush.stroke(np.array([(-gap, 0.0), (0.0, -0.05), (gap, 0.0)]), frame, width, lift=0.1)


def _lids(
    who: Identity, units: Units, side: float, gaze: Gaze
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the x of the lids and the y of the upper and of the lower one, each (11,)."""
    x = side * (who.eye_spacing + who.eye_width * _ALONG)
    tilt = -who.eye_tilt * _ALONG - 0.02 * _ALONG * (1.0 - units[1])
    bow = (1.0 - _ALONG**2) ** 0.75
    narrowed = 0.34 * units[7] + 0.25 * units[6] + 0.25 * units[4] * (1.0 - units[5]) + 0.25 * units[9]
    open_above = 1.0 + 0.75 * units[5] - narrowed
    above = who.eye_height * max(0.12, open_above) * (1.0 - gaze.blink)
    below = who.eye_height * (0.68 + 0.15 * units[5] - 0.4 * units[6] - 0.38 * units[7] - 0.25 * units[9])
    # A sad upper lid hangs on the outside, following the raised inner brow.
    hang = 0.02 * units[15] * units[1] * _ALONG
    return x, tilt + hang - above * bow, tilt + below * bow


def _within(
    points: Points, x: npt.NDArray[np.float64], upper: npt.NDArray[np.float64], lower: npt.NDArray[np.float64]
) -> Points:
    """Cut points to the eye opening."""
    order = slice(None) if x[0] < x[-1] else slice(None, None, -1)
    top = np.interp(points[:, 0], x[order], upper[order])
    bottom = np.interp(points[:, 0], x[order], lower[order])
    return np.stack((points[:, 0], np.minimum(np.maximum(points[:, 1], top), np.maximum(top, bottom))), axis=1)


def _brow_colour(who: Identity) -> Colour:
    """Brows are a little darker than the hair and never paler than the skin."""
    blue, green, red = (min(0.75 * hair, 0.48 * skin) for hair, skin in zip(who.hair, who.skin, strict=True))
    return (blue, green, red)
