"""One pass over the pictures of some rows for several models, shard by shard, shared with whoever else is at it."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from fer_lightning.data.batches.loader import make_loader
from fer_lightning.data.batches.shared_decoding import SharedBatch, SharedKey, SharedRows
from fer_lightning.data.pictures.store import PictureStore
from fer_lightning.runs.logit_checks import check_logits
from fer_lightning.runs.logit_shards import LogitShards
from fer_lightning.runs.stored_logits import StoredLogits
from fer_lightning.training.scoring import LogitsOf

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2


@dataclass(eq=False)
class ShardJob:
    """The logits of one model through one view, in the making."""

    what: str
    """For messages."""
    logits_of: LogitsOf
    kind: int
    """Which pictures it is shown."""
    dtype: str
    shards: LogitShards
    settled: Callable[[], StoredLogits | None]
    """Tells whether another process has stored the whole in the meantime."""
    done: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    """Number of a shard -> its logits."""
    stored: StoredLogits | None = None
    """What another process has stored."""


@dataclass(frozen=True, eq=False)
class SharedPass:
    """The rows of a pass, and how they are cut."""

    rows: NDArray[np.int64]
    row_ids: NDArray[np.bytes_]
    image_paths: Sequence[str]
    stores: Sequence[PictureStore]
    """Kinds of pictures."""
    shard_rows: int
    batch_size: int
    num_workers: int
    what: str
    """For the progress bar."""

    @property
    def num_shards(self) -> int:
        """Shards of each job."""
        return -(-len(self.rows) // self.shard_rows)

    def span(self, shard: int) -> slice:
        """Return the positions of a shard's rows."""
        return slice(shard * self.shard_rows, min((shard + 1) * self.shard_rows, len(self.rows)))


class _Progress:
    """One bar over rows; a row counts when no job lacks it."""

    def __init__(self, shared: SharedPass, jobs: Sequence[ShardJob]) -> None:
        self._shared = shared
        self._jobs = jobs
        self._finished = self._rows_finished()
        self._bar = tqdm(
            total=len(shared.rows), initial=self._finished, desc=shared.what, unit="row", disable=None, leave=False
        )

    def _rows_finished(self) -> int:
        spans = (self._shared.span(shard) for shard in range(self._shared.num_shards) if not self._lacking(shard))
        return sum(span.stop - span.start for span in spans)

    def _lacking(self, shard: int) -> bool:
        return any(job.stored is None and shard not in job.done for job in self._jobs)

    def show(self, *, in_hand: int) -> None:
        """Show some rows of unfinished shards beside the finished ones."""
        self._bar.update(min(self._finished + in_hand, len(self._shared.rows)) - self._bar.n)

    def count(self) -> None:
        """Count the rows of finished shards anew, those of other processes too."""
        self._finished = self._rows_finished()
        self.show(in_hand=0)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


def _look(job: ShardJob, shard: int, shared: SharedPass) -> bool:
    """Take a finished shard from disk; tell whether the job has it now."""
    if shard not in job.done:
        found = job.shards.read(shard, shared.row_ids[shared.span(shard)])
        if found is not None:
            job.done[shard] = found
    return shard in job.done


def _claim(job: ShardJob, shard: int, shared: SharedPass, claimed: set[tuple[ShardJob, int]]) -> bool:
    """Claim a shard that nobody has finished or is at; tell whether it is this process's to infer."""
    if job.stored is not None or (job, shard) in claimed or _look(job, shard, shared) or not job.shards.claim(shard):
        return False
    job.stored = None if _look(job, shard, shared) else job.settled()  # it may have been let go of just now
    if shard in job.done or job.stored is not None:
        job.shards.release(shard)
        if job.stored is not None:
            job.shards.remove()  # the place that was made for the claim
        return False
    claimed.add((job, shard))
    return True


