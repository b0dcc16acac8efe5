"""Looks at every run below a folder for its summary: state, figures, seeds, size, references."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydantic_core
import yaml

from fer_lightning.errors import FerError
from fer_lightning.runs.ensemble import ENSEMBLE_FILE, ENSEMBLE_METRICS_FILE
from fer_lightning.runs.leaderboard import LeftOut
from fer_lightning.runs.lock import described_holder
from fer_lightning.runs.references import References
from fer_lightning.runs.run_figures import Judged, RunFigures, ranked_groups, read_figures
from fer_lightning.runs.run_folders import RunFolder
from fer_lightning.runs.softlabels import HASH_FILE, SOFTLABELS_FILE
from fer_lightning.runs.summary import RunSummary, Summary, SummaryTable, local_time, size_and_change
from fer_lightning.runs.triage import relative_to

_FINAL_FILES = {
    "teachers": ("best.pt", "checkpoint_last.pt", "reliabilitymetrics.json"),
    "students": ("best.pt", "checkpoint_last.pt", "reliabilitymetrics.json"),
    "ensembles": (ENSEMBLE_FILE, ENSEMBLE_METRICS_FILE),
    "softlabels": (HASH_FILE, SOFTLABELS_FILE),
}
"""Kind -> what a finished run has; other kinds are known by the file that is written last."""
_RECORDS = {
    "logits": "storedlogits.json",
    "calibrations": "calibration_comparison.json",
    "robustness": "robustness.json",
    "source_matrix": "source_matrix.json",
}
"""Kind without figures of its own -> file that says which rows it is of."""


@dataclass(frozen=True)
class _Rows:
    split: str | None = None
    n: int | None = None
    fingerprint: str | None = None


def _config_seed(path: Path) -> int | None:
    """Return `run.seed` of a run's record, None where there is none."""
    try:
        content = (path / "config.yaml").read_bytes()
        values: Any = yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  both are safe
    except (OSError, ValueError, yaml.YAMLError):
        return None
    options = values.get("run") if isinstance(values, dict) else None
    seed = options.get("seed") if isinstance(options, dict) else None
    return seed if isinstance(seed, int) else None


def seeds_of(runs: Sequence[RunFolder], refs: References) -> dict[Path, list[int]]:
    """Return the seeds of trained runs, and those of the trained runs that ensembles and soft labels need."""
    found: dict[Path, set[int]] = {}
    for run in runs:
        seed = _config_seed(run.path) if run.kind in {"teachers", "students"} else None
        if seed is None:
            continue
        found.setdefault(run.path, set()).add(seed)
        for reference in refs.of(run):
            if reference.kind in {"ensembles", "softlabels"}:
                found.setdefault(reference.by, set()).add(seed)
    return {path: sorted(seeds) for path, seeds in found.items()}


def _rows_of(run: RunFolder) -> _Rows:
    """Return the rows that a record without figures is of, as far as it says.

    Raises:
        FerError: the record is damaged.
    """
    name = _RECORDS.get(run.kind)
    file = run.path / str(name)
    if name is None or not file.is_file():
        return _Rows()
    try:
        record = pydantic_core.from_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise FerError(f"{file}: {str(error).splitlines()[0]}") from error
    if not isinstance(record, dict):
        raise FerError(f"{file} is no record")
    split, n, fingerprint = (record.get(key) for key in ("split", "n", "row_set_fingerprint"))
    return _Rows(
        split if isinstance(split, str) else None,
        n if isinstance(n, int) else None,
        fingerprint if isinstance(fingerprint, str) else None,
    )


def _is_finished(run: RunFolder) -> bool:
    """Return whether a run has its last files, and none of its checkpoints is newer than its figures."""
    files = [run.path / name for name in _FINAL_FILES.get(run.kind, ())]
    if not all(file.is_file() for file in files):
        return False
    if run.kind not in {"teachers", "students"}:
        return True
    *checkpoints, metrics = (file.stat().st_mtime_ns for file in files)
    return max(checkpoints) <= metrics


def _looked_at(
    run: RunFolder, refs: References, seeds: Mapping[Path, list[int]], folder: Path, *, archived: bool
) -> tuple[RunSummary, RunFigures | None]:
    reached, rows, reason = None, _Rows(), None
    try:
        reached = read_figures(run) if _is_finished(run) or archived else None
        rows = _rows_of(run)
    except FerError as error:
        reason = str(error).replace(f"{run.path}/", "").removeprefix(str(run.path)).lstrip(": ")
    if reached is not None:
        rows = _Rows(reached.rows.split, reached.rows.n, reached.rows.row_set_fingerprint)
    locked_by = described_holder(run.path)
    finished = "finished" if _is_finished(run) else "unfinished"
    states = (("archived", archived), ("locked", locked_by is not None), ("unreadable", reason is not None))
    size, changed = size_and_change(run.path)
    referring = refs.of(run)
    summary = RunSummary(
        run=relative_to(run.path, folder),
        kind=run.kind,
        state=next((state for state, holds in states if holds), finished),
        reason=reason,
        locked_by=locked_by,
        split=rows.split,
        n=rows.n,
        row_set_fingerprint=rows.fingerprint,
        figures={} if reached is None else reached.figures,
        best=False,
        seeds=seeds.get(run.path, []),
        size_bytes=size,
        changed=local_time(changed),
        needed_by=[relative_to(item.by, folder) for item in referring if item.protects],
        named_by=[relative_to(item.by, folder) for item in referring if not item.protects],
    )
    return summary, reached


def summarised_runs(
    runs: Sequence[RunFolder], archived: Sequence[RunFolder], refs: References, folder: Path
) -> Summary:
    """Describe runs, those of the same rows in one table.

    Args:
        runs: those that stand where they were made.
        archived: those in the archive.
        refs: who refers to whom.
        folder: where the summary will lie; its paths are relative to it.
    """
    seeds = seeds_of([*runs, *archived], refs)
    looked = [(run, *_looked_at(run, refs, seeds, folder, archived=False)) for run in runs]
    summaries = {run.real: summary for run, summary, _ in looked}
    judged = [Judged(run, reached) for run, _, reached in looked if reached is not None]
    tables = []
    for group in ranked_groups(judged):
        members = [(summaries.pop(item.run.real), group.is_best(item)) for item in group.members]
        rows = group.rows
        tables.append(
            SummaryTable(
                kind=group.among,
                split=rows.split,
                n=rows.n,
                row_set_fingerprint=rows.row_set_fingerprint,
                num_bins=rows.num_bins,
                view=rows.view,
                ece=group.ece,
                runs=[replace(summary, best=best) for summary, best in members],
            )
        )
    return Summary(
        tables=tables,
        without_figures=sorted(summaries.values(), key=lambda item: (item.kind, item.run)),
        archived=[_looked_at(run, refs, seeds, folder, archived=True)[0] for run in archived],
        searched_as_text=[LeftOut(run=relative_to(path, folder), reason=why) for path, why in refs.plain],
        not_searched=[LeftOut(run=relative_to(path, folder), reason=why) for path, why in refs.unknown],
    )
