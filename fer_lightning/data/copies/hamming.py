"""Pairs of 64-bit hashes within a Hamming radius, without comparing all pairs."""

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

_HASH_BITS = 64
_BLOCK = 1 << 20  # pairs compared at a time: some 50 MB


def close_blocks(
    hashes: NDArray[np.uint64], others: NDArray[np.uint64] | None, *, radius: int
) -> Iterator[NDArray[np.int64]]:
    """Yield every pair within a Hamming radius once, a block at a time, in no particular order.

    Multi-index hashing (Norouzi et al. 2012, https://arxiv.org/abs/1307.2982): the bits are cut into at least three
    bands, so many that a pair within the radius has a band in which at most two bits differ (pigeonhole principle).
    Per band, the hashes are looked up in a table under their band's value with zero, one and two bits flipped.
    Work grows with the number of hashes and of the pairs that share such a band; equal hashes should be given once.

    Args:
        hashes: (n,) hashes.
        others: (m,) hashes to compare with; None: pairs within `hashes`, each once, in either order.
        radius: in 0..64.

    Yields:
        (k, 2) positions in `hashes` and in `others`.
    """
    num_bands = max(3, radius // 3 + 1)
    flips = radius // num_bands
    edges = np.linspace(0, _HASH_BITS, num_bands + 1).astype(np.int64).tolist()
    bands = [(low, high - low) for low, high in pairwise(edges)]
    for number, (low, bits) in enumerate(bands):
        earlier = [_band_mask(*band) for band in bands[:number]]
        for pairs, differing in _pairs_of_band(hashes, others, low, bits, flips):
            new = np.bitwise_count(differing) <= radius
            for mask in earlier:  # what an earlier band has found is not told again
                new[new] = np.bitwise_count(differing[new] & mask) > flips
            if new.any():
                yield pairs[new]


def _band_mask(low: int, bits: int) -> np.uint64:
    return np.uint64(((1 << bits) - 1) << low)


def _pairs_of_band(
    hashes: NDArray[np.uint64], others: NDArray[np.uint64] | None, low: int, bits: int, flips: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint64]]]:
    """Yield pairs whose values of one band differ in at most `flips` bits, and in which bits the hashes differ."""
    values, order = _sorted_by_band(hashes, low, bits)
    other_values, other_order = (values, order) if others is None else _sorted_by_band(others, low, bits)
    known = hashes[order], (hashes if others is None else others)[other_order]
    other_sizes = np.bincount(other_values, minlength=1 << bits)
    other_starts = np.cumsum(other_sizes) - other_sizes
    occupied = other_sizes > 0  # small enough for the processor's cache, and most looks end here
    buckets, starts, sizes = np.unique(values, return_index=True, return_counts=True)
    for flipped in _flip_masks(bits, flips):
        wanted = buckets ^ flipped
        hit = occupied[wanted]
        if others is None:
            hit &= wanted >= buckets  # each pair of buckets once
        wanted, hit_starts, hit_sizes = wanted[hit], starts[hit], sizes[hit]
        members = _ranges(hit_starts, hit_sizes)
        lengths = np.repeat(other_sizes[wanted], hit_sizes)
        first_others = np.repeat(other_starts[wanted], hit_sizes)
        if others is None and flipped == 0:  # within a bucket: those behind a member
            lengths -= members - first_others + 1
            first_others = members + 1
        for first, second in expand(members, first_others, lengths):
            yield np.stack([order[first], other_order[second]], axis=1), known[0][first] ^ known[1][second]


def _sorted_by_band(hashes: NDArray[np.uint64], low: int, bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    values = ((hashes & _band_mask(low, bits)) >> np.uint64(low)).astype(np.int64)
    order = np.argsort(values, kind="stable")
    return values[order], order


def _flip_masks(bits: int, flips: int) -> Iterator[int]:
    for count in range(min(flips, bits) + 1):
        for chosen in combinations(range(bits), count):
            yield sum(1 << bit for bit in chosen)


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers start..start+length-1 of each range, one after another."""
    before = np.cumsum(lengths) - lengths
    numbers: NDArray[np.int64] = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return numbers


def expand(
    members: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pair each member with its range of partners, a block at a time.

    Args:
        members: (n,) numbers.
        starts: (n,) first partner of each.
        lengths: (n,) how many partners each has.

    Yields:
        (k,) members and (k,) partners; k is about a million at most, unless one member has more.
    """
    total = np.cumsum(lengths)
    if not len(total) or not total[-1]:
        return
    cuts = np.searchsorted(total, np.arange(_BLOCK, int(total[-1]) + _BLOCK, _BLOCK), side="right")
    bounds = np.unique(np.concatenate([[0], cuts, [len(members)]])).tolist()
    for begin, end in pairwise(bounds):
        part = slice(begin, end)
        yield np.repeat(members[part], lengths[part]), _ranges(starts[part], lengths[part])
