"""Plants copies of pictures in another split, for checks that must find them."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import cv2
import numpy as np

from fer_lightning.data.sources.generated.plan import PlannedPicture, picture_path
from fer_lightning.data.sources.generated.render import encode
from fer_lightning.data.sources.generated.sources import TRAITS
from fer_lightning.data.sources.generated.spec import SPLITS, GeneratedSetSpec
from fer_lightning.data.sources.generated.streams import Stream, generator


class DuplicateKind(StrEnum):
    """How alike the copy is."""

    EXACT = "exact"
    NEAR = "near"


@dataclass(frozen=True, kw_only=True)
class PlantedDuplicate:
    """A copy in the manifest.

    Attributes:
        kind: same bytes, or the same picture encoded again.
        image_path: the copy, relative to the set's folder.
        original_path: what it copies, relative to the set's folder, in another split.
    """

    kind: DuplicateKind
    image_path: str
    original_path: str


def plan_duplicates(
    spec: GeneratedSetSpec, pictures: list[PlannedPicture]
) -> list[tuple[PlannedPicture, PlantedDuplicate]]:
    """Choose originals among the single-face pictures, and names and splits for their copies.

    Args:
        spec: how many.
        pictures: of the plan.

    Returns:
        For each copy its row's picture and the record. No picture is copied twice.

    Raises:
        ValueError: more copies asked for than there are single-face pictures.
    """
    wanted = spec.exact_duplicates + spec.near_duplicates
    singles = [picture for picture in pictures if picture.source != "expw_hq"]
    if wanted > len(singles):
        raise ValueError(
            f"{wanted} duplicates asked for (exact_duplicates + near_duplicates), "
            f"but the set has {len(singles)} single-face pictures to copy"
        )
    rng = generator(spec.seed, Stream.PLANTING, 0)
    numbers = {source: sum(picture.source == source for picture in pictures) for source in TRAITS}
    planted = []
    for turn, chosen in enumerate(rng.permutation(len(singles))[:wanted].tolist()):
        original = singles[chosen]
        kind = DuplicateKind.EXACT if turn < spec.exact_duplicates else DuplicateKind.NEAR
        others = [split for split in SPLITS if split != original.split]
        split = others[int(rng.integers(len(others)))]
        numbers[original.source] += 1
        extension = TRAITS[original.source].extension if kind is DuplicateKind.EXACT else ".jpg"
        path = picture_path(original.source, split, numbers[original.source], extension)
        copy = replace(original, index=len(pictures) + turn, split=split, path=path)
        planted.append((copy, PlantedDuplicate(kind=kind, image_path=path, original_path=original.path)))
    return planted


def copy_bytes(root: Path, spec: GeneratedSetSpec, copy: PlannedPicture, planted: PlantedDuplicate) -> bytes:
    """Return the contents of a copy, made from the original's file under `root`."""
    data = (root / planted.original_path).read_bytes()
    if planted.kind is DuplicateKind.EXACT:
        return data
    rng = generator(spec.seed, Stream.PICTURE_DRAWING, copy.index)
    decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    picture = np.asarray(decoded, dtype=np.uint8)
    if rng.random() < 0.5:
        factor = float(rng.uniform(0.8, 0.95))
        picture = np.asarray(
            cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), dtype=np.uint8
        )
    return encode(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 75))])
