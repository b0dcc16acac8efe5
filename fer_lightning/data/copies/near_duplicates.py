"""Pairs of pictures that are copies of each other but for encoding, size or mirroring."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.copies.hamming import close_blocks, expand
from fer_lightning.data.copies.thumbnail_likeness import ThumbnailLikeness
from fer_lightning.data.pictures.image_facts import FileStatus, ImageFacts

_MANY_EQUAL_HASHES = 64
_LINK = np.dtype([("first", np.int64), ("second", np.int64), ("similarity", np.float64), ("mirrored", np.bool_)])


@dataclass(frozen=True)
class NearPairs:
    """Near duplicates among some rows."""

    first: NDArray[np.int64]
    """(p,) row numbers of the manifest."""
    second: NDArray[np.int64]
    distance: NDArray[np.int64]
    """Hamming distance of the perceptual hashes."""
    similarity: NDArray[np.float64]
    """Likeness of the thumbnails (see `ThumbnailLikeness`), 1 for equal ones."""
    mirrored: NDArray[np.bool_]


def hamming_pairs(
    hashes: NDArray[np.uint64], others: NDArray[np.uint64] | None = None, *, radius: int
) -> NDArray[np.int64]:
    """Find every pair within a Hamming radius without comparing all pairs.

    Args:
        hashes: (n,) hashes; equal ones are looked up once.
        others: (m,) hashes to compare with; None: pairs within `hashes`.
        radius: 0..64; the work grows quickly beyond a dozen.

    Returns:
        (p, 2) positions i < j (within one set), or i in `hashes` and j in `others`; sorted.

    Raises:
        ValueError: the radius is not in 0..64.
    """
    blocks = [np.empty((0, 2), dtype=np.int64), *_position_blocks(hashes, others, radius)]
    pairs = np.concatenate(blocks)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _position_blocks(
    hashes: NDArray[np.uint64], others: NDArray[np.uint64] | None, radius: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the pairs of `hamming_pairs` a block at a time, in no particular order."""
    if not 0 <= radius <= 64:
        raise ValueError(f"radius is {radius}; expected 0..64")
    if not len(hashes) or (others is not None and not len(others)):
        return
    first = _Equals(hashes)
    if others is None:
        yield from first.pairs_within()
    second = first if others is None else _Equals(others)
    for pairs in close_blocks(first.distinct, None if others is None else second.distinct, radius=radius):
        for block in first.pairs_between(pairs[:, 0], second, pairs[:, 1]):
            yield np.sort(block, axis=1) if others is None else block


class _Equals:
    """Hashes in groups of equal ones."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self.distinct, self._sizes = np.unique(hashes, return_counts=True)
        self._order = np.argsort(hashes, kind="stable")
        self._starts = np.cumsum(self._sizes) - self._sizes

    def pairs_within(self) -> Iterator[NDArray[np.int64]]:
        """Yield the pairs of equal hashes."""
        members = np.arange(len(self._order))
        ends = np.repeat(self._starts + self._sizes, self._sizes)
        for first, second in expand(members, members + 1, ends - members - 1):
            yield np.stack([self._order[first], self._order[second]], axis=1)

    def pairs_between(
        self, groups: NDArray[np.int64], other: "_Equals", other_groups: NDArray[np.int64]
    ) -> Iterator[NDArray[np.int64]]:
        """Yield each member of a group with each member of the other's group."""
        for pair, place in expand(np.arange(len(groups)), self._starts[groups], self._sizes[groups]):
            other_group = other_groups[pair]
            blocks = expand(self._order[place], other._starts[other_group], other._sizes[other_group])
            for first, other_place in blocks:
                yield np.stack([first, other._order[other_place]], axis=1)


