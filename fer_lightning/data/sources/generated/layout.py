"""Where the faces of a picture are: framing of single faces, and places and boxes in photos."""

from dataclasses import dataclass

import numpy as np

from fer_lightning.data.sources.generated.brush import Placement
from fer_lightning.data.sources.generated.sources import TRAITS


@dataclass(frozen=True, kw_only=True)
class Box:
    """A face inside a photo, integer pixels; `bottom` and `right` are exclusive."""

    top: int
    left: int
    bottom: int
    right: int


def frame_single(rng: np.random.Generator, source: str, pose_spread_deg: float) -> Placement:
    """Place the only face of a picture, in pixels of the stored picture."""
    traits = TRAITS[source]
    shift_x, shift_y, zoom = rng.normal(0.0, traits.jitter, 3)
    return _posed(
        rng,
        pose_spread_deg,
        centre_x=traits.width * (0.5 + float(shift_x)),
        centre_y=traits.height * (0.39 + float(shift_y)),
        scale=traits.width / traits.framing * float(np.exp(2.0 * zoom)),
    )


def frame_photo(rng: np.random.Generator, num_faces: int, pose_spread_deg: float) -> list[Placement]:
    """Place the faces of a photo side by side, in pixels."""
    traits = TRAITS["expw_hq"]
    slot = traits.width / num_faces
    placements = []
    for place in range(num_faces):
        scale = float(rng.uniform(0.66, 1.0)) * min(62.0, slot / 2.55)
        slack = max(0.0, slot - 2.5 * scale)
        placements.append(
            _posed(
                rng,
                pose_spread_deg,
                centre_x=slot * (place + 0.5) + slack * float(rng.uniform(-0.5, 0.5)),
                centre_y=float(rng.uniform(1.5 * scale, traits.height - 1.9 * scale)),
                scale=scale,
            )
        )
    return placements


def face_box(rng: np.random.Generator, placement: Placement) -> Box:
    """Return the box an annotator would draw around the face, cut at the photo's edges."""
    traits = TRAITS["expw_hq"]
    loose = 1.0 + rng.normal(0.0, 0.03, 4)
    x, y, scale = placement.centre_x, placement.centre_y, placement.scale
    return Box(
        top=max(0, round(y - 1.0 * scale * float(loose[0]))),
        left=max(0, round(x - 1.1 * scale * float(loose[1]))),
        bottom=min(traits.height, round(y + 1.5 * scale * float(loose[2]))),
        right=min(traits.width, round(x + 1.1 * scale * float(loose[3]))),
    )


def _posed(rng: np.random.Generator, spread_deg: float, *, centre_x: float, centre_y: float, scale: float) -> Placement:
    spread = np.deg2rad(spread_deg)
    # Three standard deviations at most: the flat drawing does not survive a profile view.
    yaw, pitch, roll = np.clip(rng.normal(0.0, 1.0, 3), -3.0, 3.0) * spread * (1.0, 0.55, 0.6)
    return Placement(
        centre_x=centre_x, centre_y=centre_y, scale=scale, yaw=float(yaw), pitch=float(pitch), roll=float(roll)
    )
