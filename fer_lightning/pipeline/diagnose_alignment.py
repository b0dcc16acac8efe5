"""Computes every digest of soft labels again, infers some of their rows again, and tells all that does not hold."""

import logging
from pathlib import Path

from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.errors import CheckFailedError, FerError
from fer_lightning.files import explained_write_errors
from fer_lightning.pipeline.evaluation.config import EvaluationCalibration, EvaluationTarget
from fer_lightning.pipeline.rows.evaluation_rows import refuse_changes
from fer_lightning.pipeline.softlabels.config import DiagnoseAlignmentRun
from fer_lightning.pipeline.softlabels.diagnosis import manifest_path, of_proof, outside_checks
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.diagnosis import DIAGNOSIS_FILE, Diagnosis, DiagnosisCheck
from fer_lightning.runs.ensemble import ENSEMBLE_FILE, ENSEMBLE_METRICS_FILE
from fer_lightning.runs.softlabel_proofs import FILES, examine_softlabels
from fer_lightning.runs.softlabels_file import softlabels_of

log = logging.getLogger(__name__)


def _others(config: object, heeded: set[str]) -> tuple[str, ...]:
    return tuple(name for name in vars(config) if name not in heeded)


def _check_beforehand(run: DiagnoseAlignmentRun) -> Path:
    """Return the folder of the soft labels."""
    why = "the soft labels say which rows they are of"
    evaluate, data = EvaluationTarget(), DataConfig()
    refuse_changes(run.evaluate, evaluate, _others(evaluate, {"accelerator"}), "evaluate", why)
    refuse_changes(run.data, data, _others(data, {"manifest", "root", "num_workers", "cache_dir"}), "data", why)
    refuse_changes(run.source_filter, SourceFilterConfig(), None, "source_filter", why)
    refuse_changes(run.calibration, EvaluationCalibration(), None, "calibration", "soft labels are not calibrated")
    if run.diagnose.softlabels is None:
        raise FerError("diagnose.softlabels=<folder of soft labels> is needed")
    folder = Path(run.diagnose.softlabels)
    own = set(FILES) - {ENSEMBLE_FILE, ENSEMBLE_METRICS_FILE}  # which the folder of an ensemble has too
    if not any((folder / name).is_file() for name in own):
        raise FerError(f"diagnose.softlabels: {folder} holds no soft labels; task=export_softlabels writes some")
    return folder


def _diagnose(run: DiagnoseAlignmentRun, folder: Path) -> Diagnosis:
    examined = examine_softlabels(folder)
    checks = [of_proof(proof) for proof in examined.proofs]
    softlabels = softlabels_of(examined)
    if softlabels is not None:
        checks += outside_checks(run, softlabels)
    else:
        checks.append(
            DiagnosisCheck(
                name="manifest, teachers and pictures",
                passed=False,
                possible=False,
                found="not possible: the soft labels themselves cannot be read",
                expected="as exported",
            )
        )
    manifest = None if examined.record is None else str(manifest_path(run, examined.record)[0])
    return Diagnosis(softlabels=str(folder), manifest=manifest, checks=checks)


def _line(check: DiagnosisCheck) -> str:
    outcome = "passed" if check.passed else "FAILED" if check.possible else "NOT POSSIBLE"
    return f"{outcome:<12}  {check.name}" + ("" if check.passed else f": {check.found}; expected {check.expected}")


def diagnose_alignment(run: DiagnoseAlignmentRun) -> None:
    """Check everything that soft labels say of themselves, and write `diagnosis.json`.

    All checks are made, whichever of them fail. One that cannot be made, because a teacher, the manifest or a picture is
    gone, has failed: what nobody can check is not proved. A manifest that has only moved is named by `data.manifest`.

    Raises:
        FerError: there are no soft labels.
        CheckFailedError: something does not hold; exit code 3.
    """
    folder = _check_beforehand(run)
    diagnosis = _diagnose(run, folder)
    output = folder / DIAGNOSIS_FILE if run.diagnose.output is None else Path(run.diagnose.output)
    with explained_write_errors(output.parent, option="diagnose.output"):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_artifact(output, diagnosis)
    log.info("%s", "\n".join(_line(check) for check in diagnosis.checks))
    failed = diagnosis.failed
    if failed:
        names = "; ".join(check.name for check in failed)
        raise CheckFailedError(
            f"{folder}: {len(failed)} of {len(diagnosis.checks)} checks failed: {names}. See {output}"
        )
    log.info("all %d checks passed; see %s", len(diagnosis.checks), output)
