"""What the run directories of teachers tell: how large they are, and that none was trained on the student's val rows."""

from collections.abc import Sequence

from fer_lightning.data.config import DataConfig
from fer_lightning.data.selection import Selection
from fer_lightning.errors import FerError
from fer_lightning.pipeline.rows.ancestors import records_of_teachers
from fer_lightning.pipeline.rows.run_record import read_run_record
from fer_lightning.pipeline.rows.seen_in_training import refuse_val_rows_seen_by
from fer_lightning.runs.ensemble import EnsembleTeacher
from fer_lightning.runs.ensemble_teachers import teacher_file, with_a_share


def parameters_of(teachers: Sequence[EnsembleTeacher]) -> int | None:
    """Return the parameters of all teachers that have a share; None where one of them lies in no run directory."""
    total = 0
    for teacher in with_a_share(teachers):
        try:
            record = read_run_record(teacher_file(teacher, where="").parent)
        except FerError:  # gone, or damaged: what it was trained on is not known either, which is logged there
            return None
        if record is None:
            return None
        total += record.alignment.num_parameters
    return total


def refuse_taught_val_rows(teachers: Sequence[EnsembleTeacher], selection: Selection, data: DataConfig) -> None:
    """Refuse val rows that a teacher, or a run that it came from, was trained on: a student repeats what its teacher knows by heart.

    Teachers of which no run directory is left cannot be checked, which is logged.

    Raises:
        FerError: there are such rows, of a kind that `data.allow_leaks` does not name.
    """
    refuse_val_rows_seen_by(records_of_teachers(teachers, where="the student"), selection, data)
