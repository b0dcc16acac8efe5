"""The triage of ensembles, soft labels and students as Markdown, and as tables for the console."""

from pathlib import PurePosixPath

from fer_lightning.reports.leaderboard_cells import NONE, RANKING_LABELS, bare, cell, markdown_table, weights_text
from fer_lightning.reports.tables import text_table
from fer_lightning.runs.leaderboard import LeftOut
from fer_lightning.runs.triage import BAD_LIST, Triage, TriagedRun, TriageTable

_ON_CONSOLE = ("macro_f1", "minority_f1", "ece", "ece_scaled", "accuracy")


def marks_of(run: TriagedRun) -> str:
    """Return everything that is to be said of a run in a word: best, bad, referred to by whom, locked."""
    marks = [word for word, holds in (("best", run.best), ("bad", run.bad)) if holds]
    if run.referred_to_by:
        marks.append(f"referred to by {', '.join(run.referred_to_by)}")
    if run.locked_by is not None:
        marks.append(f"locked by {run.locked_by}")
    return "; ".join(marks)


def heading_of(table: TriageTable) -> str:
    """Return what stands above a table."""
    number = len(table.runs)
    which = "calibrated" if table.ece == "ece_scaled" else "uncalibrated"
    rows = f"{table.split} rows {table.row_set_fingerprint[:8]} (n={table.n})"
    return f"{number} run{'s' * (number != 1)} on {rows}, by macro-F1, minority-F1, {which} ECE, accuracy"


def console_triage(table: TriageTable) -> str:
    """Return a table for the console, best first."""
    header = ["run", *(RANKING_LABELS[name] for name in _ON_CONSOLE), "marks"]
    rows = [
        [
            f"{run.place} {PurePosixPath(run.run).name}",
            *(cell(run.figures.get(name)) for name in _ON_CONSOLE),
            " ".join(
                word
                for word, holds in (
                    ("best", run.best),
                    ("bad", run.bad),
                    ("referred-to", bool(run.referred_to_by)),
                    ("locked", run.locked_by is not None),
                )
                if holds
            ),
        ]
        for run in table.runs
    ]
    label = [] if table.label is None else [table.label]
    return "\n".join([heading_of(table), *label, text_table(header, rows)])


def _markdown_table(table: TriageTable) -> str:
    header = ["#", "run", "kind", "space", "weights", *RANKING_LABELS.values(), "below the best", "marks"]
    rows = [
        [
            str(run.place),
            f"`{run.run}`",
            run.kind,
            run.space or NONE,
            weights_text(run.weights),
            *(cell(run.figures.get(name)) for name in RANKING_LABELS),
            bare(run.drop),
            marks_of(run),
        ]
        for run in table.runs
    ]
    return markdown_table(header, rows)


def _listed(heading: str, items: list[LeftOut]) -> list[str]:
    if not items:
        return []
    return [f"## {heading}: {len(items)}", "\n".join(f"- `{item.run}`: {item.reason}" for item in items)]


def markdown_triage(triage: Triage) -> str:
    """Return the whole triage as Markdown."""
    told = (
        f"Bad: macro-F1 more than {triage.max_macro_f1_drop:g} below the best on the same rows. Never bad: the best of its kind "
        "on its rows, what something refers to, what is locked, what could not be read. Runs of different rows are in different "
        f"tables, and are not compared. {NONE} is not known. Paths are relative to this file."
    )
    parts = ["# Triage of ensembles, soft labels and students", told]
    for table in triage.tables:
        label = [] if table.label is None else [f"**{table.label}**"]
        fingerprint = f"Row-set fingerprint `{table.row_set_fingerprint}`; ECE of {table.num_bins} bins."
        parts += [f"## {heading_of(table)}", *label, fingerprint, _markdown_table(table)]
    bad = "\n".join(f"- `{run}`" for run in triage.bad) or "None."
    parts += [f"## Bad: {len(triage.bad)}", f"The lines of `{BAD_LIST}`, relative to its own folder.", bad]
    kept = [
        LeftOut(run=run.run, reason="; ".join(run.kept_because))
        for table in triage.tables
        for run in table.runs
        if run.kept_because
    ]
    parts += _listed("Kept although weak", kept)
    parts += _listed("Not ranked", triage.left_out)
    parts += _listed("Broken files, which count as referring to all that they name", triage.searched_as_text)
    parts += _listed("Files that cannot be read, so that nothing is called bad", triage.not_searched)
    return "\n\n".join(parts) + "\n"
