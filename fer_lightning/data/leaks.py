"""What two splits share and should not: photos, subjects, pictures and their copies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.image_facts import ImageFacts
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.near_duplicates import NearPairs


@dataclass(frozen=True)
class Leak:
    """Rows of different splits that belong together."""

    kind: str
    """`image` (one file), a group column such as `subject`, `content` (equal pixels) or `near_content`."""
    value: str
    """What they share: the path, the subject, the digest, or the similarity."""
    rows: tuple[int, ...]
    """Row numbers of the manifest, in order; at least two splits are among them."""


def find_leaks(
    manifest: Manifest,
    rows: dict[str, NDArray[np.int64]],
    *,
    group_columns: Sequence[str],
    facts: ImageFacts | None = None,
    near: NearPairs | None = None,
) -> list[Leak]:
    """Find everything that rows of different splits share.

    Args:
        manifest: the manifest.
        rows: split -> row numbers; a carved val counts as val.
        group_columns: columns whose value may be on one side only (compared within a source).
        facts: of these rows, for equal pixels.
        near: near duplicates among these rows.
    """
    raise NotImplementedError


def content_families(num_rows: int, facts: ImageFacts, near: NearPairs | None = None) -> NDArray[np.int64]:
    """Number the families of rows that show the same picture, or a near duplicate of it (transitively).

    Returns:
        (num_rows,) family numbers over all rows of the manifest; a row without facts is a family of its own.
    """
    raise NotImplementedError
