"""Stores the logits of one model or several on splits of a manifest: each picture decoded once for all of them."""

import logging
from dataclasses import replace

from fer_lightning.errors import FerError
from fer_lightning.files import stamp_of
from fer_lightning.pipeline.evaluation.config import EvaluationTarget
from fer_lightning.pipeline.logits.config import StoreLogitsRun
from fer_lightning.pipeline.logits.model_files import ModelFile, find_model, refuse_twins
from fer_lightning.pipeline.logits.scores import Asked, all_scores, ask, folder_of
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows, refuse_changes
from fer_lightning.pipeline.rows.rows_of_models import rows_of_models
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.stored_logits_record import RECORD_FILE

log = logging.getLogger(__name__)

_OPTION = "store.models"
_HEEDED = ("view", "batch_size", "accelerator", "reuse_logits")


def store_logits(run: StoreLogitsRun) -> None:
    """Store logits, those of all models in one pass over the pictures of each split; what is stored already is left.

    An interrupted call goes on where it stopped, and several processes given the same command share the work.

    Raises:
        FerError: no model, models with different rows, an option without effect, or what `scores_of` refuses.
    """
    if not run.store.models:
        raise FerError(
            f"task=store_logits needs {_OPTION}=[<best.pt, checkpoint_last.pt, an .onnx file or a run directory>,...]"
        )
    _refuse_unheeded(run)
    models = _models(run.store.models)
    rows = {
        split: rows_of_models(run, [model.path for model in models], split, option=_OPTION)
        for split in run.store.splits
    }
    for split, of_models in rows.items():
        _store(run, split, models, of_models)


def _refuse_unheeded(run: StoreLogitsRun) -> None:
    """Refuse options of an evaluation that storing does not heed."""
    unheeded = RunConfig(root=run.run.root, tag=run.run.tag, unlock_stale=run.run.unlock_stale)
    refuse_changes(run.run, unheeded, None, "run", "logits are stored by model, rows and view")
    heeded = EvaluationTarget(**{name: getattr(run.evaluate, name) for name in _HEEDED})
    why = "task=store_logits stores logits and judges nothing; it takes store.models and store.splits"
    refuse_changes(run.evaluate, heeded, None, "evaluate", why)


def _models(given: list[str]) -> list[ModelFile]:
    models = [find_model(one, option=_OPTION) for one in given]
    refuse_twins(zip((model.sha256 for model in models), given, strict=True), option=_OPTION)
    return models


def _store(run: StoreLogitsRun, split: str, models: list[ModelFile], rows: list[EvaluationRows]) -> None:
    first = ask(models[0], rows[0], run.evaluate.view.value)
    asked: list[Asked] = [
        replace(first, model=model, rows=of_model, dtype=run.store.dtype.value)
        for model, of_model in zip(models, rows, strict=True)
    ]
    before = [stamp_of(folder_of(one, run) / RECORD_FILE) for one in asked]
    stored = all_scores(asked, run, option=_OPTION, shard_rows=run.store.shard_rows)
    for one, found, earlier in zip(asked, stored, before, strict=True):
        record = found.record
        how = "had been stored" if stamp_of(folder_of(one, run) / RECORD_FILE) == earlier else "stored"
        seen = "" if record.rows_seen_in_training is None else f", {record.rows_seen_in_training} seen in training"
        log.info(
            "%s: %d %s rows of %s (%s%s) %s",
            folder_of(one, run),
            record.n,
            split,
            one.model.path,
            record.dtype,
            seen,
            how,
        )
