"""What training rows teach: their label, a label drawn by their annotators' votes, or the vote shares."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.batches.row_weights import row_weights
from fer_lightning.data.config import TargetKind, TargetsConfig
from fer_lightning.data.rows.columns import VOTE_COLUMNS
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError
from fer_lightning.labels import NUM_CLASSES

log = logging.getLogger(__name__)


class RowTargets:
    """Targets of a split's rows, by position.

    Args:
        labels: (n,) int64 label column.
        shares: (n, 7) float64 vote shares, a row without votes being 1 at its label; None: labels only.
        drawn: labels are drawn by the shares, instead of the shares being the targets.
        loss_weights: (n,) float32 weights of the rows in the loss, mean 1; None: all 1.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        *,
        shares: NDArray[np.float64] | None = None,
        drawn: bool = False,
        loss_weights: NDArray[np.float32] | None = None,
    ) -> None:
        self._labels = labels
        self._steps = None if shares is None or not drawn else _upper_steps(shares)
        self._targets = None if shares is None or drawn else shares.astype(np.float32)
        self._loss_weights = loss_weights

    def labels(self, positions: NDArray[np.int64], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the labels of some shown samples: (N,) int64.

        Args:
            positions: (N,) positions in the split.
            uniforms: (N,) numbers in [0, 1), one per shown sample, that draw its label where labels are drawn.
        """
        if self._steps is None:
            return self._labels[positions]
        drawn: NDArray[np.int64] = (self._steps[positions] <= uniforms[:, None]).sum(axis=1)
        return drawn

    def targets(self, positions: NDArray[np.int64], uniforms: NDArray[np.float64]) -> NDArray[np.float32] | None:
        """Return the target distributions of some shown samples: (N, 7) float32; None where labels are the targets."""
        return None if self._targets is None else self._targets[positions]

    def weights(self, positions: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return the loss weights of some rows: (N,) float32; None where all are 1."""
        return None if self._loss_weights is None else self._loss_weights[positions]


def _upper_steps(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return cumulative shares that end at exactly 1, so that no number below 1 draws a class of share 0."""
    steps = np.cumsum(shares, axis=1)
    return steps / steps[:, -1:]


def read_votes(manifest: Manifest, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the votes of some rows.

    Args:
        manifest: a manifest with the columns `vote_Angry` .. `vote_Neutral`; an empty field means no votes.
        rows: row numbers.

    Returns:
        (len(rows), 7) float64 of at least 0.

    Raises:
        FerError: a column is missing, or a vote is negative or no number.
    """
    missing = [name for name in VOTE_COLUMNS if name not in manifest.extras]
    if missing:
        raise FerError(f"targets.kind needs the columns of votes, and {manifest.path} lacks {', '.join(missing)}")
    votes = np.empty((len(rows), NUM_CLASSES))
    for index, name in enumerate(VOTE_COLUMNS):
        column = manifest.extras[name]
        votes[:, index] = _numbers([column[row] for row in rows.tolist()])
        bad = rows[~(votes[:, index] >= 0) | np.isinf(votes[:, index])]
        if len(bad):
            raise FerError(
                f"{manifest.path} line {manifest.lines[bad[0]]}: {name}={column[bad[0]]!r} is not a count of votes"
                + (f", and {len(bad) - 1} more rows" if len(bad) > 1 else "")
            )
    return votes


def _numbers(texts: Sequence[str]) -> list[float]:
    """Return texts as numbers, nan where a text is none."""
    values = {}
    for text in set(texts):
        try:
            values[text] = float(text or 0)
        except ValueError:
            values[text] = float("nan")
    return [values[text] for text in texts]


def vote_shares(votes: NDArray[np.float64], labels: NDArray[np.int64], *, min_votes: int) -> NDArray[np.float64]:
    """Return the share of each emotion in the votes of each row.

    Args:
        votes: (n, 7) counts of at least 0.
        labels: (n,) label that a row without votes stands for.
        min_votes: a smaller count is dropped, unless that leaves the row without any.

    Returns:
        (n, 7) float64, each row summing to 1.
    """
    kept = np.where(votes >= min_votes, votes, 0)
    emptied = kept.sum(axis=1) == 0
    kept[emptied] = votes[emptied]
    unvoted = np.flatnonzero(kept.sum(axis=1) == 0)
    kept[unvoted, labels[unvoted]] = 1
    shares: NDArray[np.float64] = kept / kept.sum(axis=1, keepdims=True)
    return shares


def _log_votes(votes: NDArray[np.float64], shares: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    voted = votes.sum(axis=1) > 0
    differs = voted & (shares[np.arange(len(labels)), labels] < shares.max(axis=1))
    log.info(
        "votes: %d of %d train rows have them; most votes are not for the label in %d",
        voted.sum(),
        len(labels),
        differs.sum(),
    )


def read_targets(
    manifest: Manifest, rows: NDArray[np.int64], config: TargetsConfig, *, weigh_loss: bool = False
) -> RowTargets:
    """Return what the rows of the train split teach, and say in the log what their votes are like.

    Args:
        manifest: the manifest.
        rows: row numbers of the train split.
        config: label, drawn label or distribution.
        weigh_loss: the manifest's `weight` column, divided by its mean over the rows, weighs the loss of each row.

    Raises:
        FerError: votes are wanted and no row has any, columns are missing, or a field is no number.
    """
    labels = manifest.labels[rows]
    loss_weights = None
    if weigh_loss:
        weights = row_weights(manifest, rows)
        loss_weights = (weights / weights.mean()).astype(np.float32)
    if config.kind is TargetKind.label:
        return RowTargets(labels, loss_weights=loss_weights)
    votes = read_votes(manifest, rows)
    if not votes.any():
        raise FerError(
            f"targets.kind={config.kind.value} needs votes, and none of the {len(rows)} train rows of {manifest.path} "
            "has any; use targets=label"
        )
    shares = vote_shares(votes, labels, min_votes=config.min_votes)
    _log_votes(votes, shares, labels)
    return RowTargets(labels, shares=shares, drawn=config.kind is TargetKind.probability, loss_weights=loss_weights)
