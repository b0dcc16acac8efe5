"""Paints shapes given in face units onto a picture, through the pose of the head."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fer_lightning.data.sources.generated.identity import Colour

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

_SHIFT = 4  # sub-pixel bits of the OpenCV drawing functions
_DEPTH = 0.85  # how far the middle of the face stands out, in face units


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a head is: pixels for position and size, radians for the pose."""

    centre_x: float
    centre_y: float
    scale: float
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    def resized(self, factor: float, *, left: float = 0.0, top: float = 0.0) -> "Placement":
        """Return the placement in a picture cut at (left, top) and then resized by `factor`."""
        return Placement(
            # Pixel centres: coordinate c of a picture lies at (c + 0.5) * factor - 0.5 of its resized copy.
            centre_x=(self.centre_x - left + 0.5) * factor - 0.5,
            centre_y=(self.centre_y - top + 0.5) * factor - 0.5,
            scale=self.scale * factor,
            yaw=self.yaw,
            pitch=self.pitch,
            roll=self.roll,
        )


class Brush:
    """A canvas with the projection of one head.

    Face units: origin between the eyes, x to the right of the picture, y down, half a face width is 1.
    """

    def __init__(self, canvas: Image, placement: Placement) -> None:
        self.canvas = canvas
        self.placement = placement
        self._sin = (np.sin(placement.yaw), np.sin(placement.pitch), np.sin(placement.roll))
        self._cos = (np.cos(placement.yaw), np.cos(placement.pitch), np.cos(placement.roll))

    def pixels(self, points: Points, *, lift: float = 0.0, flat: bool = False) -> Points:
        """Project points to pixels.

        Args:
            points: (N, 2) face units.
            lift: how far the part stands out of the face (nose, glasses), face units.
            flat: the silhouette turns with the roll only; a round head looks equally wide from each side.
        """
        x, y = points[:, 0], points[:, 1]
        if not flat:
            bulge = 1.0 - (x / 1.15) ** 2 - ((y - 0.1) / 1.6) ** 2
            depth = _DEPTH * np.sqrt(np.maximum(bulge, 0.0)) + lift
            x, y = (
                x * self._cos[0] + depth * self._sin[0],
                y * self._cos[1] - depth * self._sin[1],
            )
        place = self.placement
        return np.stack(
            (
                place.centre_x + place.scale * (x * self._cos[2] - y * self._sin[2]),
                place.centre_y + place.scale * (x * self._sin[2] + y * self._cos[2]),
            ),
            axis=1,
        )

    def fill(self, points: Points, colour: Colour | float, *, lift: float = 0.0, flat: bool = False) -> None:
        """Fill a closed outline."""
        cv2.fillPoly(self.canvas, [self._fixed(points, lift, flat)], _scalar(colour), cv2.LINE_AA, _SHIFT)

    def stroke(
        self, points: Points, colour: Colour | float, width: float, *, lift: float = 0.0, flat: bool = False
    ) -> None:
        """Draw an open line; `width` in face units, at least one pixel."""
        thickness = max(1, round(width * self.placement.scale))
        fixed = self._fixed(points, lift, flat)
        cv2.polylines(self.canvas, [fixed], False, _scalar(colour), thickness, cv2.LINE_AA, _SHIFT)

    def over(self, canvas: Image, placement: Placement | None = None) -> "Brush":
        """Return a brush with the same head on another layer."""
        return Brush(canvas, placement or self.placement)

    def _fixed(self, points: Points, lift: float, flat: bool) -> npt.NDArray[np.int32]:
        return np.rint(self.pixels(points, lift=lift, flat=flat) * (1 << _SHIFT)).astype(np.int32)


def ellipse(x: float, y: float, width: float, height: float, *, tilt: float = 0.0) -> Points:
    """Return (32, 2) points of an ellipse with half axes `width` and `height`, turned by `tilt` radians."""
    across, down = width * _COS, height * _SIN
    cos, sin = np.cos(tilt), np.sin(tilt)
    return np.stack((x + across * cos - down * sin, y + across * sin + down * cos), axis=1)


def shaded(colour: Colour, factor: float) -> Colour:
    """Return the colour made darker (factor below 1) or lighter."""
    return (min(255.0, colour[0] * factor), min(255.0, colour[1] * factor), min(255.0, colour[2] * factor))


def _scalar(colour: Colour | float) -> Colour:
    return colour if isinstance(colour, tuple) else (colour, colour, colour)


_ANGLES = np.linspace(0.0, 2.0 * np.pi, 32, endpoint=False)
_COS, _SIN = np.cos(_ANGLES), np.sin(_ANGLES)
