"""What a manifest says of the rows to judge, as it stands beside their logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fer_lightning.data.batches.targets import read_votes
from fer_lightning.data.rows.columns import VOTE_COLUMNS
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows


@dataclass(frozen=True)
class RowColumns:
    """Columns of some rows, in manifest order; see `StoredLogits`."""

    labels: Tensor
    row_ids: tuple[str, ...]
    image_paths: tuple[str, ...]
    sources: tuple[str, ...]
    votes: Tensor | None


def row_columns(rows: EvaluationRows) -> RowColumns:
    """Return the columns of the rows.

    Raises:
        FerError: a vote is no count.
    """
    manifest, numbers = rows.selection.manifest, rows.selection.rows[rows.split]
    voted = all(name in manifest.extras for name in VOTE_COLUMNS)
    return RowColumns(
        labels=torch.from_numpy(manifest.labels[numbers]),
        row_ids=tuple(manifest.row_ids[row] for row in numbers.tolist()),
        image_paths=tuple(manifest.image_paths[row] for row in numbers.tolist()),
        sources=tuple(manifest.sources[numbers].tolist()),
        votes=torch.from_numpy(read_votes(manifest, numbers)) if voted else None,
    )
