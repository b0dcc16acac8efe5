"""Leaks and families: everything planted is found, against a derivation that compares all pairs."""

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.copies.near_duplicates import NearPairs
from fer_lightning.data.pictures.image_facts import FileStatus, ImageFacts
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.data.splits.leaks import Leak, content_families, find_leaks
from tests.data.conftest import Row, Workshop, make_box, make_row


def facts_with(contents: Sequence[int], *, rows: Sequence[int] | None = None, bad: Sequence[int] = ()) -> ImageFacts:
    """Facts whose contents are these small numbers; `bad` positions have no usable picture."""
    count = len(contents)
    status = np.full(count, FileStatus.ok, dtype=np.uint8)
    status[list(bad)] = FileStatus.truncated
    digests = np.stack([np.full(count, 17), np.asarray(contents)], axis=1).astype(np.uint64)
    digests[list(bad)] = 0
    zeros = np.zeros(count, dtype=np.uint64)
    return ImageFacts(
        rows=np.arange(count) if rows is None else np.asarray(rows, dtype=np.int64),
        status=status,
        heights=np.full(count, 48, dtype=np.int32),
        widths=np.full(count, 48, dtype=np.int32),
        contents=digests,
        hashes=zeros,
        mirrored_hashes=zeros,
        thumbnails=np.zeros((count, 32, 32), dtype=np.uint8),
    )


def near_with(*links: tuple[int, int, float]) -> NearPairs:
    first, second, similarity = zip(*links, strict=True) if links else ((), (), ())
    return NearPairs(
        first=np.asarray(first, dtype=np.int64),
        second=np.asarray(second, dtype=np.int64),
        distance=np.zeros(len(links), dtype=np.int64),
        similarity=np.asarray(similarity, dtype=np.float64),
        mirrored=np.zeros(len(links), dtype=np.bool_),
    )


def by_split(manifest: Manifest) -> dict[str, NDArray[np.int64]]:
    return {split: np.flatnonzero(manifest.splits == split) for split in ("train", "val", "test")}


def leaks_of(
    manifest: Manifest,
    *,
    columns: Sequence[str] = (),
    facts: ImageFacts | None = None,
    near: NearPairs | None = None,
) -> list[Leak]:
    return find_leaks(manifest, by_split(manifest), group_columns=columns, facts=facts, near=near)


def rows_of(splits: str) -> list[Row]:
    """A row per letter: t(rain), v(al), e (test)."""
    names = {"t": "train", "v": "val", "e": "test"}
    return [make_row(f"{number}.png", split=names[letter]) for number, letter in enumerate(splits)]


def test_faces_of_one_photo_on_two_sides(workshop: Workshop) -> None:
    rows = [
        make_row("p/a.png", split="train", **make_box(0, 0, 5, 5)),
        make_row("p/b.png", split="train", **make_box(0, 0, 5, 5)),
        make_row("p/./a.png", split="val", **make_box(0, 0, 5, 6)),
        make_row("p/b.png", split="train", **make_box(0, 0, 5, 6)),
        make_row("p\\a.png", split="train", **make_box(0, 0, 5, 7)),
    ]
    assert leaks_of(workshop.read(rows)) == [Leak("image", "p/a.png", (0, 2, 4))]


def test_group_columns_are_compared_within_a_source(workshop: Workshop) -> None:
    rows = [
        make_row("0.png", split="train", subject="7", orig_image="x"),
        make_row("1.png", split="test", subject="7", orig_image=""),
        make_row("2.png", split="test", subject="7", source="rafdb_basic", orig_image="x"),
        make_row("3.png", split="val", subject="", orig_image=""),
        make_row("4.png", split="train", subject="", orig_image="y"),
        make_row("5.png", split="train", subject="8", orig_image="y"),
        make_row("6.png", split="val", subject="9", orig_image="x"),
    ]
    manifest = workshop.read(rows)
    subject, photo = Leak("subject", "7", (0, 1)), Leak("orig_image", "x", (0, 6))
    assert leaks_of(manifest, columns=["subject", "orig_image", "face_id", "absent"]) == [subject, photo]
    assert leaks_of(manifest, columns=["orig_image", "subject", "subject"]) == [photo, subject]
    assert leaks_of(manifest) == []


def test_only_the_rows_given_count(workshop: Workshop) -> None:
    rows = [make_row(f"{number}.png", split="train", subject="7") for number in range(4)]
    manifest = workshop.read(rows)
    carved = {"train": np.array([1]), "val": np.array([3]), "test": np.array([], dtype=np.int64)}
    assert find_leaks(manifest, carved, group_columns=["subject"]) == [Leak("subject", "7", (1, 3))]
    carved["val"] = np.array([], dtype=np.int64)
    assert find_leaks(manifest, carved, group_columns=["subject"]) == []


