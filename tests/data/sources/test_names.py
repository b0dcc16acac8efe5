"""Names of classes."""

import pytest

from fer_lightning.data.sources.names import OTHER_EXPRESSIONS, emotion_of, other_expression
from fer_lightning.labels import EMOTIONS

SPELLINGS = {
    "Angry": ["angry", "Anger", "ANGRY", "0_angry", "0angry", " angry "],
    "Disgust": ["disgust", "Disgusted", "1-disgust"],
    "Fear": ["fear", "fearful", "afraid", "scared", "2. Fear"],
    "Happy": ["happy", "happiness", "joy", "3-happy", "03 Happy", "3) happy"],
    "Sad": ["sad", "Sadness", "004_sad"],
    "Surprise": ["surprise", "surprised", "suprise", "SUPRISED"],
    "Neutral": ["neutral", "Neutrality", "6 - neutral", "neutral_"],
}


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_spellings(emotion: str) -> None:
    assert {emotion_of(name) for name in (emotion, *SPELLINGS[emotion])} == {emotion}
    assert {other_expression(name) for name in SPELLINGS[emotion]} == {None}


@pytest.mark.parametrize(
    "name", ["", "0", "7", "_", "happily surprised", "sadly_angry", "hapy", "train", "angry happy", "contempt", "Ärger"]
)
def test_no_emotion(name: str) -> None:
    assert emotion_of(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Contempt", "contempt"),
        ("7_contempt", "contempt"),
        ("none", "no expression"),
        ("Uncertain", "uncertain"),
        ("No-Face", "no face"),
        ("no face", "no face"),
        ("10_NoFace", "no face"),
        ("not_a_face", "no face"),
        ("unknown", "unknown expression"),
        ("happy", None),
        ("Contempts", None),
        ("", None),
    ],
)
def test_other_expressions(name: str, reason: str | None) -> None:
    assert other_expression(name) == reason


def test_other_expressions_are_no_emotions() -> None:
    assert {name: emotion_of(name) for name in OTHER_EXPRESSIONS} == dict.fromkeys(OTHER_EXPRESSIONS)
    assert {name: other_expression(name) for name in OTHER_EXPRESSIONS} == OTHER_EXPRESSIONS
