"""Pairs of perceptual hashes within 8 bits: multi-index hashing against comparing all pairs, time and what is found.

Command: python -m benchmarks.near_duplicates
Baseline: the plain loop, each hash against all that follow it, as one numpy operation.
Hashes: uniform ones, and ones that cluster as faces do (a few thousand identities, bits flipped at random), each with
planted copies up to 8 bits away. Both ways run on 100,000 of them in one run; 200,000 is timed for the new way alone.
"""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.copies.near_duplicates import hamming_pairs

_RADIUS, _BOTH, _LARGE = 8, 100_000, 200_000
_COPIES_SHARE = 0.05
_IDENTITIES, _FLIP_PROBABILITY = 3000, 0.22

Hashes = NDArray[np.uint64]


def _pack(bits: NDArray[np.bool_]) -> Hashes:
    return np.packbits(bits, axis=1).view(np.uint64).reshape(-1)


def _with_copies(originals: NDArray[np.bool_], random: np.random.Generator) -> Hashes:
    copies = originals[: int(len(originals) * _COPIES_SHARE)].copy()
    for copy in copies:
        copy[random.choice(64, random.integers(0, _RADIUS + 1), replace=False)] ^= True
    return random.permutation(_pack(np.concatenate([originals, copies])))


def _uniform(count: int) -> Hashes:
    random = np.random.default_rng(0)
    return _with_copies(random.random((int(count / (1 + _COPIES_SHARE)), 64)) < 0.5, random)


def _clustered(count: int) -> Hashes:
    random = np.random.default_rng(1)
    identities = random.random((_IDENTITIES, 64)) < random.beta(0.8, 0.8, 64)  # some bits are the same in most faces
    shown = identities[random.integers(_IDENTITIES, size=int(count / (1 + _COPIES_SHARE)))]
    return _with_copies(shown ^ (random.random(shown.shape) < _FLIP_PROBABILITY), random)


def _all_pairs(hashes: Hashes) -> NDArray[np.int64]:
    found = []
    for row in range(len(hashes)):
        close = np.flatnonzero(np.bitwise_count(hashes[row + 1 :] ^ hashes[row]) <= _RADIUS)
        found.append(np.stack([np.full_like(close, row), close + row + 1], axis=1))
    return np.concatenate(found)


def _indexed(hashes: Hashes) -> NDArray[np.int64]:
    return hamming_pairs(hashes, radius=_RADIUS)


def _timed(find: Callable[[Hashes], NDArray[np.int64]], hashes: Hashes) -> tuple[NDArray[np.int64], float]:
    start = time.perf_counter()
    pairs = find(hashes)
    return pairs, time.perf_counter() - start


def main() -> None:
    """Print one line per kind of hashes."""
    print(f"radius {_RADIUS}; {_BOTH} hashes both ways, then {_LARGE} by multi-index hashing")
    print("hashes      all pairs   indexed   ratio   same pairs       at 200,000   pairs")
    for make in (_uniform, _clustered):
        plain, plain_seconds = _timed(_all_pairs, make(_BOTH))
        indexed, indexed_seconds = _timed(_indexed, make(_BOTH))
        same = f"{len(plain)} {'yes' if np.array_equal(plain, indexed) else 'NO'}"
        large, large_seconds = _timed(_indexed, make(_LARGE))
        print(
            f"{make.__name__[1:]:10s}   {plain_seconds:7.2f} s   {indexed_seconds:5.2f} s   "
            f"{plain_seconds / indexed_seconds:5.1f}   {same:>12s}   {large_seconds:12.2f} s   {len(large)}"
        )


if __name__ == "__main__":
    main()
