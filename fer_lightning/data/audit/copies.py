"""Findings about copies: equal pixels and near copies, within a split, across sources, under different labels."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.audit.findings import Finding, rows_finding
from fer_lightning.data.copies.near_duplicates import NearPairs
from fer_lightning.data.pictures.image_facts import FileStatus, ImageFacts
from fer_lightning.data.rows.manifest import Manifest


class SharedPixels(NamedTuple):
    """How many pictures two sources have in common, pixel by pixel."""

    source: str
    other: str
    pictures: int


def equal_pixels(facts: ImageFacts) -> list[list[int]]:
    """Return the groups of rows whose pixels are equal, each in row order, by their first row."""
    usable = np.flatnonzero(facts.status == FileStatus.ok)
    contents, rows = facts.contents[usable], facts.rows[usable]
    order = np.lexsort((rows, contents[:, 1], contents[:, 0]))
    changes = np.flatnonzero(np.any(np.diff(contents[order], axis=0) != 0, axis=1)) + 1
    groups = [group.tolist() for group in np.split(rows[order], changes) if len(group) > 1]
    return sorted(groups)


def copy_findings(manifest: Manifest, groups: Iterable[list[int]]) -> list[Finding]:
    """Return what is wrong with rows of equal pixels; that they lie in different splits is left to the leaks."""
    findings = []
    for rows in groups:
        if len({int(manifest.labels[row]) for row in rows}) > 1:
            findings.append(rows_finding("conflicting_copies", manifest, rows, "equal pixels"))
        if len({str(manifest.sources[row]) for row in rows}) > 1:
            findings.append(rows_finding("copies_across_sources", manifest, rows, "equal pixels"))
        cells = defaultdict(list)
        for row in rows:
            cells[str(manifest.splits[row]), str(manifest.sources[row])].append(row)
        for _, members in sorted(cells.items()):
            if len(members) > 1:
                findings.append(rows_finding("exact_copies", manifest, members, "equal pixels"))
    return findings


def near_copy_findings(manifest: Manifest, near: NearPairs) -> list[Finding]:
    """Return near copies within a split, and those under different labels wherever they are."""
    same_split = manifest.splits[near.first] == manifest.splits[near.second]
    conflicting = manifest.labels[near.first] != manifest.labels[near.second]
    return [
        *_near_groups("near_copies", manifest, near, same_split),
        *_near_groups("conflicting_near_copies", manifest, near, conflicting),
    ]


def _near_groups(kind: str, manifest: Manifest, near: NearPairs, chosen: NDArray[np.bool_]) -> list[Finding]:
    pairs = np.flatnonzero(chosen)
    group_of = _linked(near.first[pairs].tolist(), near.second[pairs].tolist())
    members: defaultdict[int, set[int]] = defaultdict(set)
    links: defaultdict[int, list[int]] = defaultdict(list)
    for pair in pairs.tolist():
        group = group_of[int(near.first[pair])]
        members[group] |= {int(near.first[pair]), int(near.second[pair])}
        links[group].append(pair)
    return [
        rows_finding(kind, manifest, sorted(members[group]), _alike(near, np.asarray(links[group])))
        for group in sorted(members)
    ]


def _alike(near: NearPairs, pairs: NDArray[np.int64]) -> str:
    lowest = near.similarity[pairs].min()
    mirrored = " (mirrored)" if near.mirrored[pairs].all() else " (some mirrored)" if near.mirrored[pairs].any() else ""
    return f"likeness {'' if len(pairs) == 1 else 'at least '}{lowest:.3f}{mirrored}"


def _linked(first: list[int], second: list[int]) -> dict[int, int]:
    """Return row -> smallest row of those linked to it through pairs."""
    parent: dict[int, int] = {}

    def find(node: int) -> int:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for one, other in zip(first, second, strict=True):
        low, high = sorted((find(one), find(other)))
        parent[high] = low
    return {node: find(node) for node in list(parent)}


def shared_pixels(manifest: Manifest, groups: Iterable[list[int]]) -> list[SharedPixels]:
    """Count the pictures that each two sources have in common."""
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    for rows in groups:
        sources = sorted({str(manifest.sources[row]) for row in rows})
        for place, source in enumerate(sources):
            for other in sources[place + 1 :]:
                counts[source, other] += 1
    return [SharedPixels(source, other, count) for (source, other), count in sorted(counts.items())]


def leak_detail(manifest: Manifest, kind: str, value: str, rows: Iterable[int]) -> str:
    """Say what rows of different splits share, and how many each split has."""
    counts: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        counts[str(manifest.splits[row])] += 1
    shared = {"content": "equal pixels", "near_content": f"likeness {value}", "image": "one file"}
    where = ", ".join(f"{counts[split]} in {split}" for split in ("train", "val", "test") if counts[split])
    return f"{shared.get(kind, f'{kind} {value}')}; {where}"
