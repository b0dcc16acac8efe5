"""Writes what ensembles and soft labels leave, by hand: no model."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from fer_lightning.files import sha256_of
from fer_lightning.runs.artifacts import EvaluatedCheckpoint, Metrics, write_artifact
from fer_lightning.runs.ensemble import (
    ENSEMBLE_FILE,
    ENSEMBLE_METRICS_FILE,
    Ensemble,
    EnsembleMetrics,
    EnsembleTeacher,
)
from fer_lightning.runs.softlabels import HASH_FILE, SOFTLABELS_FILE, HashManifest
from tests.runs.examples import example
from tests.runs.finished_runs import metrics

VAL_ROWS, OTHER_ROWS = "fa" * 32, "0b" * 32


def _teachers(given: Sequence[Path]) -> list[EnsembleTeacher]:
    return [
        replace(
            example(EnsembleTeacher),
            name=f"T{number}",
            given=str(path),
            checkpoint="best.pt",
            checkpoint_sha256=sha256_of(path / "best.pt") if (path / "best.pt").is_file() else f"{number:064x}",
            weight=1 / len(given),
        )
        for number, path in enumerate(given)
    ]


def _metrics(judged: EvaluatedCheckpoint) -> EnsembleMetrics:
    names = ("accuracy", "macro_f1", "minority_f1", "per_class_f1", "nll", "ece", "brier")
    values: dict[str, Any] = {name: getattr(judged.raw, name) for name in names}
    return EnsembleMetrics(
        name="e",
        split=judged.split,
        n=judged.n,
        row_set_fingerprint=judged.row_set_fingerprint,
        **values,
        weights={"RN18": 0.7, "B3": 0.3},
        space="logit",
        evaluated=[judged],
        teachers={},
        best_teacher="RN18",
        against_best_teacher=[],
    )


def _judged(
    raw: Metrics, scaled: Metrics | None, checkpoint: str, sha256: str, split: str, rows: str, n: int
) -> EvaluatedCheckpoint:
    judged: EvaluatedCheckpoint = example(EvaluatedCheckpoint)
    return replace(
        judged,
        checkpoint=checkpoint,
        checkpoint_sha256=sha256,
        split=split,
        n=n,
        row_set_fingerprint=rows,
        num_bins=15,
        raw=raw,
        scaled=scaled,
    )


def write_ensemble(
    root: Path,
    name: str,
    macro_f1: float = 0.7,
    *,
    teachers: Sequence[Path] = (),
    split: str = "val",
    rows: str = VAL_ROWS,
    n: int = 51,
    scaled: Metrics | None = None,
    **figures: float,
) -> Path:
    """Write a finished ensemble below `<root>/ensembles`, and return its folder."""
    path = root / "ensembles" / name
    path.mkdir(parents=True)
    ensemble = replace(example(Ensemble), name=name, teachers=_teachers(teachers), calibration=None)
    write_artifact(path / ENSEMBLE_FILE, ensemble)
    digest = sha256_of(path / ENSEMBLE_FILE)
    judged = _judged(metrics(macro_f1, **figures), scaled, ENSEMBLE_FILE, digest, split, rows, n)
    write_artifact(path / ENSEMBLE_METRICS_FILE, _metrics(judged))
    config = {"task": "fuse_ensemble", "run": {"root": str(root)}, "ensemble": {"teachers": [*map(str, teachers)]}}
    (path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def write_softlabels(
    root: Path, name: str, ensemble: Path, macro_f1: float = 0.7, *, rows: str = VAL_ROWS, n: int = 51
) -> Path:
    """Write soft labels of an ensemble below `<root>/softlabels`, and return their folder."""
    path = root / "softlabels" / name
    path.mkdir(parents=True)
    (path / SOFTLABELS_FILE).write_bytes(f"logits of {name}".encode())
    digest = hashlib.sha256(f"logits of {name}".encode()).hexdigest()
    record = replace(
        example(HashManifest),
        softlabels_sha256=digest,
        ensemble=str(ensemble),
        ensemble_sha256=sha256_of(ensemble / ENSEMBLE_FILE),
        teachers=[],
    )
    write_artifact(path / HASH_FILE, record)
    judged = _judged(metrics(macro_f1), None, ENSEMBLE_FILE, record.ensemble_sha256, "val", rows, n)
    write_artifact(path / ENSEMBLE_METRICS_FILE, _metrics(judged))
    return path
