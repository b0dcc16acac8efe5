"""The typed run that leaves each source out of training in turn."""

from dataclasses import dataclass, field

from fer_lightning.pipeline.config import TrainTeacherRun


@dataclass(kw_only=True)
class LeaveOut:
    """Which sources are left out, one at a time."""

    sources: list[str] = field(default_factory=list)
    """Each gets a teacher trained without it; empty: every source that has train and val rows after the
    filter."""
    num_resamples: int = 2000
    """Bootstrap resamples of the intervals of the matrix."""

    def __post_init__(self) -> None:
        """Check what intervals need."""
        if self.num_resamples < 100:
            raise ValueError(f"leave_out.num_resamples must be at least 100, got {self.num_resamples}")


@dataclass(kw_only=True)
class LeaveOneSourceOutRun(TrainTeacherRun):
    """Train a teacher on all sources and one without each of them, and judge all of them on every source's val rows."""

    task: str = "leave_one_source_out"
    """The verb."""
    leave_out: LeaveOut = field(default_factory=LeaveOut)
