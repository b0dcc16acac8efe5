"""Computes every digest and number that soft labels carry again, and tells one by one which of them hold."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from fer_lightning.files import sha256_of
from fer_lightning.labels import EMOTIONS, NUM_CLASSES
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.ensemble import ENSEMBLE_FILE, ENSEMBLE_METRICS_FILE, EnsembleMetrics
from fer_lightning.runs.ensemble_file import read_ensemble
from fer_lightning.runs.fitted_temperatures import fitted_temperature
from fer_lightning.runs.softlabel_array_proofs import examine_arrays, examine_fusion
from fer_lightning.runs.softlabel_examined import Examined
from fer_lightning.runs.softlabel_layout import (
    array_names,
    fingerprints,
    index_columns,
    read_bytes,
    row_digest,
)
from fer_lightning.runs.softlabels import (
    ALIGNMENT_FILE,
    CLASS_ORDER_FILE,
    HASH_FILE,
    INDEX_FILE,
    SOFTLABELS_FILE,
    ClassOrder,
    HashManifest,
    SoftLabelAlignment,
)

FILES = (
    SOFTLABELS_FILE,
    INDEX_FILE,
    CLASS_ORDER_FILE,
    ENSEMBLE_FILE,
    HASH_FILE,
    ENSEMBLE_METRICS_FILE,
    ALIGNMENT_FILE,
)
_SHOWN = 3


def report_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that the report vouches for, as far as they are there."""
    files = [folder / name for name in (HASH_FILE, CLASS_ORDER_FILE, ENSEMBLE_METRICS_FILE)]
    return {file.name: sha256_of(file) for file in files if file.is_file()}


def _examine_records(seen: Examined, files: Sequence[str]) -> bool:
    """Read the small files; whether the others can be held against them."""
    folder = seen.folder
    missing = [name for name in files if not (folder / name).is_file()]
    seen.hold("files", f"{', '.join(missing)} missing" if missing else "all there", "all there")
    seen.record = seen.read(HASH_FILE, lambda: read_artifact(folder / HASH_FILE, HashManifest), "readable")
    order = seen.read(CLASS_ORDER_FILE, lambda: read_artifact(folder / CLASS_ORDER_FILE, ClassOrder), "readable")
    if order is not None:
        seen.hold(f"class order of {CLASS_ORDER_FILE}", list(order.emotions), list(EMOTIONS))
    if seen.record is None:
        return False
    record = seen.record
    seen.hold(f"class order of {HASH_FILE}", list(record.class_order), list(EMOTIONS))
    seen.hold("arrays recorded", record.arrays, array_names(record))
    temperatures = [temperature for temperature in record.teacher_temperatures if temperature is not None]
    fitting = len(record.teacher_temperatures) == len(record.teachers) and all(
        0 < one < math.inf for one in temperatures
    )
    seen.hold("teacher_temperatures recorded", "usable" if fitting else "unusable", "usable")
    known = record.dtype in {"float16", "float32"} and record.n > 0 and record.views[:1] != []
    return seen.hold("dtype, n and views recorded", "usable" if known else "unusable", "usable")


def _examine_index(seen: Examined, record: HashManifest) -> None:
    path = seen.folder / INDEX_FILE
    content = seen.read(f"{INDEX_FILE} readable", lambda: read_bytes(path), "readable")
    if content is None:
        return
    seen.hold(f"SHA-256 of {INDEX_FILE}", hashlib.sha256(content).hexdigest(), record.index_sha256)
    columns = seen.read(f"lines of {INDEX_FILE}", lambda: index_columns(path, content), "readable")
    if columns is not None and seen.hold(f"rows of {INDEX_FILE}", len(columns["i"]), record.n):
        seen.index = columns


def _differing_rows(seen: Examined) -> Iterator[str]:
    """Yield the rows in which index and arrays do not say the same."""
    if seen.arrays is None or seen.index is None:
        return
    index = seen.index
    rows = zip(index["i"], index["y"], index["row_id"], seen.arrays["y"].tolist(), seen.row_ids, strict=True)
    for row, (number, label, row_id, y, own_id) in enumerate(rows):
        if (number, label, row_id) != (row, y, own_id):
            yield f"line {row + 1} says i={number}, y={label}, row {row_id[:12]}; row {row} is y={y}, row {own_id[:12]}"


