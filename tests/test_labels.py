"""The canonical class order."""

import pytest

from fer_lightning.labels import (
    EMOTIONS,
    MINORITY_EMOTIONS,
    MINORITY_INDICES,
    NUM_CLASSES,
    check_class_order,
    emotion_index,
    emotion_name,
)


def test_canonical_order() -> None:
    assert EMOTIONS == ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")
    assert NUM_CLASSES == 7
    assert MINORITY_EMOTIONS == ("Disgust", "Fear", "Sad")
    assert MINORITY_INDICES == (1, 2, 4)


def test_names_and_indices_are_inverse() -> None:
    assert [emotion_index(name) for name in EMOTIONS] == list(range(7))
    assert [emotion_name(index) for index in range(7)] == list(EMOTIONS)


@pytest.mark.parametrize("name", ["Contempt", "happy", "Happy ", "anger", "3", ""])
def test_unknown_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown label {name!r}; expected one of Angry, Disgust, .*, Neutral"):
        emotion_index(name)


@pytest.mark.parametrize("index", [-1, 7])
def test_index_outside(index: int) -> None:
    with pytest.raises(ValueError, match=rf"class index {index} is outside 0..6"):
        emotion_name(index)


def test_other_class_orders_are_refused() -> None:
    check_class_order(list(EMOTIONS), where="classorder.json")
    for other in (sorted(EMOTIONS), EMOTIONS[:6], [*EMOTIONS, "Contempt"], [name.lower() for name in EMOTIONS]):
        with pytest.raises(ValueError, match=r"classorder.json has class order \[.*\]; expected \['Angry'"):
            check_class_order(other, where="classorder.json")
