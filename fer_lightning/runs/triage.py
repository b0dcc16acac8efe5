"""`_ensemble_triage.json`: ensembles, soft labels and students ranked within one set of rows, and those that are bad."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from fer_lightning.errors import FerError
from fer_lightning.runs.artifacts import STRICT
from fer_lightning.runs.leaderboard import LeftOut
from fer_lightning.runs.lock import described_holder
from fer_lightning.runs.references import References
from fer_lightning.runs.run_figures import RANKED_AS, Judged, RankedGroup, ranked_groups, read_figures
from fer_lightning.runs.run_folders import RunFolder

TRIAGE_FILE, TRIAGE_PAGE, BAD_LIST = "_ensemble_triage.json", "_ensemble_triage.md", "_ensemble_bad_list.txt"
_ORDER = ["macro_f1, higher", "minority_f1, higher", "ece of the table, lower", "accuracy, higher"]
_LABELS = {
    "test": "test rows: what is chosen by these figures is chosen on the rows it is reported on",
    "train": "train rows: the teachers have seen them, so that nothing is called bad by these figures",
}
_WITHOUT_FIGURES = {
    "ensembles": "it has no ensemble_metrics.json: rows without labels, or unfinished",
    "students": "it has no reliabilitymetrics.json: unfinished",
}
"""What is ranked -> why it is not."""


@dataclass(frozen=True, kw_only=True)
class TriagedRun:
    """One ensemble, the soft labels of one, or a student."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    run: str
    """Its folder, relative to that of this file."""
    kind: str
    """`ensembles`, `softlabels` or `students`."""
    place: int
    space: str | None
    """None of students."""
    weights: dict[str, float]
    """Teacher -> share; empty for students."""
    figures: dict[str, float | None]
    drop: float
    """How far its macro-F1 lies below the best on the same rows."""
    best: bool
    """Nothing on these rows is better."""
    bad: bool
    """Far below the best, and nothing holds it where it is."""
    referred_to_by: list[str]
    """Runs that need it, relative to the folder of this file."""
    locked_by: str | None
    kept_because: list[str]
    """Of a run far below the best that is not called bad: why."""


@dataclass(frozen=True, kw_only=True)
class TriageTable:
    """Runs judged on the same rows, best first."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    split: str
    n: int
    row_set_fingerprint: str
    num_bins: int
    """Of ECE."""
    ece: str
    """Which ECE decides: `ece_scaled` (calibrated) where every run has it, else `ece`."""
    label: str | None
    """What has to be known to read the table."""
    runs: list[TriagedRun]


@dataclass(frozen=True, kw_only=True)
class Triage:
    """`_ensemble_triage.json`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    order: list[str]
    """What decides, the first one first."""
    max_macro_f1_drop: float
    tables: list[TriageTable]
    """Val rows first, then test, then train."""
    bad: list[str]
    """Their folders, relative to that of this file: the lines of the bad list."""
    left_out: list[LeftOut]
    """Folders that cannot be ranked, and why; none of them is called bad."""
    searched_as_text: list[LeftOut]
    """Files elsewhere that cannot be parsed: they count as referring to everything they name."""
    not_searched: list[LeftOut]
    """Files and folders that cannot be read; while there are any, nothing is called bad."""


def relative_to(path: Path, folder: Path) -> str:
    """Return a path as it is named from a folder."""
    return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()


def _kept_because(group: RankedGroup, judged: Judged, referring: Sequence[str], locked_by: str | None) -> list[str]:
    """Return everything that keeps a run far below the best from being called bad."""
    reasons = []
    if group.rows.split == "train":
        reasons.append("judged on train rows only, which its teachers have seen")
    elif group.is_best_of_kind(judged):
        reasons.append(f"the best of {judged.run.kind} on these rows")
    if referring:
        reasons.append(f"referred to by {', '.join(referring)}")
    if locked_by is not None:
        reasons.append(f"locked by {locked_by}")
    return reasons


def _triaged(group: RankedGroup, judged: Judged, refs: References, folder: Path, max_drop: float) -> TriagedRun:
    run = judged.run
    referring = [relative_to(item.by, folder) for item in refs.protecting(run)]
    locked_by = described_holder(run.path)
    drop = group.drop(judged)
    weak = drop > max_drop
    kept = _kept_because(group, judged, referring, locked_by) if weak else []
    if weak and refs.unknown_besides(run):
        kept.append("whether anything refers to it cannot be told: some files could not be read")
    return TriagedRun(
        run=relative_to(run.path, folder),
        kind=run.kind,
        place=1 + group.members.index(judged),
        space=judged.reached.space,
        weights=judged.reached.weights or {},
        figures=judged.reached.figures,
        drop=drop,
        best=group.is_best(judged),
        bad=weak and not kept,
        referred_to_by=referring,
        locked_by=locked_by,
        kept_because=kept,
    )


def _read(runs: Sequence[RunFolder], folder: Path) -> tuple[list[Judged], list[LeftOut]]:
    judged, left_out = [], []
    for run in runs:
        name = relative_to(run.path, folder)
        try:
            reached = read_figures(run)
        except FerError as error:
            reason = str(error).replace(f"{run.path}/", "").removeprefix(str(run.path)).lstrip(": ")
            left_out.append(LeftOut(run=name, reason=reason))
            continue
        if reached is None:
            left_out.append(LeftOut(run=name, reason=_WITHOUT_FIGURES[RANKED_AS[run.kind]]))
        else:
            judged.append(Judged(run, reached))
    return judged, left_out


def triage_runs(runs: Sequence[RunFolder], refs: References, folder: Path, *, max_macro_f1_drop: float) -> Triage:
    """Rank ensembles with soft labels, and students, within each set of rows, and find the bad ones.

    Bad is what lies further below the best on the same rows than allowed, unless it is the best of its kind there, something
    needs it, or it is locked.

    Args:
        runs: ensembles, soft labels and students.
        refs: who refers to them.
        folder: where the result will lie; its paths are relative to it.
        max_macro_f1_drop: how far below the best macro-F1 may lie.
    """
    judged, left_out = _read(runs, folder)
    tables = []
    for group in ranked_groups(judged):
        rows = group.rows
        triaged = [_triaged(group, item, refs, folder, max_macro_f1_drop) for item in group.members]
        tables.append(
            TriageTable(
                split=rows.split,
                n=rows.n,
                row_set_fingerprint=rows.row_set_fingerprint,
                num_bins=rows.num_bins,
                ece=group.ece,
                label=_LABELS.get(rows.split),
                runs=triaged,
            )
        )
    return Triage(
        order=_ORDER,
        max_macro_f1_drop=max_macro_f1_drop,
        tables=tables,
        bad=[item.run for table in tables for item in table.runs if item.bad],
        left_out=left_out,
        searched_as_text=[LeftOut(run=relative_to(path, folder), reason=why) for path, why in refs.plain],
        not_searched=[LeftOut(run=relative_to(path, folder), reason=why) for path, why in refs.unknown],
    )
