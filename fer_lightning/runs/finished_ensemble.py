"""An ensemble as comparisons and later commands read it: finished, and its files of one another."""

from dataclasses import dataclass
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.runs.artifacts import EvaluatedCheckpoint, read_artifact
from fer_lightning.runs.ensemble import ENSEMBLE_FILE, ENSEMBLE_METRICS_FILE, Ensemble, EnsembleMetrics
from fer_lightning.runs.ensemble_file import read_ensemble


@dataclass(frozen=True)
class FinishedEnsemble:
    """What an ensemble recorded; nothing is computed again."""

    path: Path
    """Its folder."""
    record: Ensemble
    metrics: EnsembleMetrics

    @property
    def val(self) -> EvaluatedCheckpoint:
        """Its figures on val."""
        return self.metrics.evaluated[0]

    @property
    def test(self) -> EvaluatedCheckpoint | None:
        """Its figures on test; None where it was not judged there."""
        return self.metrics.evaluated[1] if len(self.metrics.evaluated) > 1 else None


def read_finished_ensemble(folder: Path) -> FinishedEnsemble:
    """Read an ensemble's files.

    Args:
        folder: of the ensemble.

    Raises:
        FerError: not finished, damaged, of another version, or figures of another `ensemble.json`.
    """
    if not (folder / ENSEMBLE_FILE).is_file():
        raise FerError(f"{folder} is not finished: there is no {ENSEMBLE_FILE} in it")
    record = read_ensemble(folder, option="ensemble")
    metrics = read_artifact(folder / ENSEMBLE_METRICS_FILE, EnsembleMetrics)
    sha256 = sha256_of(folder / ENSEMBLE_FILE)
    others = sorted({judged.checkpoint_sha256[:12] for judged in metrics.evaluated} - {sha256[:12]})
    if others or not metrics.evaluated or metrics.evaluated[0].split != "val":
        raise FerError(
            f"{folder / ENSEMBLE_METRICS_FILE} holds figures of another {ENSEMBLE_FILE} ({', '.join(others) or 'none'}) than the "
            f"one beside it ({sha256[:12]}); remove the folder and fuse again"
        )
    return FinishedEnsemble(folder, record, metrics)
