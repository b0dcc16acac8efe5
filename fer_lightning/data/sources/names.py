"""From the name of a class folder, or of a class in a list, to one of the seven emotions."""

import re

from fer_lightning.labels import EMOTIONS

_SPELLINGS = {
    "Angry": ("angry", "anger"),
    "Disgust": ("disgust", "disgusted"),
    "Fear": ("fear", "fearful", "feared", "scared", "afraid"),
    "Happy": ("happy", "happiness", "joy", "joyful"),
    "Sad": ("sad", "sadness"),
    "Surprise": ("surprise", "surprised", "suprise", "suprised", "surprize", "surprized"),
    "Neutral": ("neutral", "neutrality"),
}
_EMOTION_OF = {spelling: emotion for emotion in EMOTIONS for spelling in _SPELLINGS[emotion]}
_NUMBERING = re.compile(r"^\d+[\s_.)-]*")
_SEPARATORS = re.compile(r"[\s_-]+")

OTHER_EXPRESSIONS = {
    "contempt": "contempt",
    "contemptuous": "contempt",
    "contemptous": "contempt",
    "none": "no expression",
    "noexpression": "no expression",
    "noemotion": "no expression",
    "uncertain": "uncertain",
    "unsure": "uncertain",
    "noface": "no face",
    "nonface": "no face",
    "notaface": "no face",
    "nf": "no face",
    "unknown": "unknown expression",
}
"""Classes of the data sets that are none of the seven, as `other_expression` compares them -> reason of the drop."""


def _bare(name: str) -> str:
    """Return a name without leading numbering, separators and case."""
    return _SEPARATORS.sub("", _NUMBERING.sub("", name.strip())).casefold()


def emotion_of(name: str) -> str | None:
    """Return the emotion that a name stands for, one of `labels.EMOTIONS`; None where it is none of them.

    Case, spaces, underscores, hyphens and a leading number make no difference: `0_angry`, `3-Happy`, `SUPRISE`.
    A number alone is no name, and neither is a compound such as `sadly angry`.
    """
    return _EMOTION_OF.get(_bare(name))


def other_expression(name: str) -> str | None:
    """Return why a class is left out, one of few fixed reasons; None where its name is not known either.

    Spelling is as free as in `emotion_of`.
    """
    return OTHER_EXPRESSIONS.get(_bare(name))
