"""Judges a model on corrupted renditions of the same rows: how far its figures fall, and whether its calibration holds."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.errors import FerError
from fer_lightning.files import explained_write_errors, write_text_atomically
from fer_lightning.pipeline.evaluate import check_beforehand, output_dir
from fer_lightning.pipeline.evaluation.config import Corruption, EvaluationCalibration, EvaluationTarget, RobustnessRun
from fer_lightning.pipeline.evaluation.ensemble_subject import model_rows
from fer_lightning.pipeline.evaluation.subjects import Subject, calibration_for
from fer_lightning.pipeline.logits.model_files import ModelFile, find_model
from fer_lightning.pipeline.logits.scores import scores_of
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows, refuse_changes
from fer_lightning.runs.lock import RunLock
from fer_lightning.runs.stored_logits_record import is_stored

if TYPE_CHECKING:
    from fer_lightning.runs.artifacts import CalibrationRecord
    from fer_lightning.runs.robustness_report import ConditionReport, Robustness
    from fer_lightning.runs.stored_logits import StoredLogits
    from fer_lightning.training.robustness import Comparing

log = logging.getLogger(__name__)

_OPTION = "evaluate.checkpoint"
_WITHOUT_EFFECT = ("manifests", "slices", "target_risks", "gates")
_ROWS_LOOKED_AT = 64


def _refuse_what_has_no_effect(run: RobustnessRun) -> None:
    given = run.evaluate.checkpoint
    if given is not None and is_stored(given):
        raise FerError(
            f"{_OPTION}={given} are stored logits; corruptions need pictures, and a model that sees them: name the model file"
        )
    why = "task=robustness follows a few figures over the corruptions of one set of rows; task=evaluate takes it"
    refuse_changes(run.evaluate, EvaluationTarget(), _WITHOUT_EFFECT, "evaluate", why)
    fits = run.evaluate.split in {None, "val"}
    unused = ("conformal_alpha",) if fits else ("num_folds", "conformal_alpha")
    why = "no sets of classes are judged" if fits else f"nothing is fitted on {run.evaluate.split}"
    refuse_changes(run.calibration, EvaluationCalibration(), unused, "calibration", why)
    if not run.robustness.corruptions and not run.robustness.clahe:
        raise FerError("robustness.corruptions names none and robustness.clahe=false: nothing to compare with clean")


def _comparing(
    run: RobustnessRun, rows: EvaluationRows, clean: "StoredLogits"
) -> "tuple[Comparing, CalibrationRecord | None]":
    """Return how conditions are judged, calibrated as `task=evaluate` does, and the calibrator kept with the model."""
    from fer_lightning.training.robustness import Comparing, scaling_of

    subject = Subject(str(run.evaluate.checkpoint), clean, rows.calibration, run.calibration.method, rows)
    config, fitted = calibration_for(subject, run.evaluate.calibrator)
    how = Comparing(
        scaling=scaling_of(clean, config, fitted),
        num_bins=config.num_bins,
        num_resamples=run.evaluate.num_resamples,
        confidence=run.evaluate.confidence,
    )
    return how, fitted


def _judge(
    run: RobustnessRun, model: ModelFile, rows: EvaluationRows, clean: "StoredLogits", how: "Comparing"
) -> "tuple[ConditionReport, list[ConditionReport], ConditionReport | None]":
    """Judge clean pictures, corruption by corruption, and the switched CLAHE."""
    from fer_lightning.runs.robustness_report import CLAHE
    from fer_lightning.training.robustness import judge_clean, judge_corrupted

    clean_report = judge_clean(clean, how)
    severities = sorted(run.robustness.severities)
    asked = [(corruption, severity) for corruption in run.robustness.corruptions for severity in severities]
    total = len(asked) + run.robustness.clahe
    conditions, clahe = [], None
    for number, (corruption, severity) in enumerate(asked, start=1):
        log.info("corruption %d of %d: %s at severity %d", number, total, corruption.value, severity)
        stored = scores_of(model, rows, run, option=_OPTION, corruption=corruption, severity=severity)
        conditions.append(
            judge_corrupted(stored, clean, clean_report, corruption=corruption.value, severity=severity, how=how)
        )
    if run.robustness.clahe:
        log.info("corruption %d of %d: CLAHE switched", total, total)
        stored = scores_of(model, rows, run, option=_OPTION, flip_clahe=True)
        clahe = judge_corrupted(stored, clean, clean_report, corruption=CLAHE, severity=0, how=how)
    return clean_report, conditions, clahe


def _report(
    run: RobustnessRun,
    model: ModelFile,
    rows: EvaluationRows,
    clean: "StoredLogits",
    how: "Comparing",
    kept: "CalibrationRecord | None",
) -> "Robustness":
    from fer_lightning.labels import EMOTIONS
    from fer_lightning.runs.robustness_report import Robustness
    from fer_lightning.training.robustness import mean_reports

    record, present = clean.record, set(clean.labels.tolist())
    clean_report, conditions, clahe = _judge(run, model, rows, clean, how)
    return Robustness(
        model=str(run.evaluate.checkpoint),
        checkpoint=record.checkpoint,
        checkpoint_sha256=record.checkpoint_sha256,
        epoch=record.epoch,
        weights=record.weights,
        manifest=record.manifest,
        manifest_sha256=record.manifest_sha256,
        split=record.split,
        requested_rows=record.requested_rows,
        rows_left_out=record.rows_left_out,
        rows_seen_in_training=record.rows_seen_in_training,
        n=record.n,
        row_set_fingerprint=record.row_set_fingerprint,
        absent_classes=[name for index, name in enumerate(EMOTIONS) if index not in present],
        canonical=record.canonical,
        view=record.view,
        num_bins=how.num_bins,
        calibration=kept,
        scaled_how=how.scaling.how,
        confidence=how.confidence,
        num_resamples=how.num_resamples,
        severities=sorted(run.robustness.severities),
        clean=clean_report,
        conditions=conditions,
        clahe=clahe,
        means=mean_reports(conditions),
    )


def _draw_samples(rows: EvaluationRows, report: "Robustness", corruptions: Sequence[Corruption], path: Path) -> None:
    """Draw a row under all corruptions: the first colour one, if there is one early on, for grey changes no other."""
    from fer_lightning.data.pictures.canonical import CanonicalSpec, expand
    from fer_lightning.data.pictures.corruptions import corrupted_store
    from fer_lightning.data.pictures.store import DecodingStore
    from fer_lightning.reports.figures import save_figure
    from fer_lightning.reports.robustness_figures import samples_figure

    manifest, numbers = rows.selection.manifest, rows.selection.rows[rows.split][:_ROWS_LOOKED_AT]
    spec = CanonicalSpec(**report.canonical)  # type: ignore[arg-type]
    pictures = DecodingStore(manifest, spec).pictures(numbers)
    place = next((place for place in range(len(numbers)) if pictures(place).ndim == 3), 0)
    shown = [
        (
            corruption.value,
            [
                expand(corrupted_store(manifest, spec, corruption.value, severity).pictures(numbers)(place))
                for severity in report.severities
            ],
        )
        for corruption in corruptions
    ]
    row = int(numbers[place])
    title = f"manifest line {manifest.lines[row]}, {manifest.image_paths[row]}, as the model sees it"
    save_figure(path, samples_figure(expand(pictures(place)), shown, report.severities, title=title))


def _write(run: RobustnessRun, rows: EvaluationRows, report: "Robustness", output: Path) -> None:
    """Write every file; `robustness.json` last, so that it stands for the others."""
    from fer_lightning.reports.figures import save_figure
    from fer_lightning.reports.robustness_figures import robustness_figure
    from fer_lightning.reports.robustness_page import csv_text, markdown_page
    from fer_lightning.runs.artifacts import write_artifact

    (output / "robustness.json").unlink(missing_ok=True)
    write_text_atomically(output / "robustness.md", markdown_page(report))
    write_text_atomically(output / "robustness.csv", csv_text(report))
    save_figure(output / "robustness.png", robustness_figure(report))
    if report.conditions:
        _draw_samples(rows, report, run.robustness.corruptions, output / "samples.png")
    write_artifact(output / "robustness.json", report)


def robustness(run: RobustnessRun) -> None:
    """Judge a model on clean and on corrupted pictures of the same rows, and write robustness.json, .md, .csv and .png.

    Every rendition's logits are stored, and taken by a later call.

    Raises:
        FerError: no model, an ensemble's folder or stored logits in its place, no rows, or an option that would have no effect.
        RunLockedError: another call writes to the same directory.
    """
    _refuse_what_has_no_effect(run)
    check_beforehand(run)
    model = find_model(run.evaluate.checkpoint, option=_OPTION)
    rows = model_rows(run, model, option=_OPTION)
    if not len(rows.selection.rows[rows.split]):
        raise FerError(f"{rows.manifest} has no {rows.split} rows")
    log.info("clean pictures")
    clean = scores_of(model, rows, run, option=_OPTION)
    how, kept = _comparing(run, rows, clean)
    output = output_dir(run, clean, kind="robustness")
    with RunLock(output, unlock_stale=run.run.unlock_stale):
        report = _report(run, model, rows, clean, how, kept)
        with explained_write_errors(output, option="evaluate.output_dir"):
            _write(run, rows, report, output)
    from fer_lightning.reports.robustness_page import console_text

    log.info("%s", console_text(report))
    log.info("wrote %s, .md, .csv and .png, and samples.png", output / "robustness.json")
