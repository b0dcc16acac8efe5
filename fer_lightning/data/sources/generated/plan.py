"""Decides every picture of a set before anything is drawn: who, what, where, and with which label."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fer_lightning.data.sources.generated.action_units import Expression, draw_expression
from fer_lightning.data.sources.generated.brush import Placement
from fer_lightning.data.sources.generated.layout import Box, face_box, frame_photo, frame_single
from fer_lightning.data.sources.generated.sources import TRAITS, Annotation, annotate
from fer_lightning.data.sources.generated.spec import SOURCES, SPLITS, GeneratedSetSpec
from fer_lightning.data.sources.generated.streams import Stream, generator
from fer_lightning.labels import EMOTIONS

_PHOTOS_PER_GROUP = 4  # photos of one outing share their people
_PEOPLE_PER_GROUP = 6


@dataclass(frozen=True, kw_only=True)
class PlannedFace:
    """One manifest row: a person showing something somewhere, and its label."""

    subject: int
    expression: Expression
    placement: Placement
    annotation: Annotation
    box: Box | None


@dataclass(frozen=True, kw_only=True)
class PlannedPicture:
    """One file; `path` is relative to the set's folder, with forward slashes."""

    index: int
    source: str
    split: str
    path: str
    faces: tuple[PlannedFace, ...]


def plan_pictures(spec: GeneratedSetSpec) -> list[PlannedPicture]:
    """Plan all pictures of a set, without planted duplicates.

    Args:
        spec: what to generate.

    Returns:
        Pictures by source, then split; their faces add up to `spec.num_images`. Subjects and photos belong to one
        split only. A photo has 2 to 4 faces, or 1 where a split holds a single row of that source.
    """
    deck_rng = generator(spec.seed, Stream.DECK, 0)
    pictures: list[PlannedPicture] = []
    next_subject = 0
    rows_of = _apportion([spec.source_shares.get(source, 0.0) for source in SOURCES], spec.num_images)
    for source, num_rows in zip(SOURCES, rows_of, strict=True):
        num_before = len(pictures)
        split_shares = (1.0 - spec.val_share - spec.test_share, spec.val_share, spec.test_share)
        for split, num_split in zip(SPLITS, _apportion(split_shares, num_rows), strict=True):
            deck = _shuffled_emotions(deck_rng, spec, num_split)
            if source == "expw_hq":
                groups, next_subject = _photo_subjects(deck_rng, num_split, next_subject)
            else:
                groups, next_subject = _single_subjects(deck_rng, num_split, next_subject)
            for subjects in groups:
                emotions = [next(deck) for _ in subjects]
                number = len(pictures) - num_before + 1
                pictures.append(
                    _plan_picture(
                        spec,
                        subjects,
                        emotions,
                        index=len(pictures),
                        source=source,
                        split=split,
                        path=picture_path(source, split, number, TRAITS[source].extension),
                    )
                )
    return pictures


def picture_path(source: str, split: str, number: int, extension: str) -> str:
    """Return the path of a picture relative to the set's folder; `number` is unique within the source."""
    stem = f"photo_{number:06d}" if source == "expw_hq" else f"{number:06d}"
    return f"{source}/{split}/{stem}{extension}"


def _apportion(shares: Sequence[float], total: int) -> list[int]:
    """Return whole numbers near share * total that sum to `total`: largest remainders, ties to the first."""
    exact = np.asarray(shares, dtype=np.float64) * total
    counts = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return [int(count) for count in counts]


def _shuffled_emotions(rng: np.random.Generator, spec: GeneratedSetSpec, num_rows: int) -> Iterator[int]:
    counts = _apportion([spec.class_shares[name] for name in EMOTIONS], num_rows)
    deck = np.repeat(np.arange(len(EMOTIONS)), counts)
    rng.shuffle(deck)
    return iter(deck.tolist())


def _single_subjects(rng: np.random.Generator, num_rows: int, first: int) -> tuple[list[list[int]], int]:
    """Return the subject of each single-face picture, 4 to 9 pictures each, and the next free subject."""
    groups: list[list[int]] = []
    subject = first
    while len(groups) < num_rows:
        num_pictures = min(int(rng.integers(4, 10)), num_rows - len(groups))
        groups.extend([subject] for _ in range(num_pictures))
        subject += 1
    return groups, subject


def _photo_subjects(rng: np.random.Generator, num_rows: int, first: int) -> tuple[list[list[int]], int]:
    """Return the subjects of each photo and the next free subject."""
    photos: list[list[int]] = []
    subject, left = first, num_rows
    while left > 0:
        num_faces = min(int(rng.integers(2, 5)), left)
        if left - num_faces == 1:  # nobody is photographed alone
            num_faces += 1 if num_faces < 4 else -1
        if photos and len(photos) % _PHOTOS_PER_GROUP == 0:
            subject += _PEOPLE_PER_GROUP
        members = rng.choice(_PEOPLE_PER_GROUP, num_faces, replace=False)
        photos.append([subject + int(member) for member in members])
        left -= num_faces
    return photos, subject + _PEOPLE_PER_GROUP


def _plan_picture(
    spec: GeneratedSetSpec,
    subjects: Sequence[int],
    emotions: Sequence[int],
    *,
    index: int,
    source: str,
    split: str,
    path: str,
) -> PlannedPicture:
    rng = generator(spec.seed, Stream.PICTURE_PLAN, index)
    is_photo = source == "expw_hq"
    spread = spec.pose_spread_deg
    placements = frame_photo(rng, len(subjects), spread) if is_photo else [frame_single(rng, source, spread)]
    faces = []
    for subject, emotion, placement in zip(subjects, emotions, placements, strict=True):
        expression = draw_expression(rng, emotion, min_intensity=spec.min_intensity, blend_share=spec.blend_share)
        faces.append(
            PlannedFace(
                subject=subject,
                expression=expression,
                placement=placement,
                annotation=annotate(rng, source, expression, spec),
                box=face_box(rng, placement) if is_photo else None,
            )
        )
    return PlannedPicture(index=index, source=source, split=split, path=path, faces=tuple(faces))
