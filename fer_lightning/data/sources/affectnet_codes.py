"""AffectNet's expression codes: Mollahosseini et al. 2017, https://arxiv.org/abs/1708.03985, table 2."""

_EMOTION_OF = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Angry")
_REASONS = ("contempt", "no expression", "uncertain", "no face")

NUM_CODES = len(_EMOTION_OF) + len(_REASONS)
CODES = ", ".join(f"{code} {name}" for code, name in enumerate((*_EMOTION_OF, "Contempt")))
"""For notes and messages."""


def judge_code(code: int) -> tuple[str | None, str]:
    """Return the emotion of a code, or None and why it has none.

    Args:
        code: 0 to 10.
    """
    if code < len(_EMOTION_OF):
        return _EMOTION_OF[code], ""
    return None, _REASONS[code - len(_EMOTION_OF)]
