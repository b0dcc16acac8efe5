"""Writes the record of a finished run by hand: no training."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from fer_lightning.files import sha256_of
from fer_lightning.pipeline.config import TrainingRun, TrainTeacherRun
from fer_lightning.runs.artifacts import (
    AlignmentReport,
    EvaluatedCheckpoint,
    Metrics,
    ReliabilityMetrics,
    write_artifact,
)
from fer_lightning.runs.history import EpochRecord, EpochTiming, History, Timings
from fer_lightning.runs.run_dir import plain_values
from tests.runs.examples import calibration, example

VAL_ROWS = "fa" * 32
TRAIN_ROWS = "7a" * 32


def metrics(macro_f1: float = 0.7, **figures: float) -> Metrics:
    """Return figures, .5 where not given."""
    names = ("accuracy", "macro_f1_present", "minority_f1", "nll", "ece", "brier", "mean_confidence")
    values: dict[str, Any] = {**dict.fromkeys(names, 0.5), **figures}
    return Metrics(macro_f1=macro_f1, per_class_f1={}, **values)


def write_finished_run(
    root: Path,
    run: TrainingRun,
    raw: Metrics | None = None,
    *,
    scaled: Metrics | None = None,
    val_rows: str = VAL_ROWS,
    n: int = 51,
    num_bins: int = 15,
    best_epoch: int = 1,
    rollbacks: Sequence[int] = (),
    carved: int = 0,
    manifest: str = "ab" * 32,
    seconds: Sequence[float] = (60.0, 30.0),
) -> Path:
    """Write what a run of two epochs leaves, as far as a comparison reads it, and return its directory."""
    path = root / run.folder / run.name
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(plain_values(run), sort_keys=False), encoding="utf-8")
    for name in ("best.pt", "checkpoint_last.pt"):
        (path / name).write_bytes(f"{name} of {run.name}".encode())
    best, last = (
        replace(
            example(EvaluatedCheckpoint),
            checkpoint=name,
            checkpoint_sha256=sha256_of(path / name),
            epoch=best_epoch,
            split="val",
            n=n,
            row_set_fingerprint=val_rows,
            num_bins=num_bins,
            raw=raw or metrics(),
            scaled=scaled,
        )
        for name in ("best.pt", "checkpoint_last.pt")
    )
    write_artifact(path / "reliabilitymetrics.json", ReliabilityMetrics(best=best, last=last))
    write_artifact(path / "calibration.json", calibration(best.checkpoint_sha256, last.checkpoint_sha256))
    alignment = replace(
        example(AlignmentReport),
        run_name=run.name,
        manifest_sha256=manifest,
        carved_val_rows=carved,
        row_set_fingerprints={"train": TRAIN_ROWS, "val": val_rows},
    )
    write_artifact(path / "alignmentreport.json", alignment)
    epochs = [example(EpochRecord), example(EpochRecord)]
    epochs = [item if index in rollbacks else replace(item, rollback=None) for index, item in enumerate(epochs)]
    write_artifact(path / "history.json", History(monitor="val_raw.macro_f1", epochs=epochs))
    timings = [
        EpochTiming(epoch=epoch, epoch_seconds=spent, images_per_second=100.0 + epoch, data_wait_share=0.1)
        for epoch, spent in enumerate(seconds)
    ]
    write_artifact(path / "timings.json", Timings(epochs=timings))
    return path


def teacher(seed: int = 1, tag: str | None = None) -> TrainTeacherRun:
    """Return the default teacher under a seed."""
    run = TrainTeacherRun()
    run.run.seed, run.run.tag = seed, tag
    return run
