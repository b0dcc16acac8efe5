"""The slow half of `scores`: runs models over the rows in one pass, and stores what they say."""

import hashlib
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from fer_lightning.data.datamodule import worker_count
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.files import explained_write_errors, stamp_of
from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.evaluation.config import EvaluateRun
from fer_lightning.pipeline.logits.lookup import as_asked, current_calibration, look_up
from fer_lightning.pipeline.logits.opened_models import OpenModel, open_models, scorer_of
from fer_lightning.pipeline.logits.pass_pictures import SharedPictures
from fer_lightning.pipeline.logits.scores import Asked, folder_of
from fer_lightning.pipeline.logits.shared_pass import ShardJob, SharedPass, score_shards
from fer_lightning.pipeline.rows.face_sides import face_sides
from fer_lightning.pipeline.rows.row_columns import RowColumns, row_columns
from fer_lightning.runs.logit_shards import LogitShards
from fer_lightning.runs.stored_logits import StoredLogits, write_stored_logits
from fer_lightning.runs.stored_logits_record import RECORD_FILE, StoredLogitsRecord

log = logging.getLogger(__name__)

_VERSION = 1  # of what a shard is made from: raise when the same request would give other logits


def _record(
    asked: Asked, opened: OpenModel, spec: CanonicalSpec, corruption: str, columns: RowColumns
) -> StoredLogitsRecord:
    rows, model = asked.rows, asked.model
    return StoredLogitsRecord(
        kind="onnx" if model.path.suffix == ".onnx" else "checkpoint",
        dtype=asked.dtype,
        run_dir=str(model.path.parent),
        checkpoint=model.path.name,
        checkpoint_sha256=model.sha256,
        epoch=opened.epoch,
        weights=opened.weights,
        canonical=asdict(spec),
        canonical_digest=spec.digest(),
        view=asked.view,
        corruption=corruption,
        manifest=rows.manifest,
        manifest_sha256=rows.selection.manifest.sha256,
        split=rows.split,
        requested_rows=rows.requested_rows,
        rows_left_out=rows.rows_left_out,
        rows_seen_in_training=rows.rows_seen_in_training,
        n=len(columns.row_ids),
        row_set_fingerprint=asked.fingerprint,
        pictures_digest=asked.pictures_digest,
        group_columns=list(rows.selection.group_columns),
        class_order=list(EMOTIONS),
        calibration=current_calibration(model, opened.calibration),
        logits_sha256="",
        rows_sha256="",
    )


