"""Light and shadow on the skin: the round head, cheeks, folds and wrinkles of the action units."""

import cv2
import numpy as np

from fer_lightning.data.sources.generated.brush import Brush, Image, Placement, ellipse
from fer_lightning.data.sources.generated.head import outline
from fer_lightning.data.sources.generated.identity import Identity
from fer_lightning.data.sources.generated.lower_face import Units, mouth_corners

FLAT = 128  # layer value that leaves the skin as it is
_COARSE = 48  # side of the layer for soft shapes, pixels
_LINE = np.linspace(-1.0, 1.0, 9)


def light_skin(brush: Brush, who: Identity, units: Units, light: tuple[float, float, float]) -> None:
    """Shade the face on the brush's canvas.

    Args:
        brush: canvas with the bare skin painted.
        who: person.
        units: action units.
        light: direction to the light (right, down, towards the camera), length 1.
    """
    height, width = brush.canvas.shape[:2]
    factor = _COARSE / max(height, width)
    place = brush.placement.resized(factor)
    coarse = _round_head((round(height * factor), round(width * factor)), place, light)
    _soft_shapes(brush.over(coarse, place), who, units)
    coarse = np.asarray(cv2.GaussianBlur(coarse, (0, 0), max(0.6, 0.06 * place.scale)), dtype=np.uint8)
    relief = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    fine = np.full((height, width), FLAT, dtype=np.uint8)
    _folds(brush.over(fine), who, units)
    sigma = 0.02 * brush.placement.scale
    if sigma > 0.4:
        fine = np.asarray(cv2.GaussianBlur(fine, (0, 0), sigma), dtype=np.uint8)
    relief = np.asarray(cv2.multiply(relief, fine, scale=1.0 / FLAT), dtype=np.uint8)
    skin = np.zeros((height, width), dtype=np.uint8)
    brush.over(skin).fill(outline(who, units[26]), 255.0, flat=True)
    lit = cv2.multiply(brush.canvas, cv2.cvtColor(relief, cv2.COLOR_GRAY2BGR), scale=1.0 / FLAT)
    cv2.copyTo(lit, skin, brush.canvas)