def _examine_rows(seen: Examined, record: HashManifest) -> None:
    """Hold arrays and index against each other and against what is recorded of the rows."""
    if seen.arrays is None or seen.index is None or len(seen.row_ids) != record.n:
        return
    twice = [row_id for row_id, count in Counter(seen.row_ids).items() if count > 1]
    seen.hold("each row once", f"{len(twice)} more than once, e.g. {twice[0][:12]}" if twice else "once", "once")
    differing = list(_differing_rows(seen))
    shown = f"{len(differing)} rows differ: {'; '.join(differing[:_SHOWN])}" if differing else "the same rows"
    seen.hold(f"{INDEX_FILE} against {SOFTLABELS_FILE}", shown, "the same rows")
    seen.hold("row_digest", row_digest(seen.row_ids), record.row_digest)
    if int(seen.arrays["y"].max()) < NUM_CLASSES:
        found = fingerprints(seen.row_ids, seen.arrays["y"].tolist(), seen.index["split"])
        seen.hold("splits", list(found), record.splits)
        seen.hold("row_set_fingerprints", found, record.row_set_fingerprints)


def _examine_figures(seen: Examined, record: HashManifest) -> None:
    """Hold ensemble and figures against what is recorded."""
    folder = seen.folder
    if (folder / ENSEMBLE_FILE).is_file():
        seen.hold(f"SHA-256 of {ENSEMBLE_FILE}", sha256_of(folder / ENSEMBLE_FILE), record.ensemble_sha256)
    ensemble = seen.read(ENSEMBLE_FILE, lambda: read_ensemble(folder, option=ENSEMBLE_FILE), "readable")
    if ensemble is not None:
        same_teachers = seen.hold("teachers", record.teachers, ensemble.teachers)
        same_space = seen.hold("space", record.space, ensemble.space)
        if same_teachers and same_space:
            examine_fusion(seen, record)
        fitted = fitted_temperature(ensemble.calibration, ensemble.val_fingerprint)
        seen.hold("ensemble_temperature", record.ensemble_temperature, fitted)
    metrics = seen.read(
        ENSEMBLE_METRICS_FILE, lambda: read_artifact(folder / ENSEMBLE_METRICS_FILE, EnsembleMetrics), "readable"
    )
    if metrics is not None:
        judged = {one.split: one.row_set_fingerprint for one in metrics.evaluated}
        seen.hold(f"row sets of {ENSEMBLE_METRICS_FILE}", judged, record.row_set_fingerprints)


def _examine_report(seen: Examined, record: HashManifest) -> None:
    """Hold the report against the files that it vouches for, and against the rows."""
    report = seen.read(
        ALIGNMENT_FILE, lambda: read_artifact(seen.folder / ALIGNMENT_FILE, SoftLabelAlignment), "readable"
    )
    if report is None:
        return
    for name, digest in report_digests(seen.folder).items():
        seen.hold(f"SHA-256 of {name}", digest, report.digests.get(name, "none"))
    if seen.index is not None:
        seen.hold(f"rows of {ALIGNMENT_FILE}", dict(Counter(seen.index["split"])), report.rows_exported)
        seen.hold(f"sources of {ALIGNMENT_FILE}", dict(Counter(seen.index["source"])), report.sources)
    left = {split: count - report.rows_left_out.get(split, 0) for split, count in report.rows_requested.items()}
    seen.hold(f"rows requested less those left out in {ALIGNMENT_FILE}", left, report.rows_exported)
    sound = report.verified_rows <= record.n and report.max_abs_difference <= report.tolerance
    seen.hold(f"checks told by {ALIGNMENT_FILE}", "passed" if sound else "not passed", "passed")


def examine_softlabels(folder: Path, *, finished: bool = True) -> Examined:
    """Read soft labels and check everything that can be checked without manifest, pictures and teachers.

    A check that depends on a file that cannot be read is left out: that file's own check has failed.

    Args:
        folder: of the soft labels.
        finished: whether the report, which an export writes last, has to be there.
    """
    seen = Examined(folder)
    usable = _examine_records(seen, FILES if finished else FILES[:-1])
    if usable and seen.record is not None:
        examine_arrays(seen, seen.record)
        _examine_index(seen, seen.record)
        _examine_rows(seen, seen.record)
        _examine_figures(seen, seen.record)
        if finished:
            _examine_report(seen, seen.record)
    return seen
