"""Evaluates any model, or its stored logits, on any manifests and split: every figure, every file, and the gates."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.errors import FerError
from fer_lightning.files import explained_write_errors, sha256_of
from fer_lightning.pipeline.evaluation.config import EvaluateRun
from fer_lightning.pipeline.evaluation.subjects import (
    Subject,
    calibration_for,
    check_given,
    open_on_same_rows,
    open_subject,
    slice_columns,
)
from fer_lightning.pipeline.rows.evaluation_rows import refuse_changes
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.lock import RunLock

if TYPE_CHECKING:
    from fer_lightning.pipeline.evaluation.gates import Deployed
    from fer_lightning.runs.evaluation import Evaluation, GateReport
    from fer_lightning.runs.stored_logits import StoredLogits
    from fer_lightning.training.evaluation import JudgedScores

log = logging.getLogger(__name__)


def evaluate(run: EvaluateRun) -> None:
    """Evaluate on one manifest or several, write each evaluation to a directory of its own, and hold it against the gates.

    Raises:
        FerError: no model, no rows, a manifest that is not the one recorded, or rows seen in training.
        GateFailedError: a limit of `evaluate.gates` is broken; everything is written all the same.
        RunLockedError: another evaluation writes to the same directory.
    """
    if run.evaluate.checkpoint is None:
        raise FerError(
            "task=evaluate needs evaluate.checkpoint=<best.pt, checkpoint_last.pt, an .onnx file, a run directory, an ensemble or stored "
            "logits>"
        )
    check_beforehand(run)
    manifests = run.evaluate.manifests
    runs = [_on_manifest(run, number, manifest) for number, manifest in enumerate(manifests, start=1)] or [run]
    evaluations = [_evaluate(one) for one in runs]
    if len(evaluations) > 1:
        from fer_lightning.reports.evaluation_text import manifests_text

        log.info("%s", manifests_text(evaluations))
    from fer_lightning.pipeline.evaluation.gates import refuse_failed

    refuse_failed(evaluations)


def check_beforehand(run: EvaluateRun) -> None:
    """Refuse what can be known to fail before anything is inferred.

    Raises:
        FerError: a file that is not there, an output folder that belongs to something else, an option without effect.
    """
    unheeded = RunConfig(root=run.run.root, tag=run.run.tag, unlock_stale=run.run.unlock_stale)
    refuse_changes(run.run, unheeded, None, "run", "nothing is drawn, and files are written anew")
    for manifest in run.evaluate.manifests:
        if not Path(manifest).is_file():
            raise FerError(f"evaluate.manifests: no file {manifest}")
    calibrator, reference = run.evaluate.calibrator, run.evaluate.gates.reference
    if calibrator is not None and not Path(calibrator).is_file():
        raise FerError(f"evaluate.calibrator: no file {calibrator}")
    if reference is not None:
        check_given(reference, option="evaluate.gates.reference")
    if run.evaluate.output_dir is not None:
        _check_output(Path(run.evaluate.output_dir))


def _check_output(output: Path) -> None:
    for name, what in (("config.yaml", "a run directory"), ("storedlogits.json", "a folder of stored logits")):
        if (output / name).exists():
            raise FerError(f"evaluate.output_dir: {output} is {what}; choose one for the evaluation alone")
    if output.exists() and not output.is_dir():
        raise FerError(f"evaluate.output_dir: {output} is a file; choose another")


def _on_manifest(run: EvaluateRun, number: int, manifest: str) -> EvaluateRun:
    """Return the run for one of several manifests, whose files lie beside those of the others."""
    output = run.evaluate.output_dir
    if output is not None:
        output = str(Path(output) / f"{number}_{Path(manifest).parent.name}_{Path(manifest).stem}")
    target = replace(run.evaluate, manifests=[], output_dir=output)
    tag = "_".join(filter(None, [run.run.tag, f"manifest{number}"]))
    return replace(run, run=replace(run.run, tag=tag), evaluate=target, data=replace(run.data, manifest=manifest))


def _reference(run: EvaluateRun, subject: Subject) -> "Deployed | None":
    """Judge the reference of the gates on the candidate's rows."""
    from fer_lightning.pipeline.evaluation.gates import Deployed

    given = run.evaluate.gates.reference
    if given is None:
        return None
    other = open_on_same_rows(run, given, subject, option="evaluate.gates.reference")
    own = replace(run, evaluate=replace(run.evaluate, calibrator=None))  # the candidate's is not the reference's
    return Deployed(_judge(own, other, num_resamples=0), _is_calibrated(own, other))


def _judge(run: EvaluateRun, subject: Subject, *, num_resamples: int) -> "JudgedScores":
    from fer_lightning.training.evaluation import judge_scores

    config, fitted = calibration_for(subject, run.evaluate.calibrator)
    return judge_scores(
        subject.stored,
        calibration=config,
        fitted=fitted,
        columns=slice_columns(subject, run.evaluate.slices),
        num_resamples=num_resamples,
        confidence=run.evaluate.confidence,
        target_risks=run.evaluate.target_risks,
    )


