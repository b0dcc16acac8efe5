"""Builds a manifest: drawn, composed of data sets, or joined from manifests; cleaned, split and accounted for."""

import logging
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from fer_lightning.data.building.carving import CarvingPlan
from fer_lightning.data.building.compose import RootedPaths, compose
from fer_lightning.data.building.composition import Composition
from fer_lightning.data.building.config import BuildConfig, BuildMode
from fer_lightning.data.building.merging import RowChoice, join_manifests
from fer_lightning.data.building.settling import Settling, settle
from fer_lightning.data.config import DataConfig
from fer_lightning.data.rows.manifest import SPLITS, read_manifest
from fer_lightning.data.sources.config import SourceConfig, SourceKind
from fer_lightning.data.sources.read import read_source
from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.pipeline.config import BuildManifestRun
from fer_lightning.pipeline.manifests.build_files import Outcome, show_build, write_build
from fer_lightning.runs.build_report import InputManifest, recorded_root

log = logging.getLogger(__name__)


def _draw(build: BuildConfig) -> None:
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
        log.info("planted: %s is an %s copy of %s", planted.image_path, planted.kind.value, planted.original_path)
    manifest = read_manifest(generated.manifest)
    counts = Counter(manifest.splits.tolist())
    log.info("%d rows: %s", len(manifest), ", ".join(f"{counts[split]} {split}" for split in SPLITS))
    log.info("wrote %s; train with data.manifest=%s", generated.manifest, generated.manifest)


def _output(build: BuildConfig) -> Path:
    path = Path(build.output) if build.output else Path(build.tree or ".") / "manifest.csv"
    if path.is_dir():
        raise FerError(f"build.output: {path} is a folder; name the manifest file")
    if any(path.absolute() == Path(name).absolute() for name in build.manifests):
        raise FerError(f"build.output: {path} is one of build.manifests; it would be replaced by what is made of it")
    return path


def _data_sets(build: BuildConfig) -> dict[str, SourceConfig]:
    if build.mode is BuildMode.sources:
        return build.sources
    if build.mode is not BuildMode.folder:
        return {}
    if not Path(str(build.tree)).is_dir():
        raise FerError(f"build.tree: no folder {build.tree}")
    return {build.source_name: SourceConfig(kind=SourceKind.folder, path=build.tree)}


def _read_data_sets(data_sets: Mapping[str, SourceConfig], *, path: Path, root: Path) -> Composition:
    readings = {}
    for name, source in data_sets.items():
        log.info("reading %s (%s) from %s", name, source.kind.value, source.path)
        readings[name] = read_source(name, source, images_dir=path.parent / "images" / name)
    as_splits = {name: source.as_split for name, source in data_sets.items()}
    return compose(readings, path=path, root=root, as_splits=as_splits)


def _join(build: BuildConfig, *, path: Path, root: Path) -> tuple[Composition, list[InputManifest]]:
    manifests = []
    for name in build.manifests:
        file = Path(name)
        own_root = recorded_root(file, sha256_of(file)) if file.is_file() else None
        manifests.append(read_manifest(file, root=own_root))
    choice = RowChoice(
        include=build.include,
        exclude=build.exclude,
        splits=build.splits,
        as_split=build.as_split,
        min_confidence=build.min_confidence,
    )
    composition = join_manifests(manifests, choice, rooted=RootedPaths(root), path=path)
    inputs = [InputManifest(path=one.path.as_posix(), sha256=one.sha256, rows=len(one)) for one in manifests]
    return composition, inputs


def _settling(build: BuildConfig, data_sets: Mapping[str, SourceConfig]) -> Settling:
    plan = CarvingPlan(
        test_fraction=build.test_fraction,
        val_fraction=build.val_fraction if data_sets else 0.0,  # the splits of manifests stay as they are
        group_columns=build.group_columns,
        seed=build.seed,
        keep_whole=frozenset(name for name, source in data_sets.items() if source.as_split is not None),
    )
    return Settling(
        clean=build.clean,
        min_side=build.min_side,
        plan=plan,
        store=Path(DataConfig().cache_dir) / "facts",  # where training will look for them
        num_workers=os.cpu_count() or 1,
    )


def _warn_of_leaks(leaks: Mapping[str, int], path: Path, *, of_data_sets: bool) -> None:
    if leaks:
        one_side = "build.sources.<name>.as_split=test" if of_data_sets else "build.as_split=test"
        found = ", ".join(f"{kind}: {count}" for kind, count in leaks.items())
        log.warning(
            "%s: what it is made of has rows of different splits that belong together (%s). Training will ask for "
            "data.allow_leaks=[%s], or put all rows of a source on one side: %s. "
            "Which rows: task=audit_manifest data.manifest=%s",
            path,
            found,
            ",".join(leaks),
            one_side,
            path,
        )


def build_manifest(run: BuildManifestRun) -> None:
    """Build the configured manifest and say what is in it, and what is not.

    Raises:
        FerError: an unreadable data set, pictures outside the root, rows that contradict each other between
            manifests, or an existing manifest that would change.
    """
    build = run.build
    if build.mode is BuildMode.generated:
        _draw(build)
        return
    path, data_sets = _output(build), _data_sets(build)
    own_root = Path(str(build.tree)) if build.mode is BuildMode.folder else path.parent
    root = own_root if build.root is None else Path(build.root)
    inputs: list[InputManifest] = []
    if data_sets:
        composition = _read_data_sets(data_sets, path=path, root=root)
    else:
        composition, inputs = _join(build, path=path, root=root)
    settled = settle(composition, _settling(build, data_sets))
    outcome = Outcome(settled=settled, inputs=inputs, data_sets=data_sets)
    report = write_build(outcome, build, path=path, root=root)
    show_build(report, path)
    _warn_of_leaks(settled.leaks, path, of_data_sets=bool(data_sets))
    hint = "" if root.absolute() == path.parent.absolute() else f" data.root={root}"
    has_train = any(any(source.rows["train"].values()) for source in report.sources.values())
    use = "train" if has_train else "evaluate (evaluate.split=test)"
    log.info("wrote %s; %s with data.manifest=%s%s", path, use, path, hint)