def test_equal_pixels_on_two_sides(workshop: Workshop) -> None:
    manifest = workshop.read(rows_of("ttevvtt"))
    facts = facts_with([5, 6, 5, 7, 7, 6, 5], bad=[])
    assert leaks_of(manifest, facts=facts) == [Leak("content", f"{17:016x}{5:016x}", (0, 2, 6))]
    order = np.array([3, 6, 0, 2, 5, 4, 1])
    shuffled = facts_with([[5, 6, 5, 7, 7, 6, 5][row] for row in order], rows=order.tolist())
    assert leaks_of(manifest, facts=shuffled) == leaks_of(manifest, facts=facts)


def test_rows_without_a_usable_picture_share_nothing(workshop: Workshop) -> None:
    manifest = workshop.read(rows_of("tev"))
    assert leaks_of(manifest, facts=facts_with([1, 1, 2], bad=[0, 1, 2])) == []


def test_near_duplicates_leak_as_a_family(workshop: Workshop) -> None:
    manifest = workshop.read(rows_of("ttvetvtt"))
    near = near_with((0, 1, 0.999), (1, 2, 0.991), (4, 6, 0.995))
    assert leaks_of(manifest, near=near) == [Leak("near_content", "0.991", (0, 1, 2))]
    facts = facts_with([0, 1, 2, 3, 4, 3, 6, 7])
    equal = Leak("content", f"{17:016x}{3:016x}", (3, 5))
    assert leaks_of(manifest, facts=facts, near=near) == [equal, Leak("near_content", "0.991", (0, 1, 2))]


def test_a_near_duplicate_of_an_equal_picture_leaks_too(workshop: Workshop) -> None:
    manifest = workshop.read(rows_of("ttet"))
    facts = facts_with([1, 2, 1, 3])  # 2 has the pixels of 0, which 1 is a copy of: so 1 is a copy of 2
    near = near_with((0, 1, 1.0))
    equal = Leak("content", f"{17:016x}{1:016x}", (0, 2))
    assert leaks_of(manifest, facts=facts, near=near) == [equal, Leak("near_content", "1.000", (0, 1, 2))]


def test_clean_splits_have_no_leaks(workshop: Workshop) -> None:
    rows = [make_row(f"{number}.png", split=split, subject=split) for number, split in enumerate(["train", "val"] * 3)]
    facts, near = facts_with([1, 2, 1, 2, 5, 6]), near_with((0, 4, 0.99), (1, 5, 0.99))
    assert leaks_of(workshop.read(rows), columns=["subject"], facts=facts, near=near) == []
    assert leaks_of(workshop.read(rows), facts=facts, near=near_with()) == []


def all_pairs_families(count: int, contents: Sequence[int], near: NearPairs) -> list[int]:
    """Merge sets until nothing changes."""
    links = {pair for pair in combinations(range(count), 2) if contents[pair[0]] == contents[pair[1]]}
    links |= set(zip(near.first.tolist(), near.second.tolist(), strict=True))
    family = list(range(count))
    changed = True
    while changed:
        changed = False
        for one, other in links:
            low = min(family[one], family[other])
            changed |= family[one] != low or family[other] != low
            family[one] = family[other] = low
    return family


@pytest.mark.parametrize("seed", range(5))
def test_families_equal_merging_all_pairs(seed: int) -> None:
    random = np.random.default_rng(seed)
    contents = random.integers(0, 45, 60).tolist()
    near = near_with(*[(int(a), int(b), 0.99) for a, b in np.sort(random.integers(0, 60, (25, 2)), axis=1) if a < b])
    assert content_families(60, facts_with(contents), near).tolist() == all_pairs_families(60, contents, near)
    none = near_with()
    assert content_families(60, facts_with(contents)).tolist() == all_pairs_families(60, contents, none)
    assert content_families(60, facts_with(contents), none).tolist() == all_pairs_families(60, contents, none)


def test_a_long_chain_is_one_family() -> None:
    order = np.random.default_rng(0).permutation(500)
    near = near_with(*[(min(a, b), max(a, b), 0.99) for a, b in pairwise(order.tolist())])
    assert content_families(501, facts_with(range(500)), near).tolist() == [0] * 500 + [500]


def test_rows_without_facts_are_families_of_their_own() -> None:
    facts = facts_with([1, 1, 1, 1], rows=[4, 1, 0, 2], bad=[2])
    assert content_families(6, facts).tolist() == [0, 1, 1, 3, 1, 5]


def test_renditions_of_one_data_set_share_their_photos(workshop: Workshop) -> None:
    rows = [
        make_row("crops/a_0.png", source="expw_hq", split="train", orig_image="a.jpg"),
        make_row("photos/a.jpg", source="expw_full", split="test", orig_image="a.jpg"),
        make_row("other/a.png", source="lab", split="val", orig_image="a.jpg"),
    ]
    manifest = workshop.read(rows)
    by_split = {split: np.flatnonzero(manifest.splits == split) for split in ("train", "val", "test")}
    leaks = find_leaks(manifest, by_split, group_columns=["orig_image"])
    assert [(leak.kind, leak.rows) for leak in leaks] == [("orig_image", (0, 1))]