def _evaluate(run: EvaluateRun) -> "Evaluation":
    subject = open_subject(run, str(run.evaluate.checkpoint), option="evaluate.checkpoint")
    output = output_dir(run, subject.stored, kind="evaluations")
    with RunLock(output, unlock_stale=run.run.unlock_stale):
        from fer_lightning.pipeline.evaluation.gates import Deployed, hold_against_gates

        judged = _judge(run, subject, num_resamples=run.evaluate.num_resamples)
        gates = hold_against_gates(
            run.evaluate.gates,
            Deployed(judged, _is_calibrated(run, subject)),
            _reference(run, subject),
            subject.stored,
            num_resamples=run.evaluate.num_resamples,
            confidence=run.evaluate.confidence,
        )
        with explained_write_errors(output, option="evaluate.output_dir"):
            evaluation = _write(run, subject, judged, gates, output)
    _tell(evaluation, output)
    return evaluation


def output_dir(run: EvaluateRun, stored: "StoredLogits", *, kind: str) -> Path:
    """Make and return the folder of an evaluation's files.

    Args:
        run: the typed run.
        stored: what is judged.
        kind: folder below `run.root` where no other is asked for.

    Raises:
        FerError: it cannot be made, or is a run directory.
    """
    given, calibrator, method = run.evaluate.output_dir, run.evaluate.calibrator, run.calibration.method
    parts = [
        evaluation_name(stored),
        None if method is None else method.value,
        None if calibrator is None else f"calibrator_{sha256_of(Path(calibrator))[:8]}",
        run.run.tag,
    ]
    name = "__".join(filter(None, parts))
    output = Path(run.run.root) / kind / name if given is None else Path(given)
    _check_output(output)
    with explained_write_errors(output, option="evaluate.output_dir"):
        output.mkdir(parents=True, exist_ok=True)
    record = stored.record
    log.info("%s: %d %s rows of %s", output, record.n, record.split, record.manifest)
    return output


def evaluation_name(stored: "StoredLogits") -> str:
    """Return the folder name of an evaluation: run, file, split, rows, and the view where it is not the plain one."""
    record = stored.record
    parts = [
        Path(record.run_dir).resolve().name,
        f"{record.checkpoint}_{record.checkpoint_sha256[:8]}",
        f"{record.split}_{record.row_set_fingerprint[:8]}",
        *([] if record.view == "single" else [record.view]),
    ]
    return "__".join(parts)


def _is_calibrated(run: EvaluateRun, subject: Subject) -> bool:
    """Whether the calibration is kept with the model; one that this command fits is not."""
    _, fitted = calibration_for(subject, run.evaluate.calibrator)
    return fitted is not None


def _write(
    run: EvaluateRun, subject: Subject, judged: "JudgedScores", gates: "GateReport | None", output: Path
) -> "Evaluation":
    """Write every file; `evaluation.json` last, so that it stands for the others."""
    from fer_lightning.reports.evaluation_figures import write_figures
    from fer_lightning.runs.artifacts import write_artifact
    from fer_lightning.runs.evaluation import Evaluation
    from fer_lightning.runs.predictions import write_predictions
    from fer_lightning.training.evaluation_curves import evaluation_curves

    stored, record = subject.stored, subject.stored.record
    log_probs = judged.raw_log_probs if judged.scaled_log_probs is None else judged.scaled_log_probs
    (output / "evaluation.json").unlink(missing_ok=True)
    write_predictions(output, stored, log_probs, how=judged.result.scaled_how)
    curves = evaluation_curves(judged, stored.labels)
    write_artifact(output / "curves.json", curves)
    evaluation = Evaluation(
        model=subject.name,
        manifest=record.manifest,
        requested_rows=record.requested_rows,
        rows_left_out=record.rows_left_out,
        rows_seen_in_training=record.rows_seen_in_training,
        num_groups=len(set(stored.groups.tolist())),
        view=record.view,
        logits_sha256=record.logits_sha256,
        calibration_kept=_is_calibrated(run, subject),
        result=judged.result,
        raw=judged.raw,
        scaled=judged.scaled,
        confidence=run.evaluate.confidence,
        num_resamples=run.evaluate.num_resamples,
        raw_ranges=judged.raw_ranges,
        scaled_ranges=judged.scaled_ranges,
        conformal=judged.conformal,
        slices=judged.slices,
        gaps=judged.gaps,
        gates=gates,
    )
    write_figures(output, evaluation, curves)
    write_artifact(output / "evaluation.json", evaluation)
    return evaluation


def _tell(evaluation: "Evaluation", output: Path) -> None:
    """Say what was found."""
    from fer_lightning.pipeline.evaluation.gates import gate_line
    from fer_lightning.reports.evaluation_text import calibration_line, evaluation_text

    result = evaluation.result
    log.info("%s", evaluation_text(evaluation))
    log.info("%d of %d requested rows; scaled: %s", result.n, evaluation.requested_rows, result.scaled_how)
    if result.calibration is not None:
        log.info("%s", calibration_line(result.calibration, kept=evaluation.calibration_kept))
    if result.absent_classes:
        absent = ", ".join(result.absent_classes)
        log.info("no rows of %s: macro-F1 over present classes is %.4f", absent, result.raw.macro_f1_present)
    if evaluation.rows_seen_in_training:
        log.warning(
            "the model was trained on %d of these %d rows: their figures say nothing about other rows",
            evaluation.rows_seen_in_training,
            result.n,
        )
    for gate in () if evaluation.gates is None else evaluation.gates.gates:
        log.info("gate %s: %s", "passed" if gate.passed else "FAILED", gate_line(gate))
    log.info("everything is in %s", output)
