"""Ranks ensembles, soft labels and students within each set of rows: _ensemble_triage.md and .json, _ensemble_bad_list.txt."""

import logging
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.files import explained_write_errors, write_text_atomically
from fer_lightning.pipeline.housekeeping.config import TriageRun
from fer_lightning.reports.triage_page import console_triage, markdown_triage
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.references import references
from fer_lightning.runs.run_folders import RunFolder, enclosing_run, find_runs, other_roots
from fer_lightning.runs.triage import BAD_LIST, TRIAGE_FILE, TRIAGE_PAGE, Triage, triage_runs

log = logging.getLogger(__name__)

_UNLESS_NAMED = ("ensembles", "softlabels")
_KINDS = (*_UNLESS_NAMED, "students")
"""What is ranked; students, of which weak ones are results too, where `triage.folders` names a folder of theirs."""


def _folders(run: TriageRun) -> list[Path]:
    """Return the folders to search.

    Raises:
        FerError: one that is named is not there, or there is none at all.
    """
    root = Path(run.run.root)
    if run.triage.folders:
        folders = [Path(given) for given in run.triage.folders]
        missing = [str(folder) for folder in folders if not folder.is_dir()]
        if missing:
            raise FerError(f"triage.folders: no folder {', '.join(missing)}")
        return folders
    folders = [root / kind for kind in _UNLESS_NAMED if (root / kind).is_dir()]
    if not folders:
        raise FerError(
            f"nothing to triage: {root} has neither ensembles nor softlabels; name folders with triage.folders, or another run.root"
        )
    return folders


def _runs_in(folders: list[Path]) -> list[RunFolder]:
    """Return the ensembles, soft labels and students, each once.

    Raises:
        FerError: there are none.
    """
    runs = {item.real: item for folder in reversed(folders) for item in find_runs(folder).runs if item.kind in _KINDS}
    if not runs:
        raise FerError(f"nothing to triage: no ensemble, soft labels or student below {', '.join(map(str, folders))}")
    return sorted(runs.values())


def _output(run: TriageRun) -> Path:
    folder = Path(run.triage.output_dir or run.run.root)
    inside = enclosing_run(folder, Path(run.run.root))
    if inside is not None:
        raise FerError(f"triage.output_dir: {folder} is, or lies in, the run {inside}; choose another")
    return folder


def _publish(triage: Triage, folder: Path) -> None:
    with explained_write_errors(folder, option="triage.output_dir"):
        folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(folder / TRIAGE_PAGE, markdown_triage(triage))
        write_text_atomically(folder / BAD_LIST, "".join(f"{item}\n" for item in triage.bad))
        write_artifact(folder / TRIAGE_FILE, triage)
    for table in triage.tables:
        log.info("%s\n", console_triage(table))
    weak = [(item.run, item.kept_because) for table in triage.tables for item in table.runs if item.kept_because]
    for name, reasons in weak:
        log.info("kept although weak: %s: %s", name, "; ".join(reasons))
    for item in triage.left_out:
        log.warning("not ranked: %s: %s", item.run, item.reason)
    for item in triage.not_searched:
        log.warning("nothing is called bad: cannot read %s: %s", item.run, item.reason)
    log.info("wrote %s, .json, and %s with %d runs", folder / TRIAGE_PAGE, BAD_LIST, len(triage.bad))


def triage(run: TriageRun) -> None:
    """Rank ensembles and soft labels within one split and row-set fingerprint, and list the bad ones; nothing is moved.

    Students are ranked among themselves where `triage.folders` names a folder of theirs.

    Lines of the bad list are paths relative to the list's own folder.

    Raises:
        FerError: nothing to rank, a folder that is not there or cannot be written.
    """
    folders, output = _folders(run), _output(run)
    runs = _runs_in(folders)
    root = Path(run.run.root)
    refs = references(root, also=[*folders, *other_roots(root)])
    _publish(triage_runs(runs, refs, output, max_macro_f1_drop=run.triage.max_macro_f1_drop), output)
