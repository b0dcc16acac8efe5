"""Trains one ArcFace teacher: rows -> run directory -> training -> best and last judged and exported."""

from fer_lightning.pipeline.config import TrainTeacherRun
from fer_lightning.pipeline.learning.preparation import prepare_training, train_in_directory


def train_teacher(run: TrainTeacherRun) -> None:
    """Train a teacher and leave a run directory that proves what it did.

    Raises:
        FerError: anything wrong with rows, weights or directory; found before torch is imported where possible.
    """
    train_in_directory(run, prepare_training(run))