def _round_head(shape: tuple[int, int], place: Placement, light: tuple[float, float, float]) -> Image:
    """Return the shading of an egg lit from `light`; a layer around `FLAT`."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    right, down = (x - place.centre_x) / place.scale, (y - place.centre_y) / place.scale
    cos, sin = np.cos(place.roll), np.sin(place.roll)
    normal_x = (right * cos + down * sin) / 1.12
    normal_y = (down * cos - right * sin - 0.05) / 1.5
    normal_z = np.sqrt(np.maximum(1.0 - normal_x**2 - normal_y**2, 0.0))
    facing = normal_x * light[0] + normal_y * light[1] + normal_z * light[2]
    return np.asarray(np.clip(FLAT * (0.5 + 0.62 * np.maximum(facing, 0.0)), 0, 255), dtype=np.uint8)


def _soft_shapes(brush: Brush, who: Identity, units: Units) -> None:
    """Eye sockets, cheeks, the sides of the nose and the shadow under the lip, on the coarse layer."""
    level = brush.canvas.astype(np.int16)
    change = np.full(brush.canvas.shape, FLAT, dtype=np.uint8)
    layer = brush.over(change)
    corner_x, corner_y = mouth_corners(who, units)
    bulge = max(units[6], 0.7 * units[12])
    for side in (-1.0, 1.0):
        layer.fill(ellipse(side * who.eye_spacing, -0.08, 0.27, 0.17), FLAT - 16.0 - 10.0 * units[4])
        layer.fill(ellipse(side * 0.58, 0.42 - 0.06 * bulge, 0.24, 0.17), FLAT + 8.0 + 16.0 * bulge)
        layer.fill(ellipse(side * 0.17, 0.22, 0.06, 0.26), FLAT - 16.0)
        if units[9] + units[10] > 0.2:
            depth = 26.0 * min(1.0, units[9] + 0.4 * units[10])
            layer.fill(ellipse(side * 0.32, 0.4, 0.07, 0.2, tilt=-0.5 * side), FLAT - depth)
        pinch = 14.0 + 16.0 * max(units[12], units[15])
        layer.fill(ellipse(side * (corner_x + 0.06), corner_y, 0.06, 0.07), FLAT - pinch)
    layer.fill(ellipse(0.0, 0.18, 0.07, 0.3), FLAT + 16.0)
    layer.fill(ellipse(0.0, who.nose_length - 0.1, 0.11, 0.09), FLAT + 20.0)
    layer.fill(ellipse(0.0, corner_y + 0.22 + 0.2 * units[26], 0.18, 0.05), FLAT - 22.0 - 12.0 * units[17])
    if who.beard > 0.0:
        layer.fill(ellipse(0.0, 1.0 + 0.1 * units[26], 0.72 * who.face_width, 0.38), FLAT - 44.0 * who.beard)
        layer.fill(ellipse(0.0, 0.65, 0.36, 0.06), FLAT - 44.0 * who.beard)
    np.copyto(brush.canvas, np.clip(level + change - FLAT, 0, 255).astype(np.uint8))


def _folds(brush: Brush, who: Identity, units: Units) -> None:
    """Lines of the skin, on the fine layer; depth grows with the action unit and with age."""
    worn = 0.6 + 0.6 * who.age
    for side in (-1.0, 1.0):
        _eye_folds(brush, who, units, side, worn)
        _mouth_folds(brush, who, units, side, worn)
    raised = 0.5 * (units[1] + units[2]) * (0.75 if units[4] < 0.3 else 0.9)
    half = 0.55 if units[2] > 0.4 else 0.3  # the inner brow alone wrinkles only the middle of the forehead
    for level in (-0.78, -0.67, -0.56):
        line = np.stack((half * _LINE, level - 0.03 * np.cos(2.0 * _LINE)), axis=1)
        brush.stroke(line, FLAT - 50.0 * max(0.0, raised - 0.15) * worn, 0.02)
    if units[9] > 0.1:
        for level in (-0.08, 0.01, 0.1):
            line = np.stack((0.12 * _LINE, level + 0.03 * (1.0 - _LINE**2)), axis=1)
            brush.stroke(line, FLAT - 76.0 * units[9], 0.024)
    if units[17] > 0.2:
        brush.fill(ellipse(0.0, mouth_corners(who, units)[1] + 0.34, 0.1, 0.05), FLAT - 30.0 * units[17])


def _eye_folds(brush: Brush, who: Identity, units: Units, side: float, worn: float) -> None:
    """Frown line, bag under the eye, crow's feet, and the scrunch beside the nose, on one side."""
    bag = np.stack((who.eye_spacing + 0.2 * _LINE, 0.11 + 0.05 * (1.0 - _LINE**2) - 0.02 * units[6]), axis=1)
    brush.stroke(bag * (side, 1.0), FLAT - (12.0 + 30.0 * max(units[6], 0.7 * units[7])) * worn, 0.02)
    for step in (-0.5, 0.5, 1.5):
        foot = np.array([(who.eye_spacing + 0.26, 0.03 * step), (who.eye_spacing + 0.38, 0.07 * step)])
        brush.stroke(foot * (side, 1.0), FLAT - 48.0 * units[6] * worn, 0.015)
    frown = np.array([(0.07, -0.36 + 0.05 * units[4]), (0.055, -0.17)])
    brush.stroke(frown * (side, 1.0), FLAT - 62.0 * units[4] * worn, 0.026)
    if units[9] > 0.1:
        scrunch = np.array([(0.06, -0.02), (0.16, 0.1), (0.22, 0.25)])
        brush.stroke(scrunch * (side, 1.0), FLAT - 70.0 * units[9], 0.028)


def _mouth_folds(brush: Brush, who: Identity, units: Units, side: float, worn: float) -> None:
    """Nasolabial fold and the line below a drooping corner, on one side."""
    corner_x, corner_y = mouth_corners(who, units)
    cheek = min(1.0, 0.25 * who.age + 0.75 * units[12] + 0.6 * units[10] + 0.5 * units[9])
    start, end = who.nose_width + 0.04, corner_x + 0.1
    top = who.nose_length - 0.09 - 0.05 * units[9]
    middle = (0.45 * start + 0.55 * end + 0.03, 0.5 * (top + corner_y))
    fold = np.array([(start, top), middle, (end, corner_y + 0.02)])
    brush.stroke(fold * (side, 1.0), FLAT - 62.0 * cheek * worn, 0.03)
    if units[15] > 0.1:
        droop = np.array([(corner_x + 0.03, corner_y), (corner_x + 0.07, corner_y + 0.14)])
        brush.stroke(droop * (side, 1.0), FLAT - 52.0 * units[15], 0.03)
