"""The checks of soft labels against the world around them: manifest, teachers, ensemble, and pictures inferred again."""

from collections.abc import Iterator
from pathlib import Path

from fer_lightning.data.pictures.canonical import recorded_digest
from fer_lightning.data.rows.manifest import Manifest, inspect_manifest
from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.pipeline.softlabels.config import DiagnoseAlignmentRun
from fer_lightning.runs.diagnosis import DiagnosisCheck
from fer_lightning.runs.ensemble_file import ensemble_file, is_ensemble
from fer_lightning.runs.ensemble_teachers import find_teacher
from fer_lightning.runs.softlabel_examined import Proof
from fer_lightning.runs.softlabel_join import changed_rows
from fer_lightning.runs.softlabels import HashManifest, SoftLabels

_SHOWN = 3
_KINDS = {"row": "rows", "label": "labels", "source": "sources", "split": "splits"}


def _check(name: str, found: object, expected: object) -> DiagnosisCheck:
    return DiagnosisCheck(name=name, passed=found == expected, possible=True, found=str(found), expected=str(expected))


def _not_possible(name: str, why: str, expected: str) -> DiagnosisCheck:
    return DiagnosisCheck(name=name, passed=False, possible=False, found=f"not possible: {why}", expected=expected)


def of_proof(proof: Proof) -> DiagnosisCheck:
    """Return a proof of the folder's own files as a check."""
    return DiagnosisCheck(
        name=proof.name, passed=proof.passed, possible=True, found=proof.found, expected=proof.expected
    )


def manifest_path(run: DiagnoseAlignmentRun, record: HashManifest) -> tuple[Path, Path | None]:
    """Return where the manifest and its pictures are: as the command names them, else as recorded."""
    if run.data.manifest is not None:
        return Path(run.data.manifest), None if run.data.root is None else Path(run.data.root)
    return Path(record.manifest), None if record.root is None else Path(record.root)


def _manifest(run: DiagnoseAlignmentRun, record: HashManifest) -> Manifest | str:
    """Return the manifest, or why it cannot be read."""
    path, root = manifest_path(run, record)
    if not path.is_file():
        return f"there is no {path}; if it has moved, name it: data.manifest=<file>"
    try:
        return inspect_manifest(path, root=root).manifest  # faulty rows were settled by the export
    except FerError as error:
        return str(error).splitlines()[0]


def _manifest_checks(manifest: Manifest | str, softlabels: SoftLabels) -> Iterator[DiagnosisCheck]:
    record = softlabels.record
    if isinstance(manifest, str):
        yield _not_possible("manifest SHA-256", manifest, record.manifest_sha256)
        for kind in _KINDS.values():
            yield _not_possible(f"{kind} of the manifest", "no manifest", "as exported")
        return
    yield _check("manifest SHA-256", manifest.sha256, record.manifest_sha256)
    changes: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for kind, change in changed_rows(softlabels, manifest):
        changes[kind].append(change)
    for kind, name in _KINDS.items():
        found = changes[kind]
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        yield _check(f"{name} of the manifest", "; ".join(found[:_SHOWN]) + more or "as exported", "as exported")


def _teacher_checks(record: HashManifest) -> Iterator[DiagnosisCheck]:
    for teacher, canonical in zip(record.teachers, record.canonicals, strict=True):
        name = f"teacher {teacher.name}"
        try:
            found = find_teacher(teacher)
        except FerError as error:
            yield _not_possible(name, str(error), teacher.checkpoint_sha256)
            continue
        if found.sha256 is None:
            yield _not_possible(name, f"nothing lies at {teacher.given}", teacher.checkpoint_sha256)
        else:
            yield _check(name, found.sha256, teacher.checkpoint_sha256)
        if canonical:
            yield _check(
                f"pictures of {name} (canonical digest)",
                recorded_digest(canonical) or "unknown to this version",
                teacher.canonical_digest,
            )


def _ensemble_checks(record: HashManifest) -> Iterator[DiagnosisCheck]:
    """Hold the ensemble that was exported, where it still is, against the copy."""
    if is_ensemble(record.ensemble):
        yield _check("ensemble as it is now", sha256_of(ensemble_file(Path(record.ensemble))), record.ensemble_sha256)


def _inferred_check(
    run: DiagnoseAlignmentRun, manifest: Manifest | str, softlabels: SoftLabels
) -> Iterator[DiagnosisCheck]:
    from fer_lightning.pipeline.softlabels.reinference import deviation_text, drawn_rows, verify_rows  # timm: seconds

    if not run.diagnose.verify_rows:
        return
    places = drawn_rows(softlabels.record.n, run.diagnose.verify_rows, seed=run.run.seed)
    name, expected = f"{len(places)} random rows inferred again", "the same logits"
    if isinstance(manifest, str):
        yield _not_possible(name, "no manifest", expected)
        return
    known = set(manifest.row_ids)
    absent = [softlabels.image_paths[place] for place in places.tolist() if softlabels.row_ids[place] not in known]
    if absent:
        yield _not_possible(name, f"{absent[0]} is not in {manifest.path}", expected)
        return
    try:
        found = verify_rows(
            softlabels, manifest, places, accelerator=run.evaluate.accelerator, option="diagnose.softlabels"
        )
    except FerError as error:
        yield _not_possible(name, str(error), expected)
        return
    text = f"the largest difference is {found.max_abs_difference:.3g}, within {found.tolerance:.3g}"
    yield DiagnosisCheck(
        name=found.what,
        passed=not found.deviating,
        possible=True,
        found=deviation_text(found) if found.deviating else text,
        expected=f"{expected} within {found.tolerance:.3g}",
    )


def outside_checks(run: DiagnoseAlignmentRun, softlabels: SoftLabels) -> list[DiagnosisCheck]:
    """Check soft labels against manifest, teachers, ensemble and pictures; no fault keeps the next check from being made.

    Args:
        run: where the manifest is, and how many rows are inferred again.
        softlabels: as they could be read, whatever proofs have failed.
    """
    manifest = _manifest(run, softlabels.record)
    return [
        *_manifest_checks(manifest, softlabels),
        *_teacher_checks(softlabels.record),
        *_ensemble_checks(softlabels.record),
        *_inferred_check(run, manifest, softlabels),
    ]
