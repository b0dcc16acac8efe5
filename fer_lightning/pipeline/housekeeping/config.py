"""The typed runs that keep a folder of runs in order: triage, archive, summarise."""

from dataclasses import dataclass, field

from fer_lightning.runs.config import RunConfig


@dataclass(kw_only=True)
class TriageConfig:
    """Which ensembles and soft labels are ranked, and which are called bad."""

    folders: list[str] = field(default_factory=list)
    """Folders of ensembles, soft labels or students, or of many of them; empty: `<run.root>/ensembles` and `<run.root>/softlabels`."""
    max_macro_f1_drop: float = 0.01
    """A run is bad when its macro-F1 lies further below the best on the same rows."""
    output_dir: str | None = None
    """Where `_ensemble_triage.md` and `_ensemble_bad_list.txt` go; unset: `<run.root>`."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 <= self.max_macro_f1_drop <= 1:
            raise ValueError(f"triage.max_macro_f1_drop must lie in [0, 1], got {self.max_macro_f1_drop}")


@dataclass(kw_only=True)
class TriageRun:
    """Rank ensembles and soft labels within each set of rows, and list the bad ones."""

    task: str = "triage"
    """The verb."""
    run: RunConfig = field(default_factory=RunConfig)
    triage: TriageConfig = field(default_factory=TriageConfig)


@dataclass(kw_only=True)
class ArchiveConfig:
    """What is moved out of the way."""

    runs: list[str] = field(default_factory=list)
    """Run directories, ensembles or soft labels."""
    list: str | None = None
    """A file that names them, one in a line, such as `_ensemble_bad_list.txt`."""
    dry_run: bool = False
    """Say what would be moved, and move nothing."""


@dataclass(kw_only=True)
class ArchiveRun:
    """Move runs to `<run.root>/_archive`, with a log; never the best on its rows, one that is referred to, or one in use."""

    task: str = "archive"
    """The verb."""
    run: RunConfig = field(default_factory=RunConfig)
    archive: ArchiveConfig = field(default_factory=ArchiveConfig)


@dataclass(kw_only=True)
class SummaryConfig:
    """Where the summary goes."""

    output_dir: str | None = None
    """Folder of summary.md, .csv and .json; unset: `<run.root>`."""


@dataclass(kw_only=True)
class SummariseRun:
    """List every run below a folder: what it is, what it reached on which rows, what refers to it, and how large it is."""

    task: str = "summarise"
    """The verb."""
    run: RunConfig = field(default_factory=RunConfig)
    summary: SummaryConfig = field(default_factory=SummaryConfig)
