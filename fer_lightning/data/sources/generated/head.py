"""Everything around the features: shoulders, neck, ears, the outline of the face and hair."""

import numpy as np

from fer_lightning.data.sources.generated.brush import Brush, Points, ellipse, shaded
from fer_lightning.data.sources.generated.identity import Identity

_TURN = np.linspace(0.0, 2.0 * np.pi, 44, endpoint=False)
_CROWN = 1.25  # from the eyes to the top of the skull


def outline(who: Identity, jaw_drop: float) -> Points:
    """Return (44, 2) points of the face outline; an open jaw (`jaw_drop`, 0..1) lengthens it."""
    cos, sin = np.cos(_TURN), np.sin(_TURN)
    squareness = 1.02 - 0.4 * (who.jaw_width - 0.62) / 0.26
    bend = np.where(sin > 0.0, squareness, 0.85)
    x = who.face_width * np.sign(cos) * np.abs(cos) ** bend
    y = np.where(sin > 0.0, (who.chin_length + 0.14 * jaw_drop) * sin, _CROWN * sin)
    return np.stack((x, y), axis=1)


def paint_back(brush: Brush, who: Identity) -> None:
    """Paint what lies behind the face: hair, shoulders, neck and ears."""
    if who.hair_style == "long":
        brush.fill(ellipse(0.0, 0.15, 1.32 * who.face_width, 1.75), shaded(who.hair, 0.75), flat=True)
    elif who.hair_style in ("bob", "fringe"):
        brush.fill(ellipse(0.0, -0.15, 1.3 * who.face_width, 1.4), shaded(who.hair, 0.75), flat=True)
    elif who.hair_style != "bald":
        brush.fill(ellipse(0.0, -0.42, 1.1 * who.face_width, 1.06), shaded(who.hair, 0.8), flat=True)
    brush.fill(ellipse(0.0, 3.05, 2.1, 1.4), who.clothes, flat=True)
    brush.fill(np.array([(-2.1, 3.05), (2.1, 3.05), (2.1, 9.0), (-2.1, 9.0)]), who.clothes, flat=True)
    neck = np.array([(-0.55, 0.7), (0.55, 0.7), (0.6, 1.75), (0.25, 1.95), (-0.25, 1.95), (-0.6, 1.75)])
    brush.fill(neck, shaded(who.skin, 0.72), flat=True)
    for side in (-1.0, 1.0):
        brush.fill(ellipse(side * who.face_width, 0.14, 0.13, 0.25), shaded(who.skin, 0.85), flat=True)


def paint_skin(brush: Brush, who: Identity, jaw_drop: float) -> None:
    """Fill the face outline with bare skin."""
    brush.fill(outline(who, jaw_drop), who.skin, flat=True)


def paint_front_hair(brush: Brush, who: Identity) -> None:
    """Paint the hair that covers the forehead and temples."""
    if who.hair_style == "bald":
        return
    width = who.face_width
    turn = np.linspace(np.pi, 2.0 * np.pi, 18)
    reach = {"crop": 1.04, "short": 1.08, "long": 1.12, "bob": 1.1, "fringe": 1.1}[who.hair_style]
    top = np.stack((reach * width * np.cos(turn), -0.15 + 1.3 * reach * np.sin(turn)), axis=1)
    across = np.linspace(1.0, -1.0, 13)
    if who.hair_style == "fringe":
        line = -0.52 + 0.1 * np.abs(across) + 0.035 * np.cos(11.0 * across + 6.0 * who.parting)
    elif who.hair_style in ("long", "bob"):
        line = who.hairline + 0.75 * np.abs(across - 0.6 * who.parting) ** 1.8
    else:
        line = who.hairline + 0.5 * across**4 + 0.06 * np.cos(5.0 * across + 4.0 * who.parting)
    under = np.stack((0.99 * width * across, np.minimum(line, -0.1)), axis=1)
    brush.fill(np.concatenate((top, under)), who.hair, flat=True)
    _paint_strands(brush, who)
    shine = np.stack((0.55 * width * np.cos(turn[5:14]), -0.42 + 0.78 * np.sin(turn[5:14])), axis=1)
    shine[:, 0] += 0.15 * who.parting
    brush.stroke(shine, shaded(who.hair, 1.14), 0.06, flat=True)
    if who.hair_style in ("long", "bob"):
        length = 1.25 if who.hair_style == "long" else 0.75
        for side in (-1.0, 1.0):
            lock = np.array([(1.1, -0.4), (0.9, -0.42), (0.93, 0.2), (0.86, length), (1.14, length + 0.1), (1.24, 0.3)])
            brush.fill(lock * (side * width, 1.0), shaded(who.hair, 0.9), flat=True)


def _paint_strands(brush: Brush, who: Identity) -> None:
    """Paint a few darker strands from the parting to the temples."""
    if brush.placement.scale < 20:  # would only blur into one tone
        return
    for reach in (-0.85, -0.55, -0.25, 0.25, 0.55, 0.85):
        middle = 0.55 * reach + 0.3 * who.parting
        end = (reach, -0.95 + 0.3 * reach**2)
        strand = np.array([(0.35 * who.parting, -1.3), (middle, -1.2 + 0.12 * abs(reach)), end])
        brush.stroke(strand * (who.face_width, 1.0), shaded(who.hair, 0.82), 0.02, flat=True)
