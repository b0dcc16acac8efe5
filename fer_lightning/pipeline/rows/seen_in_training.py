"""Refuses to judge a model on rows it was trained on, unless that is allowed by name."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.config import DataConfig
from fer_lightning.data.rows.manifest import Manifest, read_manifest
from fer_lightning.data.rows.source_filter import filter_sources
from fer_lightning.data.selection import Selection, select_rows
from fer_lightning.data.splits.few_rows import few_rows
from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.pipeline.rows.ancestors import ancestors
from fer_lightning.pipeline.rows.run_record import RunRecord

if TYPE_CHECKING:
    from fer_lightning.pipeline.rows.seen_rows import SeenRow

log = logging.getLogger(__name__)

_SHOWN = 3
_TrainRows = tuple[str, str, str | None, str | None]
"""What tells train rows apart: digests of manifest and rows, and, of a manifest that is not the judged one, its places."""


def seen_of_recorded(selection: Selection, split: str, record: RunRecord, data: DataConfig) -> int:
    """Count the rows of a run's own split that its model was trained on.

    The run's leak check has said which it can have trained on itself; what it started from, or was taught by, may have seen
    others.

    Args:
        selection: the run's rows, those of the split perhaps fewer.
        split: the split to judge.
        record: the run's record.
        data: cache folder and processes.

    Raises:
        FerError: rows that weights it started from, or a teacher, were trained on, of a kind that nobody allowed.
    """
    rows = selection.rows[split]
    if split == "train":
        return len(rows)
    allowed = {*data.allow_leaks, *record.data.allow_leaks}
    seen = _seen_by_ancestors(selection, split, record, data, allowed)
    if {"image", "content", "near_content"} & set(record.alignment.allowed_leaks):
        own = _seen(selection.manifest, rows, selection.manifest, selection.rows["train"], data)
        seen |= {row.row for row in own}
    return len(seen)


def seen_of_given(selection: Selection, split: str, record: RunRecord | None, data: DataConfig) -> int | None:
    """Count the rows to judge that the model was trained on, and refuse them where they are not allowed.

    What the run itself allowed between its splits stays allowed on its own manifest. Rows that the weights it started
    from, or its teachers, were trained on count too.

    Args:
        selection: rows chosen by the command.
        split: the split to judge; train rows may be judged as such.
        record: of the model's run, if there is one.
        data: the command's options.

    Returns:
        The count; None where it cannot be known, which is logged.

    Raises:
        FerError: rows seen in training, of a kind that `data.allow_leaks` does not name.
    """
    unknown = "not checked whether the model was trained on these rows: %s"
    if record is None:
        log.warning(unknown, "the model lies in no run directory")
        return None
    try:
        trained, train_rows = _rows_of(record, "train", selection, data)
        own = selection.manifest.sha256 == record.alignment.manifest_sha256
        chosen, val_rows = (None, train_rows[:0]) if own else _rows_of(record, "val", selection, data)
    except FerError as error:
        log.warning(unknown, str(error).splitlines()[0])
        return None
    allowed = {*data.allow_leaks, *(record.data.allow_leaks if own else ())}
    seen = refuse_seen(selection, split, trained, train_rows, data, allowed=allowed)
    if split == "test" and chosen is not None:  # on its own manifest the leak check has said so
        refuse_seen(selection, split, chosen, val_rows, data, allowed=allowed, how="chosen and calibrated on")
    return len(seen | _seen_by_ancestors(selection, split, record, data, allowed))


def refuse_seen(
    selection: Selection,
    split: str,
    trained: Manifest,
    train_rows: NDArray[np.int64],
    data: DataConfig,
    *,
    allowed: Set[str],
    who: str = "the model",
    how: str = "trained on",
) -> set[int]:
    """Return the rows of a split that show what train rows show; refuse them where they are not allowed.

    Args:
        selection: rows to judge.
        split: the split to judge; train rows may be judged as such.
        trained: manifest of the train rows.
        train_rows: their numbers.
        data: cache folder and processes.
        allowed: kinds of leak that are let pass, which is logged.
        who: was trained, for messages.
        how: what its run did on the train rows, for messages.

    Raises:
        FerError: there are rows of another kind.
    """
    seen = _seen(selection.manifest, selection.rows[split], trained, train_rows, data)
    refused = [row for row in seen if row.kind not in allowed]
    if refused and split != "train":
        raise FerError(_refusal(selection, split, trained, refused, f"{who} was {how}", how))
    for kind, count in sorted(Counter(row.kind for row in seen).items()) if split != "train" else ():
        log.warning(
            "%s: %s was %s %d of these %s rows (%s), allowed by data.allow_leaks",
            selection.manifest.path,
            who,
            how,
            count,
            split,
            kind,
        )
    return {row.row for row in seen}


def _train_rows(record: RunRecord, selection: Selection) -> _TrainRows:
    recorded = record.alignment
    own = recorded.manifest_sha256 == selection.manifest.sha256
    places = (None, None) if own else (record.data.manifest, record.data.root)
    return recorded.manifest_sha256, recorded.row_set_fingerprints["train"], *places


def refuse_seen_by(
    records: Iterable[RunRecord],
    selection: Selection,
    split: str,
    data: DataConfig,
    *,
    allowed: Set[str],
    besides: _TrainRows | None = None,
) -> set[int]:
    """Return the rows of a split that some runs were trained on; refuse them where they are not allowed.

    Args:
        records: of those runs, which a model started from or was taught by; one whose train rows cannot be known is logged.
            Equal train rows are looked at once.
        selection: rows to judge.
        split: the split to judge.
        data: where the manifest is now, cache folder and processes.
        allowed: kinds of leak that are let pass.
        besides: train rows that have been looked at already.

    Raises:
        FerError: there are rows of another kind.
    """
    seen: set[int] = set()
    done = {besides}
    for record in records:
        if _train_rows(record, selection) in done:
            continue
        done.add(_train_rows(record, selection))
        try:
            trained, train_rows = _rows_of(record, "train", selection, data)
        except FerError as error:
            log.warning("not checked against the train rows of %s: %s", record.run_dir, str(error).splitlines()[0])
            continue
        who = f"{record.run_dir}, which the model started from or was taught by,"
        seen |= refuse_seen(selection, split, trained, train_rows, data, allowed=allowed, who=who)
    return seen


def refuse_val_rows_seen_by(records: Iterable[RunRecord], selection: Selection, data: DataConfig) -> None:
    """Refuse val rows of a training that some runs, which it starts from or is taught by, were trained on.

    Args:
        records: of those runs.
        selection: rows of the training, whose own splits have been checked for leaks.
        data: its options.

    Raises:
        FerError: there are rows of a kind that `data.allow_leaks` does not name.
    """
    own = (selection.manifest.sha256, selection.fingerprint("train"), None, None)
    refuse_seen_by(records, selection, "val", data, allowed={*data.allow_leaks}, besides=own)


def _seen_by_ancestors(
    selection: Selection, split: str, record: RunRecord, data: DataConfig, allowed: Set[str]
) -> set[int]:
    besides = _train_rows(record, selection)
    return refuse_seen_by(ancestors(record), selection, split, data, allowed=allowed, besides=besides)


def _rows_of(
    record: RunRecord, split: str, selection: Selection, data: DataConfig
) -> tuple[Manifest, NDArray[np.int64]]:
    """Return the run's manifest and its rows of a split.

    Raises:
        FerError: why they cannot be known.
    """
    recorded = record.alignment
    manifest, root = record.data.manifest, record.data.root
    if selection.manifest.sha256 == recorded.manifest_sha256:  # which may have moved
        manifest, root = data.manifest, data.root
    if manifest is None or not Path(manifest).is_file():
        raise FerError(f"{record.run_dir} recorded data.manifest={manifest}, which is not there, seen from this folder")
    if sha256_of(Path(manifest)) != recorded.manifest_sha256:
        raise FerError(f"{manifest} is no longer the manifest that {record.run_dir} recorded")
    now = record.data_as_now(data, manifest=manifest, root=root)
    if recorded.carved_val_rows:
        own = select_rows(now, record.source_filter, splits=("train",))
        if own.fingerprint(split) != recorded.row_set_fingerprints[split]:
            raise FerError(f"the {split} rows of {record.run_dir} cannot be carved again: files or faulty rows differ")
        return own.manifest, own.rows[split]
    # Rows that were left out for their files count too: files that are gone by now must not hide that they were seen.
    table = read_manifest(Path(manifest), root=None if root is None else Path(root), max_bad_rows=now.max_bad_rows)
    rows, _ = filter_sources(table, record.source_filter)
    rows = rows[table.splits[rows] == split]
    return table, rows if now.limit_rows is None else few_rows(table, rows, now.limit_rows, seed=now.split_seed)


def _seen(
    judged: Manifest, rows: NDArray[np.int64], trained: Manifest, train_rows: NDArray[np.int64], data: DataConfig
) -> "list[SeenRow]":
    from fer_lightning.pipeline.rows.seen_rows import seen_rows  # OpenCV

    num_workers = (os.cpu_count() or 1) if data.num_workers is None else data.num_workers
    store = Path(data.cache_dir) / "facts"
    return seen_rows(judged, rows, trained, train_rows, store=store, num_workers=num_workers)


def _refusal(
    selection: Selection, split: str, trained: Manifest, refused: "Sequence[SeenRow]", who_did: str, how: str
) -> str:
    judged, total = selection.manifest, len(selection.rows[split])
    text = [f"{judged.path}: {who_did} {len(refused)} of these {total} {split} rows:"]
    kinds = list(dict.fromkeys(row.kind for row in refused))
    for kind in kinds:
        of_kind = [row for row in refused if row.kind == kind]
        text.append(f"  {kind}: {len(of_kind)} row{'s' if len(of_kind) > 1 else ''}")
        text += [
            f"    line {judged.lines[row.row]} ({judged.sources[row.row]} {judged.image_paths[row.row]}) is line "
            f"{trained.lines[row.train_row]} of {trained.path} ({trained.image_paths[row.train_row]})"
            for row in of_kind[:_SHOWN]
        ]
        if len(of_kind) > _SHOWN:
            text.append(f"    ... and {len(of_kind) - _SHOWN} more")
    text.append(
        f"Figures on rows that a model was {how} say nothing about other rows. Take these rows out of the manifest, "
        f"or judge them all the same with data.allow_leaks=[{','.join(kinds)}]"
    )
    return "\n".join(text)
