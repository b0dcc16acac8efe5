"""Draws one face onto a canvas, layer by layer from back to front."""

from dataclasses import dataclass

from fer_lightning.data.sources.generated.action_units import Expression
from fer_lightning.data.sources.generated.brush import Brush, Image, Placement
from fer_lightning.data.sources.generated.conditions import Capture, cover
from fer_lightning.data.sources.generated.head import paint_back, paint_front_hair, paint_skin
from fer_lightning.data.sources.generated.identity import Identity
from fer_lightning.data.sources.generated.lower_face import paint_mouth, paint_nose
from fer_lightning.data.sources.generated.relief import light_skin
from fer_lightning.data.sources.generated.upper_face import Gaze, paint_brow, paint_eye, paint_glasses


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """One person showing one expression."""

    who: Identity
    expression: Expression
    gaze: Gaze


def draw_face(canvas: Image, sitting: Sitting, placement: Placement, capture: Capture) -> None:
    """Draw a head with shoulders onto the canvas, in place.

    Args:
        canvas: (H, W, 3) uint8, blue first, with the background already painted.
        sitting: who shows what.
        placement: where on the canvas, how large, and the pose.
        capture: light and occlusion; exposure, blur and noise are left to `conditions.develop`.
    """
    who, units = sitting.who, sitting.expression.units
    brush = Brush(canvas, placement)
    paint_back(brush, who)
    paint_skin(brush, who, units[26])
    light_skin(brush, who, units, capture.light)
    for side in (-1.0, 1.0):
        half = _half(units, 1.0 + side * sitting.expression.asymmetry)
        paint_eye(brush, who, half, side, sitting.gaze)
        paint_brow(brush, who, half, side)
    paint_nose(brush, who, units)
    paint_mouth(brush, who, units, sitting.expression.asymmetry)
    paint_front_hair(brush, who)
    paint_glasses(brush, who)
    cover(brush, who, capture)


def _half(units: dict[int, float], factor: float) -> dict[int, float]:
    return {unit: min(1.0, strength * factor) for unit, strength in units.items()}
