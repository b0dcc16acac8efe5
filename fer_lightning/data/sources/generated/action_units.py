"""What a face shows: emotions as facial action units, their blends, and how annotators would perceive them.

Action-unit numbers follow the Facial Action Coding System (Ekman and Friesen, 1978); the prototypes are the usual
emotion tables of EMFACS with one or two common variants each.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer_lightning.labels import EMOTIONS, NUM_CLASSES, emotion_index

ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 16, 17, 20, 23, 25, 26)

# Per emotion: (relative frequency, {action unit: strength at full intensity}).
PROTOTYPES: dict[str, tuple[tuple[float, dict[int, float]], ...]] = {
    "Angry": (
        (0.6, {4: 1.0, 5: 0.5, 7: 0.8, 23: 1.0}),
        (0.4, {4: 1.0, 5: 0.6, 7: 0.7, 10: 0.2, 16: 0.5, 25: 0.9, 26: 0.3}),
    ),
    "Disgust": (
        (0.5, {4: 0.25, 6: 0.3, 7: 0.5, 9: 1.0, 10: 1.0, 15: 0.4, 16: 0.5, 25: 0.4}),
        (0.5, {4: 0.25, 7: 0.6, 9: 1.0, 10: 1.0, 15: 0.5, 17: 0.7}),
    ),
    "Fear": (
        (0.6, {1: 1.0, 2: 0.6, 4: 0.7, 5: 1.0, 7: 0.3, 20: 1.0, 25: 0.6, 26: 0.35}),
        (0.4, {1: 1.0, 2: 0.8, 4: 0.5, 5: 1.0, 20: 0.8, 25: 1.0, 26: 0.7}),
    ),
    "Happy": (
        (0.35, {6: 0.8, 12: 1.0}),
        (0.45, {6: 1.0, 12: 1.0, 25: 0.8}),
        (0.20, {6: 1.0, 12: 1.0, 25: 1.0, 26: 0.5}),
    ),
    "Sad": (
        (0.5, {1: 1.0, 4: 0.6, 15: 1.0}),
        (0.5, {1: 0.9, 4: 0.5, 7: 0.3, 15: 1.0, 17: 0.8}),
    ),
    "Surprise": (
        (0.6, {1: 1.0, 2: 1.0, 5: 0.8, 25: 0.9, 26: 1.0}),
        (0.4, {1: 0.9, 2: 1.0, 5: 1.0, 25: 0.7, 26: 0.5}),
    ),
    "Neutral": ((1.0, {}),),
}

# Whom an emotion is taken for when it is misread, as relative weights.
NEIGHBOURS: dict[str, dict[str, float]] = {
    "Angry": {"Disgust": 0.5, "Neutral": 0.3, "Sad": 0.2},
    "Disgust": {"Angry": 0.8, "Sad": 0.2},
    "Fear": {"Surprise": 0.75, "Sad": 0.25},
    "Happy": {"Neutral": 0.7, "Surprise": 0.3},
    "Sad": {"Neutral": 0.6, "Fear": 0.25, "Angry": 0.15},
    "Surprise": {"Fear": 0.7, "Happy": 0.3},
    "Neutral": {"Sad": 0.6, "Happy": 0.2, "Angry": 0.2},
}

NEUTRAL = emotion_index("Neutral")
_UNSEEN_INTENSITY = 0.31  # half of the annotators call an expression of this intensity neutral
_UNSEEN_WIDTH = 0.06


@dataclass(frozen=True, kw_only=True)
class Expression:
    """What one face shows.

    Attributes:
        emotion: class index of the dominant emotion.
        secondary: class index of the blended emotion; equal to `emotion` where there is none.
        share: weight of the dominant emotion in the blend, (0.5, 1].
        intensity: 0..1; 0 for neutral.
        units: strength 0..1 of each of `ACTION_UNITS`.
        asymmetry: relative difference of the two face halves, about -0.3..0.3.
    """

    emotion: int
    secondary: int
    share: float
    intensity: float
    units: dict[int, float]
    asymmetry: float


def neighbour_probs(emotion: int) -> npt.NDArray[np.float64]:
    """Return where misreadings of an emotion go: (7,) probabilities, zero at the emotion itself."""
    probs = np.zeros(NUM_CLASSES)
    for name, weight in NEIGHBOURS[EMOTIONS[emotion]].items():
        probs[emotion_index(name)] = weight
    return np.asarray(probs / probs.sum())


def draw_expression(rng: np.random.Generator, emotion: int, *, min_intensity: float, blend_share: float) -> Expression:
    """Draw how a person shows an emotion this time.

    Args:
        rng: generator of this picture.
        emotion: class index of the dominant emotion.
        min_intensity: weakest expression drawn, 0..1.
        blend_share: probability that a second emotion is mixed in, 0..1.

    Returns:
        The expression; neutral faces carry small resting tensions and no blend.
    """
    intensity = min_intensity + (1.0 - min_intensity) * float(rng.beta(2.2, 1.4))
    secondary, share = emotion, 1.0
    if rng.random() < blend_share and emotion != NEUTRAL:
        secondary = int(rng.choice(NUM_CLASSES, p=neighbour_probs(emotion)))
        share = float(rng.uniform(0.52, 0.88))
    if emotion == NEUTRAL:
        intensity = 0.0
    first, second = _draw_prototype(rng, emotion), _draw_prototype(rng, secondary)
    rest = _draw_rest(rng)
    jitter = rng.uniform(0.75, 1.15, len(ACTION_UNITS))
    units = {
        unit: float(
            np.clip(
                intensity * jitter[i] * (share * first.get(unit, 0.0) + (1.0 - share) * second.get(unit, 0.0))
                + rest.get(unit, 0.0) * (1.0 - 0.7 * intensity),
                0.0,
                1.0,
            )
        )
        for i, unit in enumerate(ACTION_UNITS)
    }
    return Expression(
        emotion=emotion,
        secondary=secondary,
        share=share,
        intensity=intensity,
        units=units,
        asymmetry=float(np.clip(rng.normal(0.0, 0.1), -0.3, 0.3)),
    )


def perceived_probs(expression: Expression, *, agreement: float) -> npt.NDArray[np.float64]:
    """Return the probability that one annotator names each emotion.

    Weak expressions read as neutral, blends as either emotion, and a share 1 - `agreement` of all readings goes to
    the neighbours of what was seen.

    Args:
        expression: what is shown.
        agreement: probability that an annotator names what the annotator saw, (0, 1].

    Returns:
        (7,) float64 that sums to 1, in the order of `EMOTIONS`.
    """
    seen = np.zeros(NUM_CLASSES)
    if expression.emotion == NEUTRAL:
        seen[NEUTRAL] = 1.0
    else:
        unseen = 1.0 / (1.0 + np.exp((expression.intensity - _UNSEEN_INTENSITY) / _UNSEEN_WIDTH))
        seen[NEUTRAL] += unseen
        # Annotators round towards the stronger component; squaring keeps a 60:40 blend ambiguous.
        first, second = expression.share**2, (1.0 - expression.share) ** 2
        seen[expression.emotion] += (1.0 - unseen) * first / (first + second)
        seen[expression.secondary] += (1.0 - unseen) * second / (first + second)
    spread = np.stack([neighbour_probs(i) for i in range(NUM_CLASSES)])
    probs = agreement * seen + (1.0 - agreement) * (seen @ spread)
    return np.asarray(probs / probs.sum())


def _draw_prototype(rng: np.random.Generator, emotion: int) -> dict[int, float]:
    variants = PROTOTYPES[EMOTIONS[emotion]]
    return variants[int(rng.choice(len(variants), p=[weight for weight, _ in variants]))][1]


def _draw_rest(rng: np.random.Generator) -> dict[int, float]:
    """Resting tensions that make some calm faces look a little sad, cross or pleased."""
    size = float(rng.exponential(0.09))
    pattern = ({4: 1.0, 15: 0.6}, {1: 0.7, 15: 1.0}, {12: 1.0}, {1: 0.7, 2: 0.8}, {25: 1.0, 26: 0.3}, {7: 1.0, 23: 0.8})
    chosen = pattern[int(rng.integers(len(pattern)))]
    return {unit: min(0.35, size) * strength for unit, strength in chosen.items()}
