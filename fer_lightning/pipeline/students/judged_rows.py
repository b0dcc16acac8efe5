"""The rows that all students of a comparison are judged on, and that none of them has seen."""

import logging
from dataclasses import dataclass

import numpy as np

from fer_lightning.data.selection import Selection, select_rows
from fer_lightning.errors import FerError
from fer_lightning.pipeline.rows.ancestors import records_at_the_start
from fer_lightning.pipeline.rows.seen_in_training import refuse_seen, refuse_seen_by
from fer_lightning.pipeline.students.comparison_config import CompareStudentsRun

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JudgedRows:
    """Rows of a split that all students are judged on."""

    selection: Selection
    seen: int
    """How many of them show what the students are trained on, of kinds that `data.allow_leaks` lets pass."""


def _test_rows(run: CompareStudentsRun, trained: Selection) -> JudgedRows | None:
    """Return the test rows, that show nothing of what students start from or are trained on; None where there are none.

    Raises:
        FerError: faulty rows, or rows that were trained on.
    """
    selection = select_rows(run.data, run.source_filter, splits=("test",))
    if not len(selection.rows["test"]):
        return None
    refuse_seen_by(records_at_the_start(run), selection, "test", run.data, allowed={*run.data.allow_leaks})
    return JudgedRows(selection, _seen(run, trained, selection, "test"))


def _seen(run: CompareStudentsRun, trained: Selection, judged: Selection, split: str) -> int:
    """Count rows that show what is trained on; the check between splits has let none pass that are not allowed."""
    if not trained.allowed_leaks:
        return 0
    allowed = {*run.data.allow_leaks}
    return len(refuse_seen(judged, split, trained.manifest, trained.rows["train"], run.data, allowed=allowed))


def judged_rows(run: CompareStudentsRun, trained: Selection) -> dict[str, JudgedRows]:
    """Return the rows of each split asked for that has some.

    Args:
        run: the typed run.
        trained: rows that students train on, and their val rows.

    Raises:
        FerError: see `_test_rows`; none is left, or all rows of a split belong together.
    """
    rows: dict[str, JudgedRows] = {}
    if "val" in run.comparison.splits:
        rows["val"] = JudgedRows(trained, _seen(run, trained, trained, "val"))
    test = _test_rows(run, trained) if "test" in run.comparison.splits else None
    if test is not None:
        rows["test"] = test
    elif "test" in run.comparison.splits:
        why = f"{trained.manifest.path} has no test rows after source_filter={run.source_filter.name}"
        if not rows:
            raise FerError(f"comparison.splits=[test]: {why}; take comparison.splits=[val]")
        log.warning("judged on val rows alone, which best.pt was chosen on: %s", why)
    for split, judged in rows.items():
        if len(np.unique(judged.selection.groups(split))) == 1:
            raise FerError(
                f"all {split} rows of {trained.manifest.path} belong together: no interval can be given; take other rows, or leave "
                "them out of comparison.splits"
            )
    return rows