def _request(
    record: StoredLogitsRecord, row_ids: Sequence[str], opened: OpenModel, run: EvaluateRun, shard_rows: int
) -> str:
    """Return the digest of everything that logits depend on, to the last bit."""
    parts = (
        _VERSION,
        record.checkpoint_sha256,
        record.canonical_digest,
        record.view,
        record.corruption,
        record.dtype,
        record.split,
        record.row_set_fingerprint,
        record.pictures_digest,
        opened.device,
        shard_rows,
        run.evaluate.batch_size,
        "" if run.evaluate.reuse_logits else secrets.token_hex(),
        hashlib.sha256("\n".join(row_ids).encode()).hexdigest(),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _when_stored(asked: Asked, folder: Path, *, reuse: bool, option: str) -> Callable[[], StoredLogits | None]:
    """Return what tells whether another process has stored the logits since now."""
    file = folder / RECORD_FILE
    before = stamp_of(file)

    def settled() -> StoredLogits | None:
        nonlocal before
        if not reuse or stamp_of(file) == before:
            return None
        before = stamp_of(file)
        found = look_up(folder, asked, option=option)
        return as_asked(found, asked) if isinstance(found, StoredLogits) else None

    return settled


@dataclass(frozen=True, eq=False)
class _Making:
    """The logits of one request, in the making."""

    folder: Path
    record: StoredLogitsRecord
    job: ShardJob


def _making(
    asked: Asked,
    opened: OpenModel,
    pictures: SharedPictures,
    columns: RowColumns,
    run: EvaluateRun,
    *,
    option: str,
    shard_rows: int,
) -> _Making:
    folder, reuse = folder_of(asked, run), run.evaluate.reuse_logits
    settled = _when_stored(asked, folder, reuse=reuse, option=option)
    kind, spec, corruption = pictures.kind_of(asked, opened.canonical)
    record = _record(asked, opened, spec, corruption, columns)
    request = _request(record, columns.row_ids, opened, run, shard_rows)
    job = ShardJob(
        what=f"{option}: {asked.model.path}",
        logits_of=scorer_of(asked, opened),
        kind=kind,
        dtype=asked.dtype,
        shards=LogitShards(folder, request, asked.dtype),
        settled=settled,
    )
    return _Making(folder, record, job)


def _assemble(made: _Making, inferred: StoredLogits) -> StoredLogits:
    """Store the whole, unless another process has done so, and remove its shards."""
    folder, job = made.folder, made.job
    try:
        with FileLock(folder / ".assembling.lock"):
            stored = job.settled()
            if stored is None:
                stored = write_stored_logits(folder, inferred)
                job.shards.remove()
            return stored
    except OSError as error:
        log.warning("cannot store the logits in %s (%s): the next call infers them again", folder, error.strerror)
        return inferred


def _whole(made: _Making, shared: SharedPass, columns: RowColumns, groups: Tensor, sides: Tensor) -> StoredLogits:
    """Return what another process has stored, or put the shards together."""
    if made.job.stored is not None:
        return made.job.stored
    parts = [made.job.done[shard] for shard in range(shared.num_shards)]
    logits = torch.from_numpy(np.concatenate(parts))
    return _assemble(
        made, StoredLogits(record=made.record, logits=logits, groups=groups, face_sides=sides, **vars(columns))
    )


def _name(asked: Sequence[Asked]) -> str:
    """Return a short name of a pass."""
    first = asked[0]
    models = list(dict.fromkeys(one.model.path.name for one in asked))
    what = f"{len(asked)} x {', '.join(models)}" if len(asked) > 1 else models[0]
    corruption = "" if first.corruptions == ("none",) else f", {first.corruptions[0]}"
    return f"{what} on {first.rows.split}{corruption}"


def infer_logits(asked: Sequence[Asked], run: EvaluateRun, *, option: str, shard_rows: int) -> list[StoredLogits]:
    """Run models over the same rows in one pass over their pictures, with progress, and store the logits.

    Args:
        asked: models and views; all of one selection and split.
        run: loader, device and folder.
        option: the option that named the models, for messages.
        shard_rows: rows that are inferred and written at a time.

    Returns:
        The logits of each and what belongs to them, as stored.

    Raises:
        FerError: a model cannot be opened or has just been replaced, a picture cannot be read, or nothing can be stored.
    """
    rows, num_workers = asked[0].rows, worker_count(run.data.num_workers)
    opened = open_models(asked, run.evaluate.accelerator, option=option)
    columns, pictures = row_columns(rows), SharedPictures(rows)
    groups = torch.from_numpy(rows.selection.groups(rows.split))
    sides = face_sides(rows, num_workers=num_workers)
    makings = [
        _making(one, opened[one.model], pictures, columns, run, option=option, shard_rows=shard_rows) for one in asked
    ]
    shared = SharedPass(
        rows=rows.selection.rows[rows.split],
        row_ids=np.array([row_id.encode() for row_id in columns.row_ids]),
        image_paths=columns.image_paths,
        stores=pictures.stores,
        shard_rows=shard_rows,
        batch_size=run.evaluate.batch_size,
        num_workers=num_workers,
        what=_name(asked),
    )
    for made in makings:
        with explained_write_errors(made.folder, option="run.root"):
            made.folder.mkdir(parents=True, exist_ok=True)
    score_shards([made.job for made in makings], shared)
    return [_whole(made, shared, columns, groups, sides) for made in makings]
