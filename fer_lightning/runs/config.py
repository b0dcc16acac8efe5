"""Options of a run directory: where it is, what it is called, what happens when it exists."""

from dataclasses import dataclass
from enum import Enum


class OnExisting(Enum):
    """What to do when the run directory holds an earlier run."""

    fail = "fail"
    resume = "resume"


@dataclass(kw_only=True)
class RunConfig:
    """Identity of one run."""

    root: str = "experiments"
    """Folder of all runs; teachers go to `<root>/teachers/<RUN>`."""
    seed: int = 1337
    """Seed of weights, sampling, augmentation and dropout."""
    tag: str | None = None
    """Added to the run name: the way to keep two recipes apart that share backbone, seed, stage and size."""
    on_existing: OnExisting = OnExisting.fail
    """`fail` refuses an existing run directory, `resume` continues it from `checkpoint_last.pt`."""
    unlock_stale: bool = False
    """Take over a lock whose holder cannot be proved dead: its heartbeat is old and it ran on another host."""

    def __post_init__(self) -> None:
        """Check the values that would end in a bad file name or seed."""
        if not 0 <= self.seed < 2**32:  # numpy and lightning take 32 bits
            raise ValueError(f"run.seed must lie in 0..{2**32 - 1}, got {self.seed}")
        if self.tag is not None and not all(c.isalnum() or c in "-_.=," for c in self.tag):
            raise ValueError(f"run.tag may hold letters, digits and - _ . = , but is {self.tag!r}")
