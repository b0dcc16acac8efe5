"""Who is in the picture: the shape, colours and habits of one invented person."""

from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]  # blue, green, red, 0..255

_SKIN: tuple[Colour, ...] = (
    (188, 208, 240),
    (160, 188, 228),
    (128, 164, 212),
    (98, 134, 186),
    (70, 100, 150),
    (48, 68, 108),
)
_HAIR: tuple[Colour, ...] = (
    (24, 22, 26),
    (32, 42, 62),
    (44, 66, 100),
    (92, 142, 188),
    (170, 172, 176),
    (40, 66, 132),
)
_EYES: tuple[Colour, ...] = ((34, 46, 72), (48, 70, 96), (150, 120, 70), (96, 118, 84))


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One invented person. Lengths are in face units: half the width of a standard face is 1."""

    face_width: float
    jaw_width: float
    chin_length: float
    eye_spacing: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    brow_height: float
    brow_thickness: float
    brow_arch: float
    nose_length: float
    nose_width: float
    mouth_width: float
    mouth_height: float
    lip_thickness: float
    age: float
    skin: Colour
    hair: Colour
    iris: Colour
    clothes: Colour
    hair_style: str
    hairline: float
    parting: float
    glasses: str
    beard: float
    makeup: float


def draw_identity(rng: np.random.Generator) -> Identity:
    """Draw a person.

    Args:
        rng: generator of this subject; the same state gives the same person.
    """
    tone = float(rng.uniform(0, len(_SKIN) - 1))
    below = min(int(tone), len(_SKIN) - 2)
    skin = _mix(_SKIN[below], _SKIN[below + 1], tone - below)
    feminine = bool(rng.random() < 0.5)
    age = float(rng.beta(1.5, 2.5))
    hair_index = 4 if age > 0.62 and rng.random() < 0.7 else int(rng.choice(6, p=[0.3, 0.27, 0.2, 0.13, 0.02, 0.08]))
    if tone > 3.0:
        hair_index = int(rng.choice([0, 1], p=[0.8, 0.2]))
    rarely_bald = "bald" if rng.random() < 0.5 else "crop"
    styles = ("long", "bob", "fringe", "short") if feminine else ("short", "short", "crop", rarely_bald)
    return Identity(
        face_width=float(rng.uniform(0.9, 1.06)),
        jaw_width=float(rng.uniform(0.62, 0.8) + (0.0 if feminine else 0.08)),
        chin_length=float(rng.uniform(1.27, 1.46)),
        eye_spacing=float(rng.uniform(0.385, 0.47)),
        eye_width=float(rng.uniform(0.2, 0.245)),
        eye_height=float(rng.uniform(0.1, 0.125)),
        eye_tilt=float(rng.normal(0.0, 0.02)),
        brow_height=float(rng.uniform(0.27, 0.34)),
        brow_thickness=float(rng.uniform(0.04, 0.065) + (0.0 if feminine else 0.02)),
        brow_arch=float(rng.uniform(0.03, 0.075)),
        nose_length=float(rng.uniform(0.44, 0.56)),
        nose_width=float(rng.uniform(0.18, 0.26)),
        mouth_width=float(rng.uniform(0.32, 0.41)),
        mouth_height=float(rng.uniform(0.76, 0.84)),
        lip_thickness=float(rng.uniform(0.07, 0.115) * (1.1 if feminine else 0.9)),
        age=age,
        skin=skin,
        hair=_vary(rng, _HAIR[hair_index], 10),
        iris=_EYES[int(rng.choice(4, p=[0.45, 0.25, 0.18, 0.12])) if tone < 2.5 else 0],
        clothes=(float(rng.uniform(20, 220)), float(rng.uniform(20, 220)), float(rng.uniform(20, 220))),
        hair_style=styles[int(rng.integers(4))],
        hairline=float(rng.uniform(-0.98, -0.8) - (0.12 if age > 0.6 else 0.0)),
        parting=float(rng.uniform(-0.5, 0.5)),
        glasses=("none", "thin", "thick", "dark")[int(rng.choice(4, p=[0.84, 0.09, 0.055, 0.015]))],
        beard=0.0 if feminine or rng.random() < 0.6 else float(rng.uniform(0.2, 1.0)),
        makeup=float(rng.uniform(0.2, 1.0)) if feminine else 0.0,
    )


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    blue, green, red = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return (blue, green, red)


def _vary(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    blue, green, red = (float(np.clip(c + rng.uniform(-spread, spread), 0, 255)) for c in colour)
    return (blue, green, red)
