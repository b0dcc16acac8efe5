"""A finished run as comparisons read it: its options, and figures that belong to the checkpoints beside them."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_lightning.errors import FerError
from fer_lightning.runs.artifacts import AlignmentReport, EvaluatedCheckpoint, ReliabilityMetrics, read_artifact
from fer_lightning.runs.distillation import DISTILLATION_FILE, DistillationRecord
from fer_lightning.runs.finished import final_files_match
from fer_lightning.runs.headline import headline_figures
from fer_lightning.runs.history import History, Timings
from fer_lightning.runs.run_dir import result_options


@dataclass(frozen=True)
class FinishedRun:
    """What a run recorded; nothing is computed again."""

    path: Path
    options: dict[str, Any]
    """Dotted key -> recorded value, of the options that can change results."""
    best: EvaluatedCheckpoint
    alignment: AlignmentReport
    history: History
    timings: Timings
    taught_by: str | None
    """Digest of the soft labels or the ensemble that taught a student; None of a student without, and of a teacher."""

    @property
    def seed(self) -> int:
        """Its `run.seed`."""
        return int(self.options["run.seed"])

    @property
    def figures(self) -> dict[str, float | None]:
        """Figures of best.pt by name; None where there is no calibration."""
        return headline_figures(self.best.raw, self.best.scaled)

    @property
    def rollbacks(self) -> int:
        """How often the watchdog went back."""
        return sum(record.rollback is not None for record in self.history.epochs)

    @property
    def images_per_second(self) -> float:
        """Median over the epochs: the first one warms up."""
        return statistics.median(timing.images_per_second for timing in self.timings.epochs)

    @property
    def minutes(self) -> float:
        """Wall time of all epochs, validation included."""
        return sum(timing.epoch_seconds for timing in self.timings.epochs) / 60


def _taught_by(path: Path) -> str | None:
    file = path / DISTILLATION_FILE
    return read_artifact(file, DistillationRecord).source_sha256 if file.is_file() else None


def read_finished_run(path: Path) -> FinishedRun:
    """Read a run directory.

    Raises:
        FerError: no run, an unfinished one, or one whose figures are of other checkpoints; the message says which.
    """
    options = result_options(path)
    for name in ("best.pt", "checkpoint_last.pt", "reliabilitymetrics.json"):
        if not (path / name).is_file():
            raise FerError(f"{path}: unfinished or incomplete, it has no {name}")
    if not final_files_match(path, onnx=False):
        raise FerError(f"{path}: its figures are not those of the checkpoints beside them; resume it to judge them")
    timings = read_artifact(path / "timings.json", Timings)
    if not timings.epochs or not isinstance(options.get("run.seed"), int):
        raise FerError(f"{path}: no record of a training, it has no epochs or no run.seed")
    return FinishedRun(
        path=path,
        options=options,
        best=read_artifact(path / "reliabilitymetrics.json", ReliabilityMetrics).best,
        alignment=read_artifact(path / "alignmentreport.json", AlignmentReport),
        history=read_artifact(path / "history.json", History),
        timings=timings,
        taught_by=_taught_by(path),
    )
