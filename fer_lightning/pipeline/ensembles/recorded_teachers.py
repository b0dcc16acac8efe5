"""The teachers that an `ensemble.json` names, opened; another model, or other pictures, in the place of one is refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.errors import FerError
from fer_lightning.pipeline.logits.teacher_models import TeacherModel, open_teachers
from fer_lightning.runs.ensemble import Ensemble
from fer_lightning.runs.ensemble_teachers import check_teacher_digest, with_a_share

if TYPE_CHECKING:
    from fer_lightning.runs.stored_logits import StoredLogits


def open_recorded(ensemble: Ensemble, *, where: str, option: str) -> tuple[TeacherModel, ...]:
    """Open the teachers that have a share, without loading torch.

    Args:
        ensemble: as read.
        where: option and file that named it, for messages.
        option: for messages of the teachers' own.

    Raises:
        FerError: a teacher is gone, or another model lies in its place.
    """
    teachers = with_a_share(ensemble.teachers)
    for teacher in teachers:
        if not Path(teacher.given).exists():
            raise FerError(
                f"{where}: teacher {teacher.name} is gone: there is no {teacher.given}, seen from this folder. Bring it back, start "
                "in the folder in which the ensemble was fused, or fuse the teachers again where they are now"
            )
    opened = open_teachers([one.given for one in teachers], [one.name for one in teachers], option=option)
    for teacher, one in zip(teachers, opened, strict=True):
        if one.model is not None:
            check_teacher_digest(teacher, one.model.path, one.model.sha256, where=where)
    return opened


def check_recorded(ensemble: Ensemble, stored: "Sequence[StoredLogits]", *, where: str) -> None:
    """Refuse logits of other files or pictures than the ensemble was made of.

    A foreign teacher has a file for each split, of which the ensemble knows that of its val rows.

    Args:
        ensemble: as read.
        stored: of each teacher that has a share.
        where: option and file that named it, for messages.

    Raises:
        FerError: they are of others.
    """
    for teacher, one in zip(with_a_share(ensemble.teachers), stored, strict=True):
        record = one.record
        if record.kind != "foreign" or record.row_set_fingerprint == ensemble.val_fingerprint:
            check_teacher_digest(teacher, teacher.given, record.checkpoint_sha256, where=where)
        if record.canonical_digest != teacher.canonical_digest:
            raise FerError(
                f"{where}: the logits of {teacher.given} are of another preparation of the pictures (canonical digest "
                f"{record.canonical_digest[:12] or 'unknown'}) than those that were fused as {teacher.name} "
                f"({teacher.canonical_digest[:12] or 'unknown'}). Fuse the teachers as they are now with task=fuse_ensemble"
            )
