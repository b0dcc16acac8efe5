"""What is judged: a model's or an ensemble's logits on the rows asked for, inferred once, or stored logits as they are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.data.rows.manifest import Manifest, inspect_manifest
from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationTarget
from fer_lightning.pipeline.evaluation.ensemble_subject import (
    ensemble_scores,
    model_rows,
)
from fer_lightning.pipeline.evaluation.foreign_subject import foreign_folder, foreign_splits
from fer_lightning.pipeline.logits.model_files import ModelFile, find_model
from fer_lightning.pipeline.logits.scores import scores_of
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows, refuse_changes
from fer_lightning.pipeline.rows.run_record import read_run_record
from fer_lightning.pipeline.rows.seen_in_training import seen_of_given
from fer_lightning.runs.ensemble_file import is_ensemble, read_ensemble
from fer_lightning.runs.recorded_calibration import chosen_calibration
from fer_lightning.runs.stored_logits_record import is_stored
from fer_lightning.training.config import CalibrationConfig, CalibrationMethod

if TYPE_CHECKING:
    from fer_lightning.runs.artifacts import CalibrationRecord
    from fer_lightning.runs.stored_logits import StoredLogits

_GIVEN_SLICES = ("source", "label", "face_side")


@dataclass(frozen=True)
class Subject:
    """What is judged."""

    name: str
    """As given."""
    stored: "StoredLogits"
    calibration: CalibrationConfig
    asked: CalibrationMethod | None
    """The method that the command names, if it names one."""
    rows: EvaluationRows | None
    """None where the logits were given as such, or fused."""


def check_given(given: str, *, option: str) -> None:
    """Refuse what `open_subject` could not open, as far as that is possible without loading torch.

    Raises:
        FerError: no model, no ensemble, no stored logits.
    """
    if is_ensemble(given):
        read_ensemble(Path(given), option=option)
    elif not is_stored(given) and not foreign_splits(given, option=option):
        find_model(given, option=option)


def _scores(model: ModelFile, rows: EvaluationRows, run: EvaluateRun, *, option: str) -> "StoredLogits":
    if not len(rows.selection.rows[rows.split]):
        raise FerError(f"{rows.manifest} has no {rows.split} rows")
    return scores_of(model, rows, run, option=option)


def _stored_subject(run: EvaluateRun, given: str, *, option: str) -> Subject:
    """Take stored logits as they are: nothing that would choose other rows or pictures has an effect."""
    from fer_lightning.runs.stored_logits import read_stored_logits

    why = f"{option}={given} are stored logits, whose rows and pictures are settled"
    refuse_changes(run.data, DataConfig(num_workers=run.data.num_workers), None, "data", why)
    refuse_changes(run.source_filter, SourceFilterConfig(), None, "source_filter", why)
    refuse_changes(
        run.evaluate, EvaluationTarget(), ("view", "batch_size", "accelerator", "reuse_logits"), "evaluate", why
    )
    stored = read_stored_logits(Path(given), option=option)
    if run.evaluate.split not in {None, stored.record.split}:
        raise FerError(f"evaluate.split={run.evaluate.split}: {given} holds logits of {stored.record.split} rows")
    if run.task == "evaluate" and stored.record.corruption != "none":
        raise FerError(
            f"{option}={given} holds logits of changed pictures ({stored.record.corruption}); task=robustness compares these with "
            "clean ones"
        )
    return Subject(given, stored, run.calibration.settled(None), run.calibration.method, None)


def calibration_for(
    subject: Subject, calibrator: str | None = None
) -> "tuple[CalibrationConfig, CalibrationRecord | None]":
    """Return how the logits are calibrated, and the calibrator that was fitted on val, if it is that one.

    Without an own wish the model's own method is taken. Another one can be fitted on val, and nowhere else.

    Args:
        subject: what is judged.
        calibrator: `evaluate.calibrator`.

    Raises:
        FerError: another method is asked for on rows that nothing is fitted on, or a calibrator of another file.
    """
    config, recorded, split = subject.calibration, subject.stored.record.calibration, subject.stored.record.split
    if calibrator is not None:
        sha256 = subject.stored.record.checkpoint_sha256
        chosen = chosen_calibration(
            Path(calibrator), sha256, view=subject.stored.record.view, option="evaluate.calibrator"
        )
        return replace(config, method=CalibrationMethod(chosen.method)), chosen
    if recorded is None or subject.asked is CalibrationMethod.none:
        return config, recorded
    if subject.asked is None or recorded.method == subject.asked.value:
        return replace(config, method=CalibrationMethod(recorded.method)), recorded
    if split != "val":
        raise FerError(
            f"calibration.method={subject.asked.value}: the model's run has fitted {recorded.method} on val, and nothing is fitted on "
            f"{split}. Leave out the option, or compare methods with task=calibrate on its val rows and calibrate.apply_to"
        )
    return config, None


def slice_columns(subject: Subject, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the texts of manifest columns, row by row.

    Raises:
        FerError: the manifest is gone or another one, or has no such column.
    """
    if not names:
        return {}
    manifest, numbers = _manifest_rows(subject)
    _check_columns(manifest, names)
    return {name: tuple(manifest.extras[name][row] for row in numbers) for name in names}


