"""Close hashes against comparing all pairs, and copies of pictures against pictures that only look alike."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.copies import hamming
from fer_lightning.data.copies import near_duplicates as module
from fer_lightning.data.copies.near_duplicates import NearPairs, hamming_pairs, near_duplicates
from fer_lightning.data.pictures.fingerprints import content_digest, perceptual_hashes, thumbnail
from fer_lightning.data.pictures.image_facts import FileStatus, ImageFacts

Hashes = NDArray[np.uint64]
Picture = NDArray[np.uint8]


def random_hashes(count: int, seed: int = 0) -> Hashes:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def flip(hashes: Hashes, bits: int, seed: int = 1) -> Hashes:
    random = np.random.default_rng(seed)
    masks = [sum(1 << int(bit) for bit in random.choice(64, bits, replace=False)) for _ in hashes]
    return hashes ^ np.array(masks, dtype=np.uint64)


def all_pairs(hashes: Hashes, others: Hashes | None, radius: int) -> list[tuple[int, int]]:
    right = (hashes if others is None else others).tolist()
    return [
        (i, j)
        for i, one in enumerate(hashes.tolist())
        for j, other in enumerate(right)
        if (others is not None or i < j) and (one ^ other).bit_count() <= radius
    ]


def as_tuples(pairs: NDArray[np.int64]) -> list[tuple[int, int]]:
    return [(int(i), int(j)) for i, j in pairs]


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 5, 8, 9, 12, 17])
def test_every_close_pair_is_found_once(radius: int) -> None:
    base = random_hashes(60)
    planted = [flip(base[:30], bits, seed=bits) for bits in (0, 1, radius, radius + 1)]
    hashes = np.random.default_rng(2).permutation(np.concatenate([base, *planted]))
    assert as_tuples(hamming_pairs(hashes, radius=radius)) == all_pairs(hashes, None, radius)
    assert as_tuples(hamming_pairs(hashes, base, radius=radius)) == all_pairs(hashes, base, radius)


@pytest.mark.parametrize("mask", [0x0F0F, 0x8000_0000_0000_0001, 0x0000_FFFF_0000_0000])
def test_hashes_that_differ_in_few_places_only(mask: int) -> None:
    hashes = random_hashes(150, seed=3) & np.uint64(mask)  # crowded buckets, equal hashes
    assert as_tuples(hamming_pairs(hashes, radius=3)) == all_pairs(hashes, None, 3)
    assert as_tuples(hamming_pairs(hashes[:50], hashes, radius=3)) == all_pairs(hashes[:50], hashes, 3)


def test_pairs_are_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hamming, "_BLOCK", 7)
    hashes = random_hashes(80, seed=4) & np.uint64(0xFFF0)
    assert as_tuples(hamming_pairs(hashes, radius=4)) == all_pairs(hashes, None, 4)


@pytest.mark.parametrize("radius", [40, 64])
def test_a_radius_beyond_use_is_still_right(radius: int) -> None:
    hashes = random_hashes(12)
    assert as_tuples(hamming_pairs(hashes, radius=radius)) == all_pairs(hashes, None, radius)


def test_few_or_no_hashes() -> None:
    none = np.empty(0, dtype=np.uint64)
    for hashes, others in ((none, None), (none, random_hashes(2)), (random_hashes(2), none), (random_hashes(1), None)):
        assert hamming_pairs(hashes, others, radius=8).shape == (0, 2)
    with pytest.raises(ValueError, match=r"radius is 65; expected 0\.\.64"):
        hamming_pairs(none, radius=65)


def draw(seed: int, size: int = 120) -> Picture:
    """Blurred noise with strokes over it: as in a photograph, most of it is smooth and some of it is sharp."""
    random = np.random.default_rng(seed)
    picture = cv2.resize(
        random.integers(30, 220, (7, 7, 3), dtype=np.uint8), (size, size), interpolation=cv2.INTER_CUBIC
    )
    for _ in range(6):
        start, end = random.integers(0, size, (2, 2)).tolist()
        cv2.line(picture, start, end, random.integers(0, 255, 3).tolist(), 3, cv2.LINE_AA)
    return picture.astype(np.uint8)


def jpeg(picture: Picture, quality: int) -> Picture:
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)


def scaled(picture: Picture, factor: float) -> Picture:
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=how), dtype=np.uint8)


def facts_of(pictures: list[Picture]) -> ImageFacts:
    thumbnails = np.stack([thumbnail(picture) for picture in pictures])
    hashes, mirrored = perceptual_hashes(thumbnails)
    return ImageFacts(
        rows=np.arange(len(pictures)),
        status=np.full(len(pictures), FileStatus.ok, dtype=np.uint8),
        heights=np.array([len(picture) for picture in pictures], dtype=np.int32),
        widths=np.array([picture.shape[1] for picture in pictures], dtype=np.int32),
        contents=np.stack([content_digest(picture) for picture in pictures]),
        hashes=hashes,
        mirrored_hashes=mirrored,
        thumbnails=thumbnails,
    )


def pairs_of(near: NearPairs) -> set[tuple[int, int]]:
    return set(zip(near.first.tolist(), near.second.tolist(), strict=True))


COPIES: dict[str, Callable[[Picture], object]] = {
    "quality 30": lambda picture: jpeg(picture, 30),
    "quality 95": lambda picture: jpeg(picture, 95),
    "a third": lambda picture: scaled(picture, 0.35),
    "twice": lambda picture: scaled(picture, 2.0),
    "smaller and encoded": lambda picture: jpeg(scaled(picture, 0.8), 60),
    "brighter": lambda picture: cv2.convertScaleAbs(picture, alpha=1.08, beta=6),
    "grey": lambda picture: np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
}


@pytest.mark.parametrize("change", COPIES)
def test_copies_are_found_and_nothing_else(change: str) -> None:
    originals = [draw(seed) for seed in range(40)]
    copies = [np.asarray(COPIES[change](picture), dtype=np.uint8) for picture in originals[:20]]
    near = near_duplicates(facts_of(originals + copies))
    assert pairs_of(near) == {(number, 40 + number) for number in range(20)}
    assert not near.mirrored.any()
    assert (near.distance <= 8).all()
    assert ((near.similarity > 0.989) & (near.similarity <= 1)).all()
    assert near.first.tolist() == sorted(near.first.tolist())


def test_mirrored_copies_are_found() -> None:
    originals = [draw(seed) for seed in range(30)]
    copies = [jpeg(np.ascontiguousarray(picture[:, ::-1]), 80) for picture in originals[:10]]
    near = near_duplicates(facts_of(copies + originals))
    assert pairs_of(near) == {(number, 10 + number) for number in range(10)}
    assert near.mirrored.all()
    assert (near.distance <= 8).all()


def test_a_symmetric_picture_is_one_plain_pair_and_no_copy_of_itself() -> None:
    half = draw(1)
    symmetric = np.concatenate([half, half[:, ::-1]], axis=1)
    near = near_duplicates(facts_of([symmetric, scaled(symmetric, 0.5), draw(2)]))
    assert pairs_of(near) == {(0, 1)}
    assert near.mirrored.tolist() == [False]


def test_equal_pixels_are_left_to_contents() -> None:
    picture, other = draw(1), draw(2)
    near = near_duplicates(facts_of([other, picture, picture, jpeg(picture, 60), picture]))
    assert pairs_of(near) == {(1, 3)}  # the first of the equal ones stands for all


def test_unusable_rows_are_passed_over() -> None:
    facts = facts_of([draw(1), jpeg(draw(1), 60), jpeg(draw(1), 80)])
    facts.status[1] = FileStatus.truncated
    assert pairs_of(near_duplicates(facts)) == {(0, 2)}
    facts.status[:] = FileStatus.missing
    assert len(near_duplicates(facts).first) == 0


def test_order_of_rows_does_not_matter() -> None:
    pictures = [draw(seed) for seed in range(12)]
    pictures += [jpeg(picture, 40) for picture in pictures] + [scaled(picture, 0.6) for picture in pictures[:5]]
    facts = facts_of(pictures)
    order = np.random.default_rng(0).permutation(len(pictures))
    shuffled = replace(facts, **{name: getattr(facts, name)[order] for name in ImageFacts.__dataclass_fields__})
    one, other = near_duplicates(facts), near_duplicates(shuffled)
    assert len(one.first) >= 12 + 2 * 5
    for name in NearPairs.__dataclass_fields__:
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_many_equal_hashes_are_linked_in_a_star() -> None:
    black = [np.zeros((side, 40, 3), dtype=np.uint8) for side in range(20, 120)]  # flat: one hash, other contents
    near = near_duplicates(facts_of([draw(1), *black]))
    assert pairs_of(near) == {(1, row) for row in range(2, 101)}
    assert near.similarity.tolist() == [1.0] * 99


def test_pictures_that_share_a_hash_but_nothing_else_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MANY_EQUAL_HASHES", 3)
    pictures = [draw(seed) for seed in (1, 2, 3)]
    pictures += [jpeg(picture, quality) for picture in pictures for quality in (90, 70)]
    facts = facts_of(pictures)
    facts.hashes[:], facts.mirrored_hashes[:] = 1, 2**64 - 1
    families = {(0, 3), (0, 4), (1, 5), (1, 6), (2, 7), (2, 8)}
    assert pairs_of(near_duplicates(facts)) == families
    monkeypatch.setattr(module, "_MANY_EQUAL_HASHES", 64)
    assert pairs_of(near_duplicates(facts)) == families | {(3, 4), (5, 6), (7, 8)}
