"""An evaluation as comparisons read it, with the run that made its model where that is still there."""

from dataclasses import dataclass
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.runs.artifacts import EvaluatedCheckpoint, read_artifact
from fer_lightning.runs.evaluation import Evaluation, Range
from fer_lightning.runs.finished_run import FinishedRun, read_finished_run
from fer_lightning.runs.headline import headline_figures
from fer_lightning.runs.stored_logits_record import RECORD_FILE, StoredLogitsRecord, stored_folder

EVALUATION_FILE = "evaluation.json"
_RANGED = ("macro_f1", "minority_f1", "accuracy", "ece", "nll")


@dataclass(frozen=True)
class FinishedEvaluation:
    """What an evaluation recorded; nothing is computed again."""

    path: Path
    """Of its `evaluation.json`."""
    record: Evaluation
    model: Path
    """File that was judged; it need not be there any more."""
    run: FinishedRun | None
    """Whose model it judged; None where that run is not there any more, or has gone on."""

    @property
    def result(self) -> EvaluatedCheckpoint:
        """Whose figures, on which rows."""
        return self.record.result

    @property
    def figures(self) -> dict[str, float | None]:
        """Headline figures by name; None where no calibration is kept with the model."""
        scaled = self.result.scaled if self.record.calibration_kept else None
        macro_f1_scaled = None if scaled is None else scaled.macro_f1
        return headline_figures(self.result.raw, scaled) | {"macro_f1_scaled": macro_f1_scaled}

    @property
    def ranges(self) -> dict[str, Range]:
        """Intervals over the rows, by the names of `figures`."""
        raw = self.record.raw_ranges or {}
        scaled = (self.record.scaled_ranges or {}) if self.record.calibration_kept else {}
        found = {name: raw[name] for name in _RANGED if name in raw}
        of_scaled = {f"{name}_scaled": scaled[name] for name in ("ece", "nll", "macro_f1") if name in scaled}
        return found | of_scaled


def _model_file(record: Evaluation) -> Path:
    """Return the file that was judged, which may have been named by its run directory or by its stored logits."""
    given = Path(record.model)
    stored = stored_folder(given) / RECORD_FILE
    if given.name != record.result.checkpoint and stored.is_file():
        logits = read_artifact(stored, StoredLogitsRecord)
        return Path(logits.run_dir) / logits.checkpoint
    return given if given.name == record.result.checkpoint else given / record.result.checkpoint


def _run_of(model: Path, sha256: str) -> FinishedRun | None:
    """Return the finished run in whose directory the very file that was evaluated still lies."""
    try:
        if not model.is_file() or sha256_of(model) != sha256:
            return None
        return read_finished_run(model.parent)
    except (FerError, OSError):
        return None


def read_finished_evaluation(path: Path) -> FinishedEvaluation:
    """Read an evaluation.

    Args:
        path: its `evaluation.json`.

    Raises:
        FerError: no such file, or not an evaluation of this version.
    """
    record = read_artifact(path, Evaluation)
    model = _model_file(record)
    return FinishedEvaluation(path, record, model, _run_of(model, record.result.checkpoint_sha256))
