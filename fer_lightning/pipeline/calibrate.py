"""Compares all calibrators on a model's val logits, and writes down the one to take."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.errors import FerError
from fer_lightning.files import explained_write_errors, write_text_atomically
from fer_lightning.pipeline.evaluate import check_beforehand, output_dir
from fer_lightning.pipeline.evaluation.config import CalibrateRun, EvaluationTarget, GatesConfig
from fer_lightning.pipeline.evaluation.subjects import Subject, open_subject
from fer_lightning.pipeline.rows.calibration_rows import check_val, logits_to_apply_to
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.checkpoint_file import CHECKPOINT_FILES
from fer_lightning.runs.lock import RunLock
from fer_lightning.training.config import CalibrationConfig, CalibrationMethod

if TYPE_CHECKING:
    from torch import Tensor

    from fer_lightning.runs.calibration_report import AppliedCalibrators, CalibrationReport, Calibrator
    from fer_lightning.runs.stored_logits import StoredLogits
    from fer_lightning.runs.stored_logits_record import StoredLogitsRecord
    from fer_lightning.training.calibrator_comparison import FittedCalibrator

log = logging.getLogger(__name__)

_COMPARISON = "calibration_comparison"


def calibrate(run: CalibrateRun) -> None:
    """Cross-fit every calibrator on val, recommend one, and show what all of them do to other rows.

    Raises:
        FerError: no model, rows that are not val rows or all linked, no method that can be fitted, or rows to apply to that
            are of another model or were fitted on.
        RunLockedError: another comparison writes to the same directory.
    """
    _refuse_idle_options(run)
    check_beforehand(run)
    subject = open_subject(run, str(run.evaluate.checkpoint), option="evaluate.checkpoint")
    check_val(subject.stored)
    others = logits_to_apply_to(run.calibrate.apply_to, subject.stored)
    output = output_dir(run, subject.stored, kind="calibrations")
    with RunLock(output, unlock_stale=run.run.unlock_stale):
        _compare(run, subject, others, output)


def _refuse_idle_options(run: CalibrateRun) -> None:
    """Refuse options of an evaluation that a comparison of calibrators would not heed."""
    if run.evaluate.checkpoint is None:
        raise FerError(
            "task=calibrate needs evaluate.checkpoint=<best.pt, checkpoint_last.pt, an .onnx file, a run directory, an ensemble or stored "
            "logits>"
        )
    idle = {
        "evaluate.manifests": bool(run.evaluate.manifests),
        "evaluate.slices": bool(run.evaluate.slices),
        "evaluate.gates": run.evaluate.gates != GatesConfig(),
        "evaluate.target_risks": run.evaluate.target_risks != EvaluationTarget().target_risks,
        "evaluate.calibrator": run.evaluate.calibrator is not None,
        "calibration.method": run.calibration.method is not None,
    }
    for option, given in idle.items():
        if given:
            raise FerError(f"{option} would have no effect: task=calibrate compares calibrate.methods on one manifest")


def _compare(run: CalibrateRun, subject: Subject, others: dict[str, "StoredLogits"], output: Path) -> None:
    """Fit, compare, write every file, and tell."""
    from fer_lightning.training.calibration import num_folds
    from fer_lightning.training.calibrator_comparison import fit_all

    stored, config = subject.stored, subject.calibration
    folds = stored.folds(config.num_folds)
    if num_folds(folds) < 2:
        raise FerError(f"all {stored.record.n} rows are linked: no calibrator can be judged by rows it has not seen")
    methods = list(dict.fromkeys(run.calibrate.methods))
    fitted, refused = fit_all(stored.logits, stored.labels, folds, methods)
    if not fitted:
        reasons = "\n  ".join(f"{item.method}: {item.reason}" for item in refused)
        raise FerError(f"no calibrator can be fitted on these {stored.record.n} rows:\n  {reasons}")
    report = _report(run, subject, fitted, num_folds(folds))
    report = replace(
        report, refused=refused, applied=[_applied(name, other, fitted, config) for name, other in others.items()]
    )
    with explained_write_errors(output, option="evaluate.output_dir"):
        _write(report, fitted, subject, output)
    _tell(report, subject, output)


def _report(run: CalibrateRun, subject: Subject, fitted: "list[FittedCalibrator]", folds: int) -> "CalibrationReport":
    """Compare what was fitted."""
    from fer_lightning.runs.calibration_report import CalibrationReport
    from fer_lightning.training.calibrator_comparison import compare_fits, reason_for

    stored, record, target = subject.stored, subject.stored.record, run.evaluate
    compared = compare_fits(
        fitted,
        stored.logits,
        stored.labels,
        stored.groups,
        num_bins=subject.calibration.num_bins,
        num_resamples=target.num_resamples,
        confidence=target.confidence,
    )
    return CalibrationReport(
        model=subject.name,
        checkpoint=record.checkpoint,
        checkpoint_sha256=record.checkpoint_sha256,
        epoch=record.epoch,
        weights=record.weights,
        view=record.view,
        canonical_digest=record.canonical_digest,
        manifest=record.manifest,
        manifest_sha256=record.manifest_sha256,
        split=record.split,
        n=record.n,
        requested_rows=record.requested_rows,
        rows_left_out=record.rows_left_out,
        rows_seen_in_training=record.rows_seen_in_training,
        row_set_fingerprint=record.row_set_fingerprint,
        logits_sha256=record.logits_sha256,
        how=f"cross-fitted in {folds} folds: no row is judged by a calibrator that saw it",
        num_folds=folds,
        num_bins=subject.calibration.num_bins,
        num_resamples=target.num_resamples,
        confidence=target.confidence,
        calibrators=compared,
        refused=[],
        recommended=compared[0].method,
        reason=reason_for(compared),
        applied=[],
    )


def _applied(
    given: str, other: "StoredLogits", fitted: "list[FittedCalibrator]", config: CalibrationConfig
) -> "AppliedCalibrators":
    """Judge every calibrator, fitted on all val rows, on other rows."""
    from fer_lightning.runs.calibration_report import AppliedCalibrators
    from fer_lightning.training.calibrator_comparison import figures_of

    record, logits = other.record, other.logits.double()
    corrupted = "" if record.corruption == "none" else f" ({record.corruption})"
    return AppliedCalibrators(
        logits=given,
        logits_sha256=record.logits_sha256,
        label=f"applied to {record.split}{corrupted}",
        split=record.split,
        n=record.n,
        row_set_fingerprint=record.row_set_fingerprint,
        corruption=record.corruption,
        manifest=record.manifest,
        manifest_sha256=record.manifest_sha256,
        rows_seen_in_training=record.rows_seen_in_training,
        figures={
            one.method: figures_of(one.fit.apply(logits), other.labels, num_bins=config.num_bins) for one in fitted
        },
    )


def _calibrator_of(report: "CalibrationReport", subject: Subject) -> "Calibrator":
    """Fit the recommended calibrator on all val rows, with its conformal threshold."""
    from fer_lightning.runs.calibration_report import Calibrator
    from fer_lightning.training.calibration import fit_record, row_set_of

    stored = subject.stored
    rows = row_set_of(stored.record)
    config = replace(subject.calibration, method=CalibrationMethod(report.recommended))
    folds = stored.folds(config.num_folds)
    return Calibrator(
        checkpoint=report.checkpoint,
        checkpoint_sha256=report.checkpoint_sha256,
        view=report.view,
        calibration=fit_record(stored.logits, stored.labels, rows, config, folds=folds),
    )


def _write(report: "CalibrationReport", fitted: "list[FittedCalibrator]", subject: Subject, output: Path) -> None:
    """Write every file; the comparison last, so that it stands for the others."""
    from fer_lightning.reports.calibration_figure import calibration_figure
    from fer_lightning.reports.calibration_page import calibration_csv, calibration_markdown
    from fer_lightning.reports.figures import save_figure

    log_probs: dict[str, Tensor] = {one.method: one.log_probs for one in fitted}
    figure = calibration_figure(
        {one.method: log_probs[one.method] for one in report.calibrators},
        subject.stored.labels,
        recommended=report.recommended,
        num_bins=report.num_bins,
        title=f"{report.checkpoint} {report.checkpoint_sha256[:8]}, {report.split} n={report.n}, cross-fitted",
    )
    for name in ("calibrator.json", f"{_COMPARISON}.json"):
        (output / name).unlink(missing_ok=True)
    write_text_atomically(output / f"{_COMPARISON}.md", calibration_markdown(report))
    write_text_atomically(output / f"{_COMPARISON}.csv", calibration_csv(report))
    save_figure(output / f"{_COMPARISON}.png", figure)
    write_artifact(output / "calibrator.json", _calibrator_of(report, subject))
    write_artifact(output / f"{_COMPARISON}.json", report)


def _tell(report: "CalibrationReport", subject: Subject, output: Path) -> None:
    """Show the tables, the recommendation, and what is wrong with calibrators."""
    from fer_lightning.reports.calibration_page import calibration_text

    log.info("%s", calibration_text(report))
    for refused in report.refused:
        log.warning("%s is left out: %s", refused.method, refused.reason)
    bound = [one.method for one in report.calibrators if one.at_bound]
    if bound:
        log.warning(
            "AT THE BOUND of its search, so not at its best: %s; something is wrong with logits or labels",
            ", ".join(bound),
        )
    changing = [
        f"{one.method} ({one.changed_predictions} rows)" for one in report.calibrators if one.changed_predictions
    ]
    if changing:
        log.warning(
            "these calibrators change the predicted class, so F1 and accuracy are no longer the network's: %s",
            ", ".join(changing),
        )
    for applied in report.applied:
        if applied.rows_seen_in_training:
            log.warning("%s: the model was trained on %d of these rows", applied.logits, applied.rows_seen_in_training)
    log.info("recommended: %s; %s", report.recommended, report.reason)
    calibrator = output / "calibrator.json"
    log.info(
        "%sto judge it on other rows: task=evaluate evaluate.calibrator=%s; everything is in %s",
        _how_to_deploy(subject.stored.record, calibrator),
        calibrator,
        output,
    )


def _how_to_deploy(record: "StoredLogitsRecord", calibrator: Path) -> str:
    """Return the command that exports the model with a calibrator; nothing for what is no checkpoint."""
    names = {file: which for which, file in CHECKPOINT_FILES.items()}
    which = "best" if record.kind == "ensemble" else names.get(record.checkpoint)
    if which is None:
        return ""
    options = f"export.run_dir={record.run_dir} export.which=[{which}] export.calibrator={calibrator}"
    return f"to deploy it: task=export_onnx {options}; "
