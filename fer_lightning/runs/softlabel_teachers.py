"""Whether the teachers of soft labels are still those that taught."""

from fer_lightning.errors import FerError
from fer_lightning.runs.ensemble_teachers import find_teacher
from fer_lightning.runs.softlabels import SoftLabels


def check_teachers(softlabels: SoftLabels, *, option: str) -> tuple[str, ...]:
    """Compute the digests of the teachers' files again, where these are there.

    Args:
        softlabels: whose teachers.
        option: the option that named the soft labels, for messages.

    Returns:
        Names of the teachers of which nothing is left to compare.

    Raises:
        FerError: another model lies where a teacher lay.
    """
    absent = []
    for teacher in softlabels.record.teachers:
        found = find_teacher(teacher)
        if found.sha256 is None:
            absent.append(teacher.name)
        elif found.sha256 != teacher.checkpoint_sha256:
            raise FerError(
                f"{option}: {found.model or found.kept[0]} is another model than the one that taught as {teacher.name}: its SHA-256 "
                f"is {found.sha256[:12]}, that of the teacher was {teacher.checkpoint_sha256[:12]}. Export soft labels of the "
                "teachers as they are now"
            )
    return tuple(absent)
