"""The table of a generated set: one row per face."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from fer_lightning.data.rows.manifest_text import csv_text
from fer_lightning.data.sources.generated.plan import PlannedFace, PlannedPicture
from fer_lightning.labels import EMOTIONS, emotion_name

MANIFEST_NAME = "manifest.csv"
COLUMNS = (
    "image_path",
    "label",
    "split",
    "source",
    "subject",
    "orig_image",
    "face_id",
    "bbox_top",
    "bbox_left",
    "bbox_bottom",
    "bbox_right",
    "confidence",
    *(f"vote_{name}" for name in EMOTIONS),
)


def manifest_text(pictures: Iterable[PlannedPicture], copies: Iterable[PlannedPicture]) -> str:
    """Return the CSV with a header; fields that do not apply are empty.

    Args:
        pictures: of the plan.
        copies: planted duplicates. Each gets a subject of its own, as a real set would not know whose picture it is.
    """
    rows = [
        _row(picture, face, face_id, f"s{face.subject:06d}")
        for picture in pictures
        for face_id, face in enumerate(picture.faces)
    ]
    rows += [_row(copy, copy.faces[0], 0, f"copy{number:06d}") for number, copy in enumerate(copies)]
    return csv_text(COLUMNS, rows)


def _row(picture: PlannedPicture, face: PlannedFace, face_id: int, subject: str) -> list[str | int | float]:
    box, note = face.box, face.annotation
    where: list[str | int | float] = [""] * 6
    if box is not None:
        where = [PurePosixPath(picture.path).name, face_id, box.top, box.left, box.bottom, box.right]
    confidence: str | float = "" if note.confidence is None else note.confidence
    votes: tuple[str | int, ...] = ("",) * len(EMOTIONS) if note.votes is None else note.votes
    label = emotion_name(note.label)
    return [picture.path, label, picture.split, picture.source, subject, *where, confidence, *votes]
