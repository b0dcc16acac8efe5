"""Says how much of its teacher a student keeps, and at which size."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.runs.artifacts import AlignmentReport, EvaluatedCheckpoint, ReliabilityMetrics, read_artifact
from fer_lightning.runs.distillation import DISTILLATION_FILE, DistillationRecord
from fer_lightning.runs.ensemble import ENSEMBLE_FILE, ENSEMBLE_METRICS_FILE, EnsembleMetrics
from fer_lightning.runs.ensemble_teachers import teacher_file, with_a_share
from fer_lightning.runs.softlabels import HASH_FILE, HashManifest

log = logging.getLogger(__name__)

_METRICS_FILE = "reliabilitymetrics.json"


@dataclass(frozen=True)
class Retention:
    """A student beside its teacher, on the same val rows."""

    macro_f1: float
    teacher_macro_f1: float
    num_parameters: int
    teacher_parameters: int | None

    @property
    def share(self) -> float:
        """The student's macro-F1 as a share of the teacher's."""
        return self.macro_f1 / self.teacher_macro_f1


def _folders(record: DistillationRecord, source: Path) -> Iterator[Path]:
    """Yield where figures of the ensemble may lie: the source itself, and for soft labels the ensemble that they were exported of."""
    yield source
    if (source / HASH_FILE).is_file():
        named = Path(read_artifact(source / HASH_FILE, HashManifest).ensemble)
        yield named if named.is_dir() else named.parent
    if record.ensemble is not None:
        yield source.parent.parent / "ensembles" / record.ensemble


def _of_ensemble(record: DistillationRecord) -> Iterator[EvaluatedCheckpoint]:
    """Yield the figures of the very ensemble that taught."""
    if record.source is None:
        return
    source = Path(record.source)
    for folder in _folders(record, source if source.is_dir() else source.parent):
        file = folder / ENSEMBLE_FILE
        if file.is_file() and (folder / ENSEMBLE_METRICS_FILE).is_file() and sha256_of(file) == record.ensemble_sha256:
            yield from read_artifact(folder / ENSEMBLE_METRICS_FILE, EnsembleMetrics).evaluated


def _of_single_teacher(record: DistillationRecord) -> Iterator[EvaluatedCheckpoint]:
    """Yield the figures that the run of an only teacher has recorded of it."""
    teachers = with_a_share(record.teachers)
    if len(teachers) != 1:
        return
    file = teacher_file(teachers[0], where=DISTILLATION_FILE).parent / _METRICS_FILE
    if file.is_file():
        metrics = read_artifact(file, ReliabilityMetrics)
        for judged in (metrics.best, metrics.last):
            if judged.checkpoint_sha256 == teachers[0].checkpoint_sha256:
                yield judged


def _teacher_macro_f1(record: DistillationRecord, own: EvaluatedCheckpoint) -> float | None:
    """Return the uncalibrated val macro-F1 of the teacher where it was judged on the student's val rows."""
    for find in (_of_ensemble, _of_single_teacher):
        try:
            for judged in find(record):
                if (judged.split, judged.row_set_fingerprint) == (own.split, own.row_set_fingerprint):
                    return judged.raw.macro_f1
        except FerError as error:  # the student is whole all the same
            log.warning("figures of its teacher are not known: %s", str(error).splitlines()[0])
    return None


def retention_of(run_dir: Path) -> Retention | None:
    """Return a finished student beside its teacher, an ensemble or a single model.

    Args:
        run_dir: of the student.

    Returns:
        None without a teacher, or where it was not judged on the student's val rows.

    Raises:
        FerError: the student's own files are missing or damaged.
    """
    record = read_artifact(run_dir / DISTILLATION_FILE, DistillationRecord)
    own = read_artifact(run_dir / _METRICS_FILE, ReliabilityMetrics).best
    teacher = _teacher_macro_f1(record, own)
    if not teacher:
        return None
    num_parameters = read_artifact(run_dir / "alignmentreport.json", AlignmentReport).num_parameters
    return Retention(own.raw.macro_f1, teacher, num_parameters, record.teacher_parameters)


def say_what_is_kept(run_dir: Path) -> None:
    """Log the student's val macro-F1 as a share of its teacher's, where both are known and of the same rows.

    Args:
        run_dir: of a finished student.
    """
    kept = retention_of(run_dir)
    if kept is None:
        return
    size = f"{kept.num_parameters / 1e6:.2f} million parameters"
    if kept.teacher_parameters:
        share = kept.num_parameters / kept.teacher_parameters
        size = f"{100 * share:.1f} % of its {kept.teacher_parameters / 1e6:.2f} million parameters"
    log.info(
        "the student keeps %.1f %% of its teacher's val macro-F1 (%.4f of %.4f) with %s",
        100 * kept.share,
        kept.macro_f1,
        kept.teacher_macro_f1,
        size,
    )
