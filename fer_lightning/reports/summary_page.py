"""The summary of a folder of runs as Markdown and CSV, and in a few lines for the console."""

import csv
import io
from collections import Counter
from collections.abc import Sequence

from fer_lightning.reports.leaderboard_cells import NONE, RANKING_LABELS, cell, markdown_table
from fer_lightning.reports.tables import text_table
from fer_lightning.runs.leaderboard import LeftOut
from fer_lightning.runs.summary import RunSummary, Summary, SummaryTable

_STEP = 1024
_MOST_NAMED = 3


def size_text(size_bytes: int) -> str:
    """Return bytes for people, e.g. `43.1 MiB`."""
    size, units = float(size_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= _STEP and len(units) > 1:
        size, units = size / _STEP, units[1:]
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"


def _state(run: RunSummary) -> str:
    told = [run.state if run.locked_by is None else f"{run.state} by {run.locked_by}"]
    return ": ".join([*told, *([] if run.reason is None else [run.reason])])


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_MOST_NAMED])
    return f"{shown} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else shown


def _references(run: RunSummary) -> str:
    parts = [
        *([f"needed by {_named(run.needed_by)}"] if run.needed_by else []),
        *([f"named by {len(run.named_by)}"] if run.named_by else []),
    ]
    return "; ".join(parts) or NONE


def _origin_cells(run: RunSummary) -> list[str]:
    seeds = ", ".join(map(str, run.seeds)) or NONE
    return [seeds, size_text(run.size_bytes), run.changed, _references(run)]


def heading_of(table: SummaryTable) -> str:
    """Return what stands above a table."""
    view = "" if table.view == "single" else f", {table.view} view"
    return f"{table.kind}: {len(table.runs)} on {table.split} rows {table.row_set_fingerprint[:8]} (n={table.n}{view})"


def _figures_table(table: SummaryTable) -> str:
    header = ["#", "run", "kind", "state", *RANKING_LABELS.values(), "best", "seeds", "size", "changed", "references"]
    rows = [
        [
            str(place),
            f"`{run.run}`",
            run.kind,
            _state(run),
            *(cell(run.figures.get(name)) for name in RANKING_LABELS),
            "best" if run.best else "",
            *_origin_cells(run),
        ]
        for place, run in enumerate(table.runs, start=1)
    ]
    return markdown_table(header, rows)


def _plain_table(runs: Sequence[RunSummary]) -> str:
    header = ["run", "kind", "state", "rows", "macro-F1", "seeds", "size", "changed", "references"]
    rows = [
        [f"`{run.run}`", run.kind, _state(run), _rows(run), cell(run.figures.get("macro_f1")), *_origin_cells(run)]
        for run in runs
    ]
    return markdown_table(header, rows)


def _rows(run: RunSummary) -> str:
    if run.row_set_fingerprint is None:
        return NONE
    number = "" if run.n is None else f" (n={run.n})"
    return f"{run.split or ''} {run.row_set_fingerprint[:8]}{number}".strip()


def _listed(heading: str, items: Sequence[LeftOut]) -> list[str]:
    return (
        [f"## {heading}: {len(items)}", "\n".join(f"- `{item.run}`: {item.reason}" for item in items)] if items else []
    )


def console_summary(summary: Summary) -> str:
    """Return how many runs of each kind there are, in which state, and how large they are."""
    kinds = list(dict.fromkeys(run.kind for run in summary.runs))
    rows = []
    for kind in sorted(kinds):
        runs = [run for run in summary.runs if run.kind == kind]
        states = Counter(run.state for run in runs)
        told = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        rows.append([kind, str(len(runs)), size_text(sum(run.size_bytes for run in runs)), told])
    return text_table(["kind", "runs", "size", "states"], rows)


def markdown_summary(summary: Summary) -> str:
    """Return the whole summary as Markdown."""
    told = (
        "Runs of different rows are in different tables, and are not compared. Best first by macro-F1, minority-F1, ECE "
        f"(calibrated where every run of a table is), accuracy. {NONE} is not known. Paths are relative to this file."
    )
    parts = ["# Runs", told, f"```\n{console_summary(summary)}\n```"]
    for table in summary.tables:
        which = "calibrated" if table.ece == "ece_scaled" else "uncalibrated"
        fingerprint = (
            f"Row-set fingerprint `{table.row_set_fingerprint}`; ECE of {table.num_bins} bins, {which} in the order."
        )
        parts += [f"## {heading_of(table)}", fingerprint, _figures_table(table)]
    if summary.without_figures:
        parts += [f"## Without figures: {len(summary.without_figures)}", _plain_table(summary.without_figures)]
    if summary.archived:
        parts += [f"## Archived: {len(summary.archived)}", _plain_table(summary.archived)]
    parts += _listed("Broken files, which count as referring to all that they name", summary.searched_as_text)
    parts += _listed("Files that cannot be read: nobody knows what they refer to", summary.not_searched)
    return "\n\n".join(parts) + "\n"


def csv_summary(summary: Summary) -> str:
    """Return one line per run; empty where something is not known."""
    header = [
        "run",
        "kind",
        "state",
        "reason",
        "locked_by",
        "split",
        "n",
        "row_set_fingerprint",
        *RANKING_LABELS,
        "best",
    ]
    header += ["seeds", "size_bytes", "changed", "needed_by", "named_by"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for run in summary.runs:
        figures = [run.figures.get(name) for name in RANKING_LABELS]
        rows = [run.split, run.n, run.row_set_fingerprint]
        several = [" ".join(map(str, run.seeds)), run.size_bytes, run.changed]
        named = [" ".join(run.needed_by), " ".join(run.named_by)]
        writer.writerow(
            [run.run, run.kind, run.state, run.reason, run.locked_by, *rows, *figures, run.best, *several, *named]
        )
    return file.getvalue()
