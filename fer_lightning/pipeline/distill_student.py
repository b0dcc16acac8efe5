"""Trains one student: rows -> teachers verified and joined -> run directory -> training -> best and last judged and exported."""

import logging

from fer_lightning.pipeline.learning.preparation import prepare_training, train_in_directory
from fer_lightning.pipeline.students.config import DistillStudentRun
from fer_lightning.pipeline.students.retention import say_what_is_kept
from fer_lightning.pipeline.students.teacher_files import check_teacher_files
from fer_lightning.runs.ranks import leads

log = logging.getLogger(__name__)


def distill_student(run: DistillStudentRun) -> None:
    """Train a student on labels and teacher logits, and leave a run directory that proves who taught it what.

    Raises:
        FerError: anything wrong with rows, weights, teachers or directory; nothing is written then.
    """
    check_teacher_files(run.distillation)
    selection = prepare_training(run)
    from fer_lightning.pipeline.students.signal import open_signal  # torch

    train_in_directory(run, selection, open_signal(run, selection))
    if leads():
        say_what_is_kept(run.directory)