def _check_columns(manifest: Manifest, names: Sequence[str]) -> None:
    given = [name for name in names if name in _GIVEN_SLICES]
    if given:
        raise FerError(f"evaluate.slices={given}: figures by {', '.join(_GIVEN_SLICES)} are given in any case")
    absent = [name for name in names if name not in manifest.extras]
    if absent:
        raise FerError(
            f"evaluate.slices names {', '.join(absent)}, which is no column of {manifest.path} "
            f"(it has {', '.join(manifest.extras) or 'none beside the required ones'})"
        )


def _manifest_rows(subject: Subject) -> tuple[Manifest, list[int]]:
    if subject.rows is not None:
        return subject.rows.selection.manifest, subject.rows.selection.rows[subject.rows.split].tolist()
    record = subject.stored.record
    path = Path(record.manifest)
    if not path.is_file() or sha256_of(path) != record.manifest_sha256:
        raise FerError(
            f"evaluate.slices needs {path}, the manifest of these stored logits, which is gone or has changed; "
            "evaluate the model itself on the manifest as it is now"
        )
    manifest = inspect_manifest(path).manifest  # faulty rows were settled when these were scored
    number_of = {row_id: number for number, row_id in enumerate(manifest.row_ids)}
    return manifest, [number_of[row_id] for row_id in subject.stored.row_ids]


def open_subject(run: EvaluateRun, given: str, *, option: str) -> Subject:
    """Return the logits of a model on the rows asked for, inferred where they are not stored, or stored ones as they are.

    Args:
        run: the typed run.
        given: model, ensemble, stored logits, or a folder of a foreign model's stored logits.
        option: the option that named it, for messages.

    Raises:
        FerError: none of these, or anything wrong with its rows.
    """
    if is_ensemble(given):
        stored, calibration = ensemble_scores(run, given, option=option)
        return Subject(given, stored, calibration, run.calibration.method, None)
    if foreign_splits(given, option=option):
        given = foreign_folder(given, run.evaluate.split or "val", option=option)
    if is_stored(given):
        return _stored_subject(run, given, option=option)
    model = find_model(given, option=option)
    rows = model_rows(run, model, option=option)
    _check_columns(rows.selection.manifest, run.evaluate.slices)
    return Subject(given, _scores(model, rows, run, option=option), rows.calibration, run.calibration.method, rows)


def _on_rows(run: EvaluateRun, given: str, rows: EvaluationRows, *, option: str) -> Subject:
    model, selection = find_model(given, option=option), rows.selection
    seen = seen_of_given(selection, rows.split, read_run_record(model.path.parent), selection.data)
    rows = replace(rows, rows_seen_in_training=seen)
    return Subject(given, _scores(model, rows, run, option=option), rows.calibration, run.calibration.method, rows)


def open_on_same_rows(run: EvaluateRun, given: str, subject: Subject, *, option: str) -> Subject:
    """Return another model on the rows of a subject.

    Args:
        run: the typed run.
        given: what `open_subject` opens.
        subject: whose rows are taken.
        option: the option that named the other, for messages.

    Raises:
        FerError: logits of other rows, or a model beside stored logits, or rows that it was trained on.
    """
    split = subject.stored.record.split
    if is_stored(given) or foreign_splits(given, option=option):
        plain = replace(
            run, evaluate=EvaluationTarget(split=split), data=DataConfig(), source_filter=SourceFilterConfig()
        )
        other = open_subject(plain, given, option=option)
    elif is_ensemble(given) or is_ensemble(subject.name):
        other = open_subject(replace(run, evaluate=replace(run.evaluate, split=split)), given, option=option)
    elif subject.rows is None:
        raise FerError(f"{option}={given} must be stored logits too, as evaluate.checkpoint is")
    else:
        other = _on_rows(run, given, subject.rows, option=option)
    mine, its = subject.stored.record, other.stored.record
    if mine.view != its.view:
        raise FerError(f"{option}={given} was scored through view {its.view}, {subject.name} through {mine.view}")
    if mine.row_set_fingerprint != its.row_set_fingerprint:
        raise FerError(
            f"{option}={given} was scored on other rows ({its.split} {its.row_set_fingerprint[:8]}, n={its.n}) than "
            f"{subject.name} ({mine.split} {mine.row_set_fingerprint[:8]}, n={mine.n}); they are compared on the same rows only"
        )
    return replace(other, stored=other.stored.in_order_of(subject.stored.row_ids))
