"""Exports an ensemble's logits on rows of a manifest as soft labels, with every proof of what they are of."""

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.errors import FerError, TrainingError
from fer_lightning.files import explained_write_errors
from fer_lightning.pipeline.evaluation.config import EvaluationTarget
from fer_lightning.pipeline.rows.evaluation_rows import refuse_changes
from fer_lightning.pipeline.softlabels.config import ExportSoftlabelsRun
from fer_lightning.pipeline.softlabels.content import ExportContent, export_content
from fer_lightning.pipeline.softlabels.folder import check_free, softlabels_name
from fer_lightning.pipeline.softlabels.source import OPTION, open_source
from fer_lightning.runs.ensemble_file import most_seen
from fer_lightning.runs.lock import RunLock
from fer_lightning.runs.softlabels import ALIGNMENT_FILE, SoftLabelAlignment, SoftLabels

if TYPE_CHECKING:
    from fer_lightning.pipeline.softlabels.reinference import Verification
    from fer_lightning.runs.ensemble import EnsembleMetrics

log = logging.getLogger(__name__)

_SETTLED = (
    "checkpoint",
    "manifests",
    "split",
    "view",
    "calibrator",
    "slices",
    "num_resamples",
    "confidence",
    "target_risks",
    "gates",
    "output_dir",
)
"""Options of `evaluate` that an export does not heed."""
_TABLES = ("logits", "labels", "view_logits", "view_draws", "teacher_logits")
"""Of soft labels, read back after they were written."""


def _check_beforehand(run: ExportSoftlabelsRun) -> None:
    refuse_changes(
        run.evaluate,
        EvaluationTarget(),
        _SETTLED,
        "evaluate",
        "soft labels are single pictures' logits of softlabels.splits",
    )
    if run.calibration.method is not None:
        raise FerError(
            f"calibration.method={run.calibration.method.value} would have no effect: soft labels are not calibrated, and the "
            "calibration that the ensemble has recorded is kept beside them"
        )


def _read_back(folder: Path, export: ExportContent) -> SoftLabels:
    """Read what was written, and make sure that it is what was to be written.

    Raises:
        TrainingError: a proof does not hold.
    """
    import torch

    from fer_lightning.runs.softlabel_proofs import examine_softlabels
    from fer_lightning.runs.softlabels_file import softlabels_of

    examined = examine_softlabels(folder, finished=False)
    read = softlabels_of(examined)
    if examined.failed or read is None:
        listed = "\n  ".join(
            f"{proof.name}: found {proof.found}; expected {proof.expected}" for proof in examined.failed
        )
        raise TrainingError(f"{folder} does not read back as it was written:\n  {listed}\nExport again")
    pairs = [(getattr(read, name), getattr(export.softlabels, name)) for name in _TABLES]
    same = all(mine is its is None or torch.equal(mine, its) for mine, its in pairs)
    if not same or read.row_ids != export.softlabels.row_ids:
        raise TrainingError(
            f"{folder} does not read back as it was written: other logits, labels or rows. Export again"
        )
    return read


def _verified(run: ExportSoftlabelsRun, softlabels: SoftLabels, folder: Path) -> "Verification | None":
    """Infer random rows again.

    Raises:
        TrainingError: they do not agree with what was written.
    """
    count = run.softlabels.verify_rows
    if not count:
        return None
    from fer_lightning.data.rows.manifest import inspect_manifest
    from fer_lightning.pipeline.softlabels.reinference import deviation_text, drawn_rows, verify_rows

    record = softlabels.record
    manifest = inspect_manifest(Path(record.manifest), root=None if record.root is None else Path(record.root)).manifest
    places = drawn_rows(record.n, count, seed=run.run.seed)
    found = verify_rows(softlabels, manifest, places, accelerator=run.evaluate.accelerator, option=OPTION)
    if found.deviating:
        raise TrainingError(
            f"{folder}: {len(found.deviating)} of {found.num_rows} rows that were inferred again are not those that were written: "
            f"{deviation_text(found)}. Stored logits or pictures have changed: export again with evaluate.reuse_logits=false"
        )
    log.info(
        "%s: no logit is further off than %.3g (tolerance %.3g)",
        found.what,
        found.max_abs_difference,
        found.tolerance,
    )
    return found