def _keys(jobs: Sequence[ShardJob], shared: SharedPass, claimed: set[tuple[ShardJob, int]]) -> Iterator[SharedKey]:
    """Claim shards as they are needed, and yield their batches: each shard starts one, wherever an interruption was."""
    for shard in range(shared.num_shards):
        mine = [number for number, job in enumerate(jobs) if _claim(job, shard, shared, claimed)]
        if not mine:
            continue
        kinds = sorted({jobs[number].kind for number in mine})
        span = shared.span(shard)
        for start in range(span.start, span.stop, shared.batch_size):
            positions = list(range(start, min(start + shared.batch_size, span.stop)))
            yield SharedKey(shard, positions, kinds, mine, is_last=positions[-1] == span.stop - 1)


def _finish(job: ShardJob, shard: int, parts: Sequence[Tensor], shared: SharedPass) -> None:
    logits, span = torch.cat(list(parts)).numpy(), shared.span(shard)
    check_logits(logits, shared.image_paths[span], job.dtype, where=job.what)
    logits = logits.astype(job.dtype).astype(np.float32)
    try:
        job.shards.write(shard, shared.row_ids[span], logits)
    except OSError as error:
        log.warning("%s: cannot keep shard %d (%s): an interruption would lose it", job.what, shard, error.strerror)
    job.done[shard] = logits
    job.shards.release(shard)


def _turn(jobs: Sequence[ShardJob], shared: SharedPass, rows: SharedRows, progress: _Progress) -> int:
    """Infer every shard that can be claimed; return the rows inferred."""
    claimed: set[tuple[ShardJob, int]] = set()
    keys = _keys(jobs, shared, claimed)
    loader = make_loader(rows, keys, num_workers=shared.num_workers, processes=False)  # type: ignore[arg-type]  # asked once
    parts: dict[int, list[Tensor]] = {}
    inferred = in_hand = 0
    for key, pictures in cast("Iterable[SharedBatch]", loader):
        of_kind = dict(zip(key.kinds, pictures, strict=True))
        for number in key.jobs:
            with torch.inference_mode():
                parts.setdefault(number, []).append(jobs[number].logits_of(of_kind[jobs[number].kind]).float())
        inferred, in_hand = inferred + len(key.positions), in_hand + len(key.positions)
        if key.is_last:
            in_hand = 0
            for number in key.jobs:
                _finish(jobs[number], key.shard, parts.pop(number), shared)
            progress.count()
        progress.show(in_hand=in_hand)
    return inferred


def _is_complete(job: ShardJob, shared: SharedPass) -> bool:
    return job.stored is not None or len(job.done) == shared.num_shards


def score_shards(jobs: Sequence[ShardJob], shared: SharedPass) -> None:
    """Infer what is missing: every job then has all of its shards, or what another process has stored.

    Shards that other processes are at are waited for; those of one that dies are taken over.

    Args:
        jobs: models and views.
        shared: rows and pictures of all of them.

    Raises:
        FerError: a picture cannot be read, logits are not finite or beyond what their type holds, or nothing can be
            written to the folder.
    """
    found = sum(_look(job, shard, shared) for job in jobs for shard in range(shared.num_shards))
    if found:
        log.info("%s: %d of %d shards were finished already", shared.what, found, len(jobs) * shared.num_shards)
    rows, progress = SharedRows(shared.rows, shared.stores), _Progress(shared, jobs)
    started, inferred, waits = time.perf_counter(), 0, False
    try:
        while not all(_is_complete(job, shared) for job in jobs):
            count = _turn(jobs, shared, rows, progress)
            inferred += count
            if not count and not all(_is_complete(job, shared) for job in jobs):
                if not waits:
                    log.info("%s: waiting for shards that another process infers", shared.what)
                waits = True
                progress.count()
                time.sleep(_POLL_SECONDS)
    finally:
        progress.close()
        for job in jobs:
            job.shards.release_all()
    seconds = time.perf_counter() - started
    log.info("%s: %d rows in %.1f s, %.0f rows/s", shared.what, inferred, seconds, inferred / max(seconds, 1e-9))
