"""Refuses rows of different splits that belong together, unless that kind of leak is allowed by name."""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.copies.near_duplicates import near_duplicates
from fer_lightning.data.pictures.image_facts import image_facts
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.data.splits.leaks import Leak, content_families, find_leaks
from fer_lightning.errors import FerError

log = logging.getLogger(__name__)

_COPIES = ("content", "near_content")
_SHOWN = 3


def picture_families(
    manifest: Manifest, rows: NDArray[np.int64], *, store: Path, num_workers: int
) -> NDArray[np.int64]:
    """Number the families of rows that show the same picture or a near copy of it; see `leaks.content_families`."""
    facts = image_facts(manifest, rows, store=store, num_workers=num_workers)
    return content_families(len(manifest), facts, near_duplicates(facts))


def check_leaks(
    manifest: Manifest,
    rows: dict[str, NDArray[np.int64]],
    *,
    group_columns: Sequence[str],
    allowed: Sequence[str],
    store: Path,
    num_workers: int,
) -> dict[str, int]:
    """Look for everything that splits share: columns, files, pixels, near copies.

    Args:
        manifest: the manifest.
        rows: split -> row numbers.
        group_columns: columns whose value may be on one side only.
        allowed: kinds of leak to go on with.
        store: folder of what is known about pictures.
        num_workers: processes that look at pictures.

    Returns:
        Kind -> leaks of the allowed kinds.

    Raises:
        FerError: leaks of another kind; the first are shown, the CSV that is named lists all.
    """
    everything = np.sort(np.concatenate(list(rows.values())))
    facts = image_facts(manifest, everything, store=store, num_workers=num_workers)
    leaks = find_leaks(manifest, rows, group_columns=group_columns, facts=facts, near=near_duplicates(facts))
    split_of = {row: split for split, members in rows.items() for row in members.tolist()}
    refused = [leak for leak in leaks if leak.kind not in allowed]
    if refused:
        raise FerError(_refusal(manifest, refused, split_of, _write_list(manifest, leaks, split_of)))
    counts = dict(sorted(Counter(leak.kind for leak in leaks).items()))
    for kind, count in counts.items():
        log.warning("%s: %d leaks of kind %s between splits, allowed by data.allow_leaks", manifest.path, count, kind)
    return counts


def _refusal(manifest: Manifest, leaks: Sequence[Leak], split_of: dict[int, str], report: str) -> str:
    text = [f"{manifest.path}: rows of different splits belong together:"]
    kinds = list(dict.fromkeys(leak.kind for leak in leaks))
    for kind in kinds:
        of_kind = [leak for leak in leaks if leak.kind == kind]
        num_rows = len({row for leak in of_kind for row in leak.rows})
        text.append(f"  {kind}: {len(of_kind)} leak{'s' if len(of_kind) > 1 else ''} of {num_rows} rows")
        for leak in of_kind[:_SHOWN]:
            first = {split_of[row]: row for row in reversed(leak.rows)}
            sides = sorted(first.items(), key=lambda side: side[1])
            where = " and ".join(
                f"line {manifest.lines[row]} ({split}, {manifest.sources[row]} {manifest.image_paths[row]})"
                for split, row in sides
            )
            text.append(f"    {leak.value}: {where}")
        if len(of_kind) > _SHOWN:
            text.append(f"    ... and {len(of_kind) - _SHOWN} more")
    copies, linked = [kind for kind in kinds if kind in _COPIES], [kind for kind in kinds if kind not in _COPIES]
    text.append(f"All of them: {report}; look at them with task=audit_manifest.")
    if copies:
        text.append(
            f"Copies ({', '.join(copies)}) are dropped by task=build_manifest build=merge "
            f"'build.manifests=[{manifest.path}]' build.output=<new manifest>."
        )
    if linked:
        text.append(f"Give all rows that share one {' or '.join(linked)} the same split in the manifest.")
    text.append(f"Or go on with data.allow_leaks=[{','.join(kinds)}]")
    return "\n".join(text)


def _write_list(manifest: Manifest, leaks: Sequence[Leak], split_of: dict[int, str]) -> str:
    """Write all leaks to `<manifest name>_<sha256>.leaks.csv` in the working directory; the manifest's may be read-only."""
    report = Path(f"{manifest.path.stem}_{manifest.sha256[:8]}.leaks.csv")
    try:
        with report.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["leak", "kind", "value", "line", "split", "source", "image_path"])
            for number, leak in enumerate(leaks, start=1):
                for row in leak.rows:
                    place = (int(manifest.lines[row]), split_of[row], manifest.sources[row], manifest.image_paths[row])
                    writer.writerow([number, leak.kind, leak.value, *place])
    except OSError as error:
        return f"(no list: cannot write {report} here: {error.strerror})"
    return str(report)
