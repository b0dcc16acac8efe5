"""Lists every run below a folder: summary.md, summary.csv and summary.json."""

import logging
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.files import explained_write_errors, write_text_atomically
from fer_lightning.pipeline.housekeeping.config import SummariseRun
from fer_lightning.reports.summary_page import console_summary, csv_summary, markdown_summary
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.references import references
from fer_lightning.runs.run_folders import ARCHIVE_FOLDER, enclosing_run, find_runs, other_roots
from fer_lightning.runs.summarised_runs import summarised_runs
from fer_lightning.runs.summary import SUMMARY_FILES

log = logging.getLogger(__name__)


def summarise(run: SummariseRun) -> None:
    """Describe every run below `run.root`, archived ones included, and write the summary; nothing else is touched.

    Raises:
        FerError: no runs, or a folder that cannot be written.
    """
    root, folder = Path(run.run.root), Path(run.summary.output_dir or run.run.root)
    if not root.is_dir():
        raise FerError(f"run.root: no folder {root}")
    inside = enclosing_run(folder, root)
    if inside is not None:
        raise FerError(f"summary.output_dir: {folder} is, or lies in, the run {inside}; choose another")
    refs = references(root, also=other_roots(root))
    own = {found.real for found in find_runs(root).runs}
    archived = find_runs(root / ARCHIVE_FOLDER, archived=True).runs if (root / ARCHIVE_FOLDER).is_dir() else ()
    runs = [found for found in refs.found.runs if found.real in own]
    if not runs and not archived:
        raise FerError(f"nothing to summarise: no run below {root}")
    summary = summarised_runs(runs, archived, refs, folder)
    page, table, record = SUMMARY_FILES
    with explained_write_errors(folder, option="summary.output_dir"):
        folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(folder / page, markdown_summary(summary))
        write_text_atomically(folder / table, csv_summary(summary))
        write_artifact(folder / record, summary)
    log.info("%s", console_summary(summary))
    for item in summary.without_figures:
        if item.state == "unreadable":
            log.warning("unreadable: %s: %s", item.run, item.reason)
    log.info("wrote %s, .csv and .json", folder / page)
