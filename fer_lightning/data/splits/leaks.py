"""What two splits share and should not: photos, subjects, pictures and their copies."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.config import data_set_of
from fer_lightning.data.copies.near_duplicates import NearPairs
from fer_lightning.data.pictures.image_facts import FileStatus, ImageFacts
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.data.rows.row_id import normalise_path
from fer_lightning.data.splits.linked_sets import smallest_linked


@dataclass(frozen=True)
class Leak:
    """Rows of different splits that belong together."""

    kind: str
    """`image` (one file), a group column such as `subject`, `content` (equal pixels) or `near_content`."""
    value: str
    """What they share: the path, the subject, the digest, or the least similarity that links them."""
    rows: tuple[int, ...]
    """Row numbers of the manifest, in order; at least two splits are among them."""


def _crossing(rows: list[int], keys: Sequence[Hashable], side_of: list[int]) -> list[tuple[int, ...]]:
    """Return the rows, ascending, that share a key and are of several splits; a key of None is shared by nobody."""
    sides: dict[Hashable, int] = {}
    crossing = set()
    for row, key in zip(rows, keys, strict=True):
        if key is not None and sides.setdefault(key, side_of[row]) != side_of[row]:
            crossing.add(key)
    members: dict[Hashable, list[int]] = {}  # in the order of their first rows
    for row, key in zip(rows, keys, strict=True):
        if key in crossing:
            members.setdefault(key, []).append(row)
    return [tuple(group) for group in members.values()]


def _content_of(num_rows: int, facts: ImageFacts) -> NDArray[np.int64]:
    """Return the smallest row with the same pixels as each row."""
    usable = np.flatnonzero(facts.status == FileStatus.ok)
    usable = usable[np.argsort(facts.rows[usable], kind="stable")]
    _, first, content = np.unique(facts.contents[usable], axis=0, return_index=True, return_inverse=True)
    smallest = np.arange(num_rows)
    smallest[facts.rows[usable]] = facts.rows[usable[first]][content.reshape(-1)]
    return smallest


def _content_leaks(used: list[int], side_of: list[int], facts: ImageFacts) -> list[Leak]:
    content = _content_of(len(side_of), facts)
    position = {row: index for index, row in enumerate(facts.rows.tolist())}
    return [
        Leak("content", "".join(f"{part:016x}" for part in facts.contents[position[group[0]]].tolist()), group)
        for group in _crossing(used, content[used].tolist(), side_of)
    ]


def _near_leaks(used: list[int], side_of: list[int], facts: ImageFacts | None, near: NearPairs) -> list[Leak]:
    """Find families with a near duplicate on another side: they may be linked through equal pictures too."""
    num_rows = len(side_of)
    content = np.arange(num_rows) if facts is None else _content_of(num_rows, facts)
    family = smallest_linked(num_rows, content[near.first], content[near.second])[content]
    similarity = np.full(num_rows, np.inf)
    np.minimum.at(similarity, family[near.first], near.similarity)
    keys = [number if np.isfinite(similarity[number]) else None for number in family[used].tolist()]
    return [
        Leak("near_content", f"{similarity[family[group[0]]]:.3f}", group) for group in _crossing(used, keys, side_of)
    ]


def find_leaks(
    manifest: Manifest,
    rows: dict[str, NDArray[np.int64]],
    *,
    group_columns: Sequence[str],
    facts: ImageFacts | None = None,
    near: NearPairs | None = None,
) -> list[Leak]:
    """Find everything that rows of different splits share.

    Near duplicates leak as a family: all rows linked by near or equal pictures, at least two of which differ in pixels.

    Args:
        manifest: the manifest.
        rows: split -> row numbers; a carved val counts as val.
        group_columns: columns whose value may be on one side only, compared within a data set (`data_set_of`); an absent
            column and an empty value link nothing.
        facts: of these rows, for equal pixels.
        near: near duplicates among these rows.

    Returns:
        The leaks in the order of their kinds (`image`, the group columns as given, `content`, `near_content`), those of
        a kind in the order of their first rows.
    """
    sides = np.full(len(manifest), -1, dtype=np.int64)
    for side, members in enumerate(rows.values()):
        sides[members] = side
    used, side_of = np.flatnonzero(sides >= 0).tolist(), sides.tolist()
    paths = [normalise_path(manifest.image_paths[row]) for row in used]
    leaks = [
        Leak("image", normalise_path(manifest.image_paths[group[0]]), group)
        for group in _crossing(used, paths, side_of)
    ]
    sources = [data_set_of(source) for source in manifest.sources.tolist()]
    for column in dict.fromkeys(group_columns):
        if column in manifest.extras:
            values = manifest.extras[column]
            shared = [(sources[row], values[row]) if values[row] else None for row in used]
            leaks += [Leak(column, values[group[0]], group) for group in _crossing(used, shared, side_of)]
    if facts is not None:
        leaks += _content_leaks(used, side_of, facts)
    if near is not None and len(near.first):
        leaks += _near_leaks(used, side_of, facts, near)
    return leaks


def content_families(num_rows: int, facts: ImageFacts, near: NearPairs | None = None) -> NDArray[np.int64]:
    """Number the families of rows that show the same picture, or a near duplicate of it (transitively).

    Args:
        num_rows: rows of the manifest.
        facts: of some rows.
        near: near duplicates among these.

    Returns:
        (num_rows,) family numbers over all rows of the manifest, each the smallest row of its family; a row without
        facts is a family of its own.
    """
    content = _content_of(num_rows, facts)
    if near is None:
        return content
    return smallest_linked(num_rows, content[near.first], content[near.second])[content]
