"""Builds a manifest: draws the generated FER set, or reads a folder-per-class tree."""

import csv
import io
import logging
import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fer_lightning.data.manifest import Manifest, read_manifest
from fer_lightning.data.sources.config import BuildConfig, BuildMode
from fer_lightning.data.sources.folder import FolderRow, read_folder_tree
from fer_lightning.data.splits import carve_split
from fer_lightning.errors import FerError
from fer_lightning.files import write_text_atomically
from fer_lightning.pipeline.config import BuildManifestRun
from fer_lightning.reports.tables import text_table

log = logging.getLogger(__name__)


def build_manifest(run: BuildManifestRun) -> None:
    """Build the configured manifest and say what is in it.

    Raises:
        FerError: an unreadable tree, or an existing manifest that would change.
    """
    path = _draw(run.build) if run.build.mode is BuildMode.generated else _read_tree(run.build)
    root = None if run.build.tree is None else Path(run.build.tree)
    log.info("%s", _summary(read_manifest(path, root=root)))
    hint = "" if root is None or path.parent == root else f" data.root={root}"
    log.info("wrote %s; train with data.manifest=%s%s", path, path, hint)


def _draw(build: BuildConfig) -> Path:
    """Draw the generated set."""
    from fer_lightning.data.sources.generated import GeneratedSetSpec, generate_set  # OpenCV

    root = Path(build.output)
    if (root / "manifest.csv").exists() and not build.overwrite:
        raise FerError(
            f"{root / 'manifest.csv'} exists; add build.overwrite=true to draw it again, or another build.output"
        )
    spec = GeneratedSetSpec(
        num_images=build.num_images,
        seed=build.seed,
        exact_duplicates=build.exact_duplicates,
        near_duplicates=build.near_duplicates,
    )
    with tqdm(desc=f"drawing {root}", unit="image", disable=None) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        generated = generate_set(root, spec, num_workers=os.cpu_count() or 1, progress=advance)
    for planted in generated.planted:
        log.info("planted: %s", planted)
    return generated.manifest


def _read_tree(build: BuildConfig) -> Path:
    """Read a folder-per-class tree."""
    tree = Path(build.tree or ".")
    path = Path(build.output) if build.output else tree / "manifest.csv"
    rows = read_folder_tree(tree)
    splits = _splits(rows, build)
    text = _to_csv(
        ["image_path", "label", "split", "source"],
        [[row.image_path, row.label, split, build.source_name] for row, split in zip(rows, splits, strict=True)],
    )
    if path.is_dir():
        raise FerError(f"build.output: {path} is a folder; name the manifest file")
    if path.exists() and path.read_bytes() != text.encode() and not build.overwrite:
        raise FerError(f"{path} exists and would change; add build.overwrite=true, or another build.output")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, text)
    return path


def _splits(rows: list[FolderRow], build: BuildConfig) -> list[str]:
    """Carve test and val from a tree without splits, and val from one without val; equal files stay on one side."""
    wanted: list[tuple[str, float]] = []
    if rows[0].split is None:
        wanted = [("test", build.test_fraction), ("val", build.val_fraction / (1 - build.test_fraction))]
    elif all(row.split != "val" for row in rows):
        wanted = [("val", build.val_fraction)]  # a run would carve it without knowing which files are equal
    header = ["image_path", "label", "split", "source", "content"]
    text = _to_csv(header, [[row.image_path, row.label, "train", build.source_name, row.content] for row in rows])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "manifest.csv"
        file.write_text(text, encoding="utf-8")
        manifest = read_manifest(file)
    splits = np.array([row.split or "train" for row in rows], dtype="<U5")
    for split, fraction in wanted:
        left = np.flatnonzero(splits == "train")
        if fraction > 0 and len(left):
            carved = carve_split(manifest, left, fraction=fraction, group_columns=["content"], seed=build.seed)
            splits[left[carved]] = split
    return [str(split) for split in splits]


def _to_csv(header: list[str], rows: list[list[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _summary(manifest: Manifest) -> str:
    """Return rows per source and split."""
    counts = Counter(zip(manifest.sources.tolist(), manifest.splits.tolist(), strict=True))
    sources = sorted({source for source, _ in counts})
    rows = [[source, *(str(counts[source, split]) for split in ("train", "val", "test"))] for source in sources]
    return text_table(["source", "train", "val", "test"], rows)