def _alignment(
    run: ExportSoftlabelsRun, export: ExportContent, folder: Path, verification: "Verification | None"
) -> SoftLabelAlignment:
    from fer_lightning.runs.softlabel_proofs import report_digests

    records = {part.split: part.stored[0].record for part in export.parts}
    recorded = f"as the run of {export.source.teachers[0].given} has recorded"
    return SoftLabelAlignment(
        name=folder.name,
        rows_requested={split: record.requested_rows for split, record in records.items()},
        rows_exported={split: record.n for split, record in records.items()},
        rows_left_out={split: record.rows_left_out for split, record in records.items()},
        rows_seen_in_training={
            part.split: most_seen([one.record.rows_seen_in_training for one in part.stored]) for part in export.parts
        },
        source_filter=recorded if run.data.manifest is None else run.source_filter.name,
        sources=dict(sorted(Counter(export.softlabels.sources).items())),
        verified_rows=0 if verification is None else verification.num_rows,
        max_abs_difference=0.0 if verification is None else verification.max_abs_difference,
        tolerance=0.0 if verification is None else verification.tolerance,
        digests=report_digests(folder),
    )


def _tell(metrics: "EnsembleMetrics", alignment: SoftLabelAlignment, folder: Path) -> None:
    for judged in metrics.evaluated:
        seen = alignment.rows_seen_in_training[judged.split]
        log.info(
            "%s: %d rows, accuracy %.4f, macro-F1 %.4f, NLL %.4f, ECE %.4f (uncalibrated); the teachers were trained on %s of them",
            judged.split,
            judged.n,
            judged.raw.accuracy,
            judged.raw.macro_f1,
            judged.raw.nll,
            judged.raw.ece,
            "an unknown number" if seen is None else seen,
        )
    log.info("everything is in %s", folder)


def _write(run: ExportSoftlabelsRun, export: ExportContent, folder: Path) -> None:
    """Write every file; the report last, so that it stands for the others."""
    from fer_lightning.pipeline.softlabels.figures import softlabel_metrics
    from fer_lightning.runs.artifacts import write_artifact
    from fer_lightning.runs.ensemble import ENSEMBLE_METRICS_FILE
    from fer_lightning.runs.softlabels_file import write_softlabels

    written = write_softlabels(folder, export.softlabels, ensemble=export.content)
    config = run.calibration.settled(None)
    metrics = softlabel_metrics(written, export.parts, export.ensemble, config, folder=folder)
    write_artifact(folder / ENSEMBLE_METRICS_FILE, metrics)
    verification = _verified(run, _read_back(folder, export), folder)
    alignment = _alignment(run, export, folder, verification)
    write_artifact(folder / ALIGNMENT_FILE, alignment)
    _tell(metrics, alignment, folder)


def export_softlabels(run: ExportSoftlabelsRun) -> None:
    """Write the logits of an ensemble, or of one teacher, on the rows of some splits, and prove what they are.

    The logits are those that are deployed, before calibration: each teacher divided by the temperature that the ensemble
    has for it, then averaged. The calibration lies in the `ensemble.json` beside them.

    Raises:
        FerError: no ensemble, no rows, another checkpoint where a teacher lay, logits that the type cannot hold, or a
            folder that holds this export or another one.
        FinishedRunError: with `run.on_existing=resume`, nothing is left to do.
        TrainingError: rows that were inferred again are not those that were written.
        RunLockedError: another process writes to the same folder.
    """
    _check_beforehand(run)
    source = open_source(run.softlabels.ensemble)
    export = export_content(run, source)
    record = export.softlabels.record
    folder = Path(run.run.root) / "softlabels" / softlabels_name(run, source.name, record.row_set_fingerprints)
    with explained_write_errors(folder, option="run.root"):
        folder.mkdir(parents=True, exist_ok=True)
    with RunLock(folder, unlock_stale=run.run.unlock_stale):
        check_free(folder, export.softlabels, on_existing=run.run.on_existing)
        with explained_write_errors(folder, option="run.root"):
            _write(run, export, folder)
