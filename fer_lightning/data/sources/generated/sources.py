"""The four simulated sources: picture format, framing and how their labels came about."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer_lightning.data.sources.generated.action_units import (
    Expression,
    neighbour_probs,
    perceived_probs,
)
from fer_lightning.data.sources.generated.spec import GeneratedSetSpec
from fer_lightning.labels import NUM_CLASSES

NUM_ANNOTATORS = 10  # of a ferplus picture
_UNKNOWN_VOTE = 0.02  # ferplus annotators who chose "unknown" or "not a face"; their votes have no column
_SHARED_VIEW = 5.0  # Dirichlet concentration; smaller makes the annotators of a picture err more alike
_RAFDB_ANNOTATORS = 40
_EXPW_ANNOTATORS = 5


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Format and framing of a source.

    Attributes:
        width: of the stored picture, pixels.
        height: of the stored picture, pixels.
        supersampling: the picture is drawn this many times larger, then reduced.
        grey: one channel instead of three.
        extension: `.png` or `.jpg`.
        jpeg_quality: lowest and highest quality.
        framing: half face widths that fit the picture's width; larger is a wider crop.
        jitter: standard deviation of position and size of the face, as a share of the picture's width.
    """

    width: int
    height: int
    supersampling: float
    grey: bool
    extension: str
    jpeg_quality: tuple[int, int]
    framing: float
    jitter: float


TRAITS: dict[str, Traits] = {
    "ferplus": Traits(
        width=48,
        height=48,
        supersampling=1.75,
        grey=True,
        extension=".png",
        jpeg_quality=(95, 95),
        framing=2.25,
        jitter=0.02,
    ),
    "rafdb_basic": Traits(
        width=100,
        height=100,
        supersampling=1.25,
        grey=False,
        extension=".jpg",
        jpeg_quality=(85, 95),
        framing=2.2,
        jitter=0.012,
    ),
    "affectnet_full_balanced": Traits(
        width=224,
        height=224,
        supersampling=1.0,
        grey=False,
        extension=".jpg",
        jpeg_quality=(75, 95),
        framing=2.5,
        jitter=0.02,
    ),
    "expw_hq": Traits(
        width=480,
        height=360,
        supersampling=1.0,
        grey=False,
        extension=".jpg",
        jpeg_quality=(80, 95),
        framing=0.0,
        jitter=0.0,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What the annotators of a source wrote down.

    Attributes:
        label: class index in the manifest.
        votes: annotators per class in the order of `EMOTIONS`; `ferplus` only.
        confidence: 0..100; `expw_hq` only.
    """

    label: int
    votes: tuple[int, ...] | None = None
    confidence: float | None = None


def annotate(rng: np.random.Generator, source: str, expression: Expression, spec: GeneratedSetSpec) -> Annotation:
    """Label an expression the way a source did.

    Args:
        rng: generator of the picture's plan.
        source: one of `SOURCES`.
        expression: what is shown.
        spec: label noise.
    """
    probs = perceived_probs(expression, agreement=spec.agreement)
    if source in ("ferplus", "expw_hq"):
        # A picture strikes all its annotators alike, so their errors do not cancel out in the majority.
        probs = rng.dirichlet(_SHARED_VIEW * probs + 1e-3)
    if source == "ferplus":
        counts = rng.multinomial(NUM_ANNOTATORS, np.append(probs * (1.0 - _UNKNOWN_VOTE), _UNKNOWN_VOTE))[:NUM_CLASSES]
        return Annotation(label=majority(counts, expression.emotion), votes=tuple(int(count) for count in counts))
    if source == "rafdb_basic":
        return Annotation(label=majority(rng.multinomial(_RAFDB_ANNOTATORS, probs), expression.emotion))
    if source == "affectnet_full_balanced":
        wrong = rng.random() < spec.affectnet_label_noise
        misread = int(rng.choice(NUM_CLASSES, p=neighbour_probs(expression.emotion)))
        return Annotation(label=misread if wrong else expression.emotion)
    label = majority(rng.multinomial(_EXPW_ANNOTATORS, probs), expression.emotion)
    confidence = float(np.clip(100.0 * probs[label] + rng.normal(0.0, 8.0), 0.0, 100.0))
    return Annotation(label=label, confidence=round(confidence, 1))


def majority(counts: npt.NDArray[np.int64], true_emotion: int) -> int:
    """Return the class with most votes; a tie goes to the true emotion, else to the first in class order."""
    best = int(counts.max())
    return true_emotion if counts[true_emotion] == best else int(np.argmax(counts))
