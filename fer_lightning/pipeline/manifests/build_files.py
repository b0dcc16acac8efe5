"""What a build leaves: the manifest, the list of dropped items, the report; and what it says on the console."""

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.data.building.config import BuildConfig
from fer_lightning.data.building.settling import Settled
from fer_lightning.data.rows.manifest import SPLITS, Manifest, read_manifest
from fer_lightning.data.rows.manifest_text import csv_text, manifest_text
from fer_lightning.data.sources.config import SourceConfig
from fer_lightning.errors import FerError
from fer_lightning.files import write_text_atomically
from fer_lightning.labels import EMOTIONS
from fer_lightning.reports.tables import text_table
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.build_report import BuildReport, BuiltSource, InputManifest, report_path

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A settled composition and how it came about."""

    settled: Settled
    inputs: Sequence[InputManifest]
    data_sets: Mapping[str, SourceConfig]
    """Of a build from data sets."""


def dropped_path(manifest: Path) -> Path:
    """Return the place of the list of items that became no row."""
    return manifest.with_name(f"{manifest.stem}.dropped.csv")


def write_build(outcome: Outcome, build: BuildConfig, *, path: Path, root: Path) -> BuildReport:
    """Write manifest, dropped items and report; the same input gives the same bytes.

    Raises:
        FerError: an existing manifest that would change, or a row that no manifest may hold.
    """
    manifest = outcome.settled.composition.finished()
    text = manifest_text(manifest)
    if path.exists() and path.read_bytes() != text.encode() and not build.overwrite:
        raise FerError(f"{path} exists and would change; add build.overwrite=true, or another build.output")
    sha256 = _read_back(text, path, root)
    report = _report(outcome, build, manifest, sha256=sha256, root=root)
    path.parent.mkdir(parents=True, exist_ok=True)
    drops = sorted(outcome.settled.composition.removed, key=lambda drop: drop.source)
    rows = [(drop.source, drop.item, drop.reason, drop.detail) for drop in drops]
    write_text_atomically(dropped_path(path), csv_text(["source", "item", "reason", "detail"], rows))
    write_text_atomically(path, text)
    write_artifact(report_path(path), report)
    return report


def _read_back(text: str, path: Path, root: Path) -> str:
    """Read the text as training will, before it replaces anything; return its SHA-256."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        write_text_atomically(copy, text)
        return read_manifest(copy, root=root).sha256


def _report(outcome: Outcome, build: BuildConfig, manifest: Manifest, *, sha256: str, root: Path) -> BuildReport:
    counts = Counter(
        zip(manifest.sources.tolist(), manifest.splits.tolist(), manifest.labels.tolist(), strict=True),
    )
    path = outcome.settled.composition.manifest.path
    names = {*outcome.settled.composition.preference, *(drop.source for drop in outcome.settled.composition.removed)}
    return BuildReport(
        manifest=path.name,
        manifest_sha256=sha256,
        root=Path(os.path.relpath(root, path.parent)).as_posix(),
        mode=build.mode.value,
        clean=build.clean,
        min_side=build.min_side,
        test_fraction=build.test_fraction,
        val_fraction=build.val_fraction,
        seed=build.seed,
        inputs=list(outcome.inputs),
        sources={name: _source(outcome, name, counts) for name in sorted(names)},
        leaks_left=dict(outcome.settled.leaks),
    )


def _source(outcome: Outcome, name: str, counts: Mapping[tuple[str, str, int], int]) -> BuiltSource:
    composition, data_set = outcome.settled.composition, outcome.data_sets.get(name)
    reasons = Counter(drop.reason for drop in composition.removed if drop.source == name)
    rows = {
        split: {emotion: counts.get((name, split, label), 0) for label, emotion in enumerate(EMOTIONS)}
        for split in SPLITS
    }
    carved = outcome.settled.carved.get(name)
    return BuiltSource(
        kind="manifest" if data_set is None else data_set.kind.value,
        path=None if data_set is None else data_set.path,
        items=sum(sum(by_label.values()) for by_label in rows.values()) + reasons.total(),
        rows=rows,
        dropped=dict(sorted(reasons.items(), key=lambda entry: (-entry[1], entry[0]))),
        carved={} if carved is None else dict(carved.rows),
        pinned=0 if carved is None else carved.pinned,
        notes=list(composition.notes.get(name, [])),
    )


def show_build(report: BuildReport, path: Path) -> None:
    """Say per source how many rows each split has, and what was dropped for which reason."""
    rows = [
        [
            name,
            *(str(sum(source.rows[split].values())) for split in SPLITS),
            str(sum(source.dropped.values())),
            str(source.items),
        ]
        for name, source in report.sources.items()
    ]
    log.info("%s", text_table(["source", *SPLITS, "dropped", "items"], rows))
    drops = [
        [f"{name}: {reason}", str(count)]
        for name, source in report.sources.items()
        for reason, count in source.dropped.items()
    ]
    if drops:
        log.info("dropped, listed in %s:\n%s", dropped_path(path), text_table(["source: reason", "items"], drops))
    for name, source in report.sources.items():
        for note in source.notes:
            log.info("%s: %s", name, note)
        if source.pinned:
            log.info("%s: %d rows were placed beside a copy, photo or subject in another source", name, source.pinned)
