"""What may not be archived, and why: what is no run of this folder, the best on its rows, or needed by another run."""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.runs.ensemble import ENSEMBLE_METRICS_FILE
from fer_lightning.runs.references import References
from fer_lightning.runs.run_figures import RANKED_AS, Judged, RankedGroup, ranked_groups, read_figures
from fer_lightning.runs.run_folders import ARCHIVE_FOLDER, RunFolder, enclosing_run, find_runs, run_at

_FIGURES_FILES = (ENSEMBLE_METRICS_FILE, "reliabilitymetrics.json")
_MOST_LISTED = 5


@dataclass(frozen=True)
class JudgedRuns:
    """The figures of all ranked runs of a folder."""

    judged: tuple[Judged, ...]
    unreadable: dict[str, str]
    """`RunFolder.real` -> why its figures cannot be read."""


def judge_all(runs: Sequence[RunFolder]) -> JudgedRuns:
    """Read the figures of all runs that can be the best of something."""
    judged, unreadable = [], {}
    for run in runs:
        if run.kind not in RANKED_AS:
            continue
        try:
            reached = read_figures(run)
        except FerError as error:
            if any((run.path / name).exists() for name in _FIGURES_FILES):
                unreadable[run.real] = str(error)
            continue
        if reached is not None:
            judged.append(Judged(run, reached))
    return JudgedRuns(tuple(judged), unreadable)


def _folder_problem(path: Path) -> str | None:
    """Return why a path is no folder of its own."""
    if not os.path.lexists(path):
        return "there is no such folder"
    if path.is_symlink():
        return f"is a link to {path.readlink()}; name the folder itself"
    return None if path.is_dir() else "is no folder"


def _place_problem(path: Path, root: Path) -> str | None:
    """Return why a folder does not lie where runs are archived from."""
    real, real_root = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    if real_root.is_relative_to(real):
        return f"{'is' if real == real_root else 'holds'} run.root"
    if not real.is_relative_to(real_root):
        return f"lies outside run.root={root}, at {real}"
    return "is in the archive already" if ARCHIVE_FOLDER in real.relative_to(real_root).parts else None


def _outward_link(path: Path) -> str | None:
    """Return a relative link that would lead elsewhere after the move."""
    for item in path.rglob("*"):
        if item.is_symlink() and not item.readlink().is_absolute():
            leads_to = os.path.normpath(item.parent / item.readlink())
            if not Path(leads_to).is_relative_to(path):
                return f"{item.relative_to(path)} -> {item.readlink()}"
    return None


def run_to_archive(path: Path, root: Path) -> RunFolder:
    """Return the run that a path names.

    Args:
        path: as named.
        root: folder of all runs.

    Raises:
        FerError: it is no run of this folder; the message does not repeat the path.
    """
    try:
        problem = _folder_problem(path) or _place_problem(path, root)
        if problem is not None:
            raise FerError(problem)
        real = Path(os.path.realpath(path))
        around = enclosing_run(real.parent, root)
        if around is not None:
            raise FerError(f"lies in the run {around}; name that")
        run = run_at(real)
        if run is None:
            number = len(find_runs(real).runs)
            raise FerError(
                f"is a folder of {number} runs; name them one by one" if number else "holds no file of a run"
            )
        link = _outward_link(real)
    except OSError as error:
        raise FerError(f"cannot be looked at: {error.strerror or error}") from error
    if link is not None:
        raise FerError(f"holds a relative link that leads out of it and would break: {link}")
    return run


def _group_of(run: RunFolder, judged: JudgedRuns, gone: Collection[str]) -> tuple[RankedGroup, Judged] | None:
    groups = ranked_groups(item for item in judged.judged if item.run.real not in gone)
    members = ((group, member) for group in groups for member in group.members)
    return next(((group, member) for group, member in members if member.run.real == run.real), None)


def _best_problem(run: RunFolder, judged: JudgedRuns, gone: Collection[str]) -> str | None:
    """Return why a run must stay for its figures."""
    if run.real in judged.unreadable:
        return f"whether it is the best on its rows cannot be told: {judged.unreadable[run.real]}"
    found = _group_of(run, judged, gone)
    if found is None:
        return None
    group, member = found
    rows = f"{group.rows.split} rows {group.rows.row_set_fingerprint[:8]} (n={group.rows.n})"
    kin = [item for item in group.members if item.run.kind == run.kind]
    if len(kin) == 1:
        return f"the only one of {run.kind} judged on {rows}"
    if group.is_best(member) or group.is_best_of_kind(member):
        tied = sum(group.is_best_of_kind(item) for item in kin) > 1
        return f"the best of {run.kind} on {rows}{', with others that tie with it' if tied else ''}"
    return None


def _reference_problems(run: RunFolder, refs: References, gone: Collection[str]) -> Iterator[str]:
    protecting = refs.protecting(run, without=gone)
    if protecting:
        shown = [f"{item.by} ({item.how})" for item in protecting[:_MOST_LISTED]]
        more = len(protecting) - len(shown)
        yield f"referred to by {', '.join(shown)}{f' and {more} more' if more else ''}"
    unknown = refs.unknown_besides(run)
    if unknown:
        yield f"whether anything refers to it cannot be told: cannot read {', '.join(map(str, unknown[:_MOST_LISTED]))}"


def why_not(run: RunFolder, refs: References, judged: JudgedRuns, *, gone: Collection[str] = ()) -> str | None:
    """Return why a run may not be archived; None where it may. Locks are left to whoever takes them.

    Args:
        run: from `run_to_archive`.
        refs: of all runs, as they are now.
        judged: figures of all runs, as they are now.
        gone: real paths of runs that have been archived since `refs` and `judged` were read.
    """
    if run.real not in {found.real for found in refs.found.runs}:
        return "is not found among the runs of run.root"
    best = _best_problem(run, judged, gone)
    problems = [*([] if best is None else [best]), *_reference_problems(run, refs, gone)]
    return "; ".join(problems) or None
