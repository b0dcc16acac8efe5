"""The seven emotions in canonical order; the only place that knows the order."""

from collections.abc import Sequence

EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")
NUM_CLASSES = len(EMOTIONS)
MINORITY_EMOTIONS = ("Disgust", "Fear", "Sad")

_INDEX_OF = {name: index for index, name in enumerate(EMOTIONS)}

MINORITY_INDICES = tuple(_INDEX_OF[name] for name in MINORITY_EMOTIONS)


def emotion_index(name: str) -> int:
    """Return the class index of an emotion.

    Args:
        name: one of `EMOTIONS`, exactly as written there.

    Returns:
        Index in 0..6.

    Raises:
        ValueError: unknown name; nothing is guessed from case or synonyms.
    """
    try:
        return _INDEX_OF[name]
    except KeyError:
        raise ValueError(f"unknown label {name!r}; expected one of {', '.join(EMOTIONS)}") from None


def emotion_name(index: int) -> str:
    """Return the emotion of a class index.

    Args:
        index: 0..6.

    Raises:
        ValueError: outside 0..6.
    """
    if not 0 <= index < NUM_CLASSES:
        raise ValueError(f"class index {index} is outside 0..{NUM_CLASSES - 1}")
    return EMOTIONS[index]


def check_class_order(names: Sequence[str], *, where: str) -> None:
    """Refuse a class order other than the canonical one.

    Args:
        names: class names as found in an artifact.
        where: the artifact, for the message.

    Raises:
        ValueError: the order differs.
    """
    if tuple(names) != EMOTIONS:
        raise ValueError(f"{where} has class order {list(names)}; expected {list(EMOTIONS)}")
