"""Checks that a teacher's recipe can train: classes, one batch, gradients, a few rows learnt by heart, its start."""

import logging
from pathlib import Path

from fer_lightning.errors import CheckFailedError, FerError
from fer_lightning.pipeline.config import CheckTrainingRun
from fer_lightning.pipeline.learning.preparation import check_starting_files, select_training_rows
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.check_report import Finding
from fer_lightning.runs.lock import RunLock

log = logging.getLogger(__name__)


def check_training(run: CheckTrainingRun) -> None:
    """Check a recipe and write `check.json` to a directory of its own; the teacher's directory is not touched.

    Raises:
        FerError: what training would refuse: rows, weights, device.
        CheckFailedError: after everything is written: a check failed.
        RunLockedError: another check writes to the same directory.
    """
    check_starting_files(run)
    selection = select_training_rows(run)
    output = Path(run.run.root) / "checks" / run.name
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FerError(f"cannot make {output}: {error.strerror}; choose another run.root") from error
    with RunLock(output, unlock_stale=run.run.unlock_stale):
        from fer_lightning.pipeline.learning.trial import try_learner  # torch, timm and lightning: seconds

        report = try_learner(run, selection)
        write_artifact(output / "check.json", report)
    log.info("%s", _table(report.findings))
    log.info("wrote %s", output / "check.json")
    if report.failed:
        raise CheckFailedError(f"{run.name}: {', '.join(report.failed)} failed; see {output / 'check.json'}")


def _table(findings: list[Finding]) -> str:
    """Return a line per check, and under it the advice."""
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict}  {finding.check.ljust(width)}  {finding.figure}")
        if finding.advice:
            lines.append(f"      {' ' * width}  -> {finding.advice}")
    return "\n".join(lines)