def _link_equal_hashes(
    hashes: NDArray[np.uint64], likeness: ThumbnailLikeness, min_similarity: float
) -> tuple[list[NDArray[np.void]], NDArray[np.int64]]:
    """Where many nodes have one hash, link each to the first it is like; return the links and the nodes still alone."""
    _, group, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
    links = []
    standing = np.ones(len(hashes), dtype=np.bool_)
    for crowded in np.flatnonzero(sizes > _MANY_EQUAL_HASHES).tolist():
        members = np.flatnonzero(group == crowded)
        while len(members) > 1:
            leader, members = members[0], members[1:]
            like = _verified(np.stack([np.full_like(members, leader), members], axis=1), likeness, min_similarity)
            links.append(like)
            standing[like["second"]] = False
            members = members[standing[members]]
    return links, np.flatnonzero(standing)


def _verified(
    pairs: NDArray[np.int64], likeness: ThumbnailLikeness, min_similarity: float, *, mirrored: bool = False
) -> NDArray[np.void]:
    """Return those pairs of nodes whose thumbnails agree."""
    similarity = likeness.of(pairs[:, 0], pairs[:, 1], mirrored=mirrored)
    alike = similarity >= min_similarity
    links = np.empty(int(alike.sum()), dtype=_LINK)
    links["first"], links["second"] = pairs[alike].T
    links["similarity"], links["mirrored"] = similarity[alike], mirrored
    return links


def _best_of_each(links: NDArray[np.void]) -> NDArray[np.void]:
    """Return each pair once, sorted: the way round that is more alike, plain before mirrored."""
    links = links[np.lexsort((links["mirrored"], -links["similarity"], links["second"], links["first"]))]
    again = (links["first"][1:] == links["first"][:-1]) & (links["second"][1:] == links["second"][:-1])
    once: NDArray[np.void] = links[np.concatenate([np.ones(min(len(links), 1), dtype=np.bool_), ~again])]
    return once


def near_duplicates(facts: ImageFacts, *, radius: int = 8, min_similarity: float = 0.989) -> NearPairs:
    """Find pairs whose hashes are close and whose thumbnails agree, as they are or with one of them mirrored.

    Rows with equal pixels are not reported; the first of them stands for all. Of more than 64 rows with one hash (black
    frames, say), each is linked to the first it is like and that one stands for it. So families of copies are whole,
    while the number of pairs stays about linear in the rows. The order of the rows does not change what is found.

    Args:
        facts: of the rows to compare; those whose picture cannot be used are passed over.
        radius: largest Hamming distance of two hashes.
        min_similarity: least `ThumbnailLikeness`. Measured on photographs and drawn faces: copies down to JPEG quality 30
            or 0.35 of the size have .990 and more, neighbouring frames of one video .988 at most.

    Returns:
        The pairs in the order of their rows; `first` is the smaller row number.
    """
    usable = np.flatnonzero(facts.status == FileStatus.ok)
    usable = usable[np.argsort(facts.rows[usable], kind="stable")]
    _, first_of_content = np.unique(facts.contents[usable], axis=0, return_index=True)
    nodes = usable[np.sort(first_of_content)]
    likeness = ThumbnailLikeness(facts.thumbnails, nodes)
    found, standing = _link_equal_hashes(facts.hashes[nodes], likeness, min_similarity)
    hashes, mirrored_hashes = facts.hashes[nodes[standing]], facts.mirrored_hashes[nodes[standing]]
    for others in (None, mirrored_hashes):
        for block in _position_blocks(hashes, others, radius):
            pairs = np.sort(standing[block[block[:, 0] != block[:, 1]]], axis=1)
            found.append(_verified(pairs, likeness, min_similarity, mirrored=others is not None))
    links = _best_of_each(np.concatenate([np.empty(0, dtype=_LINK), *found]))
    first, second, swapped = nodes[links["first"]], nodes[links["second"]], links["mirrored"]
    plain, mirrored = facts.hashes, facts.mirrored_hashes
    distance = np.bitwise_count(plain[first] ^ np.where(swapped, mirrored[second], plain[second]))
    backwards = np.bitwise_count(plain[second] ^ np.where(swapped, mirrored[first], plain[first]))
    return NearPairs(
        first=facts.rows[first],
        second=facts.rows[second],
        distance=np.minimum(distance, backwards).astype(np.int64),
        similarity=links["similarity"].copy(),
        mirrored=swapped.copy(),
    )
