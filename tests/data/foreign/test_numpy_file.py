"""Foreign scores from NumPy files: nothing unpickled, nothing guessed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning.data.foreign.numpy_file import read_numpy
from fer_lightning.data.foreign.read_file import read_foreign_scores
from fer_lightning.data.foreign.table import ForeignTable
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS

SCORES = np.arange(21, dtype=np.float32).reshape(3, 7)
ORDER = ["Neutral", "sad", "HAPPY", "Angry", "Disgust", "Fear", "Surprise"]
PATHS = np.array(["a.png", "b/é.png", "c.png"])


def read(path: Path, *, join: str = "image_path", values: str = "logits", order: Any = ()) -> ForeignTable:
    return read_numpy(path, values=values, join=join, class_order=list(order))


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "preds.npz"
    np.savez(path, **arrays)
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(FerError) as error:
        read(path, **options)
    assert str(path) in str(error.value) or "foreign.class_order" in str(error.value)
    return str(error.value)


def test_columns_are_put_in_the_order_of_the_emotions(tmp_path: Path) -> None:
    path = saved(tmp_path, logits=SCORES, image_paths=PATHS, probs=SCORES, more=PATHS)
    table = read(path, order=ORDER)
    for column, name in enumerate(ORDER):
        index = [emotion.lower() for emotion in EMOTIONS].index(name.lower())
        np.testing.assert_array_equal(table.scores[:, index], SCORES[:, column])
    assert (table.keys, table.unit, table.places.tolist()) == (tuple(PATHS), "row", [0, 1, 2])
    assert table.ignored == ("probs", "more")
    inside = saved(tmp_path, logits=SCORES, row_ids=np.char.encode(PATHS, "utf-8"), class_order=np.array(ORDER))
    same = read_foreign_scores(inside, values="logits", join="row_id", class_order=[])
    np.testing.assert_array_equal(same.scores, table.scores)
    assert same.keys == table.keys
    np.testing.assert_array_equal(
        read(inside, join="row_id", order=[name.upper() for name in ORDER]).scores, table.scores
    )


def test_a_plain_array_is_joined_by_position_alone(tmp_path: Path) -> None:
    path = tmp_path / "preds.npy"
    np.save(path, SCORES.astype(np.float16))
    table = read_foreign_scores(path, values="probs", join="position", class_order=EMOTIONS)
    np.testing.assert_array_equal(table.scores, SCORES)
    assert (table.keys, str(table.scores.dtype)) == ((), "float64")
    assert "has no array image_paths; an .npz file with image_paths proves" in refusal(path, order=EMOTIONS)
    assert "which is never guessed: foreign.class_order=[Angry,Disgust" in refusal(path, join="position")


@pytest.mark.parametrize(
    ("arrays", "options", "said"),
    [
        (
            {"probs": SCORES, "image_paths": PATHS},
            {},
            "has no array logits; it has probs, image_paths; set foreign.values=probs",
        ),
        ({"image_paths": PATHS}, {}, "has no array logits; it has image_paths"),
        ({"logits": SCORES}, {"order": EMOTIONS}, "has no array image_paths"),
        ({"logits": SCORES, "row_ids": PATHS}, {"order": EMOTIONS}, "it has row_ids: foreign.join=row_id"),
        ({"logits": SCORES, "row_ids": PATHS}, {"order": EMOTIONS, "join": "position"}, "foreign.join=row_id"),
        ({"logits": SCORES, "image_paths": PATHS[:2]}, {"order": EMOTIONS}, "names 2 rows, and there are scores of 3"),
        ({"logits": SCORES, "image_paths": np.arange(3)}, {"order": EMOTIONS}, "one text per row, but is int64"),
        ({"logits": SCORES, "image_paths": PATHS[None]}, {"order": EMOTIONS}, "of shape (1, 3)"),
        ({"logits": SCORES, "image_paths": np.array([b"\xff"] * 3)}, {"order": EMOTIONS}, "is not UTF-8"),
        ({"logits": np.zeros((3, 8)), "image_paths": PATHS}, {"order": EMOTIONS}, "but is float64 of shape (3, 8)"),
        ({"logits": np.zeros((0, 7)), "image_paths": PATHS[:0]}, {"order": EMOTIONS}, "of shape (0, 7)"),
        ({"logits": SCORES.astype(complex), "image_paths": PATHS}, {"order": EMOTIONS}, "complex128"),
        (
            {"logits": SCORES, "image_paths": PATHS},
            {"order": [*EMOTIONS[:6], "Contempt"]},
            "foreign.class_order names Contempt",
        ),
        ({"logits": SCORES, "image_paths": PATHS}, {"order": [*EMOTIONS[:6], "angry"]}, "expected each of"),
        (
            {"logits": SCORES, "image_paths": PATHS, "class_order": np.array(ORDER)},
            {"order": EMOTIONS},
            "contradicts class_order",
        ),
        (
            {"logits": SCORES, "image_paths": PATHS, "class_order": np.arange(7)},
            {},
            "class_order must be one text per row",
        ),
        ({"logits": SCORES, "image_paths": PATHS, "class_order": np.array([*ORDER, "x"])}, {}, "names x"),
    ],
)
def test_what_leaves_a_doubt_is_refused(tmp_path: Path, arrays: Any, options: Any, said: str) -> None:
    assert said in refusal(saved(tmp_path, **arrays), **options)


def test_pickles_and_broken_files_are_refused(tmp_path: Path) -> None:
    pickled = saved(tmp_path, logits=SCORES, image_paths=np.array(list(PATHS), dtype=object))
    assert "are not unpickled: save texts as np.array(names, dtype=str)" in refusal(pickled, order=EMOTIONS)
    content = saved(tmp_path, logits=SCORES, image_paths=PATHS).read_bytes()
    for damaged in (content[:200], b"", b"no archive", content[:300] + b"\0" * 40 + content[340:]):
        (tmp_path / "preds.npz").write_bytes(damaged)
        assert "cannot be read" in refusal(tmp_path / "preds.npz", order=EMOTIONS)
