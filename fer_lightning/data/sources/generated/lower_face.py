"""Nose and mouth, moved by action units 9, 10, 12, 15, 16, 17, 20, 23, 25 and 26."""

import numpy as np
import numpy.typing as npt

from fer_lightning.data.sources.generated.brush import Brush, Points, ellipse, shaded
from fer_lightning.data.sources.generated.identity import Colour, Identity

Units = dict[int, float]
Curve = npt.NDArray[np.float64]

_WING = np.array([(0.86, -0.17), (1.06, -0.09), (1.08, -0.01), (0.9, 0.045)])
_ACROSS = np.linspace(-1.0, 1.0, 15)
_BOW = 1.0 - _ACROSS**2
_CUPID = 1.0 - 0.28 * np.exp(-((_ACROSS / 0.16) ** 2))


def paint_nose(brush: Brush, who: Identity, units: Units) -> None:
    """Paint nostrils and wings; the bridge is modelled by `relief`."""
    lift = 0.07 * units[9] + 0.03 * units[10]
    bottom = who.nose_length - lift
    flare = 1.0 + 0.22 * units[9] + 0.08 * units[12] + 0.1 * units[10]
    width = who.nose_width * flare
    for side in (-1.0, 1.0):
        nostril = ellipse(side * 0.5 * width, bottom + 0.01, 0.055 * flare, 0.026 + 0.012 * units[9], tilt=-0.25 * side)
        brush.fill(nostril, shaded(who.skin, 0.34), lift=0.1)
        wing = _WING * (side * width, 1.0)
        wing[:, 1] += bottom
        brush.stroke(wing, shaded(who.skin, 0.62 - 0.12 * units[9]), 0.022, lift=0.04)


def paint_mouth(brush: Brush, who: Identity, units: Units, asymmetry: float) -> None:
    """Paint lips, and teeth and tongue where the lips part."""
    x, top, upper, lower, bottom = _lip_curves(who, units, asymmetry)
    lips = _lip_colour(who)
    gap = lower - upper
    if gap.max() > 0.015:
        brush.fill(_between(x, upper, lower), (38.0, 26.0, 60.0))
        _paint_teeth(brush, x, upper, lower, units)
    brush.fill(_between(x, top, upper), shaded(lips, 0.86))
    brush.fill(_between(x, lower, bottom), lips)
    seam = shaded(lips, 0.42)
    brush.stroke(np.stack((x, upper), axis=1), seam, 0.02 + 0.012 * units[23])
    if gap.max() > 0.015:
        brush.stroke(np.stack((x, lower), axis=1), shaded(lips, 0.6), 0.012)


def mouth_corners(who: Identity, units: Units) -> tuple[float, float]:
    """Return x (of the right corner) and y of the mouth corners, in face units."""
    stretched = 0.3 * units[12] + 0.36 * units[20]
    gathered = 0.1 * units[23] + 0.16 * units[26] * (1.0 - units[12]) + 0.06 * units[17]
    width = who.mouth_width * (1.0 + stretched - gathered)
    y = who.mouth_height - 0.2 * units[12] + 0.18 * units[15] + 0.05 * units[20] + 0.07 * units[26]
    return width, y


def _lip_curves(who: Identity, units: Units, asymmetry: float) -> tuple[Curve, Curve, Curve, Curve, Curve]:
    """Return x, then y of the upper lip's top, its bottom, the lower lip's top, its bottom, each (15,)."""
    width, corner = mouth_corners(who, units)
    pull = units[15] - units[12]
    ends = (corner - who.mouth_height) * (1.0 + asymmetry * _ACROSS)
    x = width * _ACROSS
    # Corners move with `ends`; the middle of the lips stays, so a smile curves up and a frown down.
    base = who.mouth_height + ends * np.abs(_ACROSS) ** (1.9 - 0.4 * abs(pull))
    middle_up = 0.1 * units[10] + 0.05 * units[9] + 0.05 * units[17] + 0.02 * units[12] * units[25]
    base = base - middle_up * _BOW * (0.55 + 0.45 * units[17])
    part = 0.085 * units[25] + 0.05 * units[10] * units[25] + 0.38 * units[26]
    snarl = 0.04 * units[10] * units[25] * (1.0 - 0.7 * np.exp(-((_ACROSS / 0.35) ** 2)))
    upper = base - (0.28 * part + snarl) * _BOW**0.8
    lower = base + (0.72 * part + 0.07 * units[16] * units[25]) * _BOW**0.7
    thin = 1.0 - 0.6 * units[23] - 0.2 * units[12] - 0.22 * units[20] + 0.12 * units[17]
    thickness = who.lip_thickness * thin * (1.0 - 0.2 * units[26])
    top = upper - thickness * 0.85 * _CUPID * _BOW**0.6
    bottom = lower + thickness * (1.15 + 0.25 * units[16] + 0.25 * units[17]) * _BOW**0.6
    return x, top, upper, lower, bottom


def _paint_teeth(brush: Brush, x: Curve, upper: Curve, lower: Curve, units: Units) -> None:
    inside = slice(1, -1)
    show = 0.08 + 0.03 * units[12] + 0.04 * units[10]
    edge = np.minimum(upper + show * _BOW**0.5, lower)
    brush.fill(_between(x[inside], upper[inside], edge[inside]), (206.0, 218.0, 224.0))
    bared = max(units[16], 0.6 * units[20])
    if bared > 0.15:
        edge = np.maximum(lower - 0.075 * bared * _BOW**0.5, upper)
        brush.fill(_between(x[inside], edge[inside], lower[inside]), (190.0, 204.0, 212.0))
    elif units[26] > 0.3:
        tongue = np.maximum(lower - 0.11 * _BOW, upper)
        brush.fill(_between(x[3:-3], tongue[3:-3], lower[3:-3]), (84.0, 78.0, 150.0))


def _between(x: Curve, above: Curve, below: Curve) -> Points:
    return np.concatenate((np.stack((x, above), axis=1), np.stack((x, below), axis=1)[::-1]))


def _lip_colour(who: Identity) -> Colour:
    blue, green, red = who.skin
    rouge = 0.12 * who.makeup
    return (blue * (0.72 - rouge), green * (0.64 - 1.5 * rouge), red * 0.86)
