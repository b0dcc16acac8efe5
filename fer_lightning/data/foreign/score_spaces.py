"""Logits from what another program calls logits, log-probabilities or probabilities, each told from the others."""

import logging

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.foreign.table import ForeignTable, RowProblem, refuse_rows
from fer_lightning.labels import EMOTIONS

log = logging.getLogger(__name__)

SMALLEST_PROB = float(np.finfo(np.float32).tiny)
"""Taken for a probability of exactly 0, which has no logarithm."""
_SUM_TOLERANCE = 4e-3  # of seven probabilities with three digits
_LARGEST_COSINE = 1 + 1e-3  # rounded in half precision


def _refuse(
    table: ForeignTable, bad: NDArray[np.bool_], shown: NDArray[np.float64], *, reason: str, advice: str
) -> None:
    """Refuse the rows that are marked; `shown` is the value to tell of each row."""
    rows = np.flatnonzero(bad)
    if not len(rows):
        return
    problems = [RowProblem(f"{table.unit} {table.places[row]}", f"{shown[row]:.6g}", reason) for row in rows.tolist()]
    headline = f"{len(rows)} of {len(bad)} rows are no {advice}"
    refuse_rows(table.path, table.sha256, problems, headline=headline)


def _refuse_unbounded(table: ForeignTable, values: str) -> None:
    scores = table.scores
    allowed = np.isneginf(scores) if values == "log_probs" else np.zeros(scores.shape, dtype=bool)
    with np.errstate(over="ignore"):
        bad = ~(np.isfinite(scores.astype(np.float32)) | allowed)
    rows, columns = np.nonzero(bad)
    if len(rows):
        problems = [
            RowProblem(
                f"{table.unit} {table.places[row]}", f"{EMOTIONS[column]}={scores[row, column]}", "not a finite float32"
            )
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        ]
        headline = f"{len(set(rows.tolist()))} of {len(scores)} rows hold scores that are not finite"
        refuse_rows(table.path, table.sha256, problems, headline=headline)


def like_cosines(scores: NDArray[np.floating]) -> bool:
    """Tell whether scores could be cosines that nobody has multiplied by a scale: none lies outside [-1, 1].

    Args:
        scores: (N, C) of all rows.
    """
    return bool(np.abs(scores).max() <= _LARGEST_COSINE)


def _check_logits(table: ForeignTable) -> None:
    scores = table.scores
    sums = scores.sum(axis=1)
    if scores.min() >= 0 and (np.abs(sums - 1) <= _SUM_TOLERANCE).all():
        problem = RowProblem(f"{table.unit} {table.places[0]}", f"sum {sums[0]:.6g}", "no entry is negative")
        refuse_rows(
            table.path,
            table.sha256,
            [problem],
            headline=f"all {len(scores)} rows are probabilities, not logits",
            advice="A softmax of them would be a second one: set foreign.values=probs",
        )
    if like_cosines(scores):
        row = int(np.abs(scores).max(axis=1).argmax())
        largest = f"{np.abs(scores[row]).max():.6g}"
        problem = RowProblem(f"{table.unit} {table.places[row]}", largest, "the largest score")
        refuse_rows(
            table.path,
            table.sha256,
            [problem],
            headline=f"all {len(scores)} rows lie in [-1, 1], as cosines do, and not logits",
            advice="A softmax of them is almost uniform. Multiply them by the scale that the model was trained with (often 16 to 64) "
            "and import them again; where they are logits all the same, import their softmax with foreign.values=probs",
        )


def _check_probs(table: ForeignTable) -> None:
    scores = table.scores
    sums = scores.sum(axis=1)
    advice = "probabilities: set foreign.values=logits, or log_probs, if that is what they are"
    _refuse(table, scores.min(axis=1) < 0, scores.min(axis=1), reason="a negative entry", advice=advice)
    _refuse(table, np.abs(sums - 1) > _SUM_TOLERANCE, sums, reason="the sum is not 1", advice=advice)


def _check_log_probs(table: ForeignTable) -> None:
    with np.errstate(over="ignore"):
        sums = np.exp(table.scores).sum(axis=1)
    advice = "log-probabilities: set foreign.values=logits, or probs, if that is what they are"
    _refuse(table, ~(np.abs(sums - 1) <= _SUM_TOLERANCE), sums, reason="the sum of exp is not 1", advice=advice)


def _tell_zeros(table: ForeignTable, zeros: NDArray[np.bool_]) -> None:
    if zeros.any():
        log.warning(
            "%s: %d probabilities in %d of %d rows are exactly 0 and taken for %.3g (logarithm %.2f): how small they were is lost, "
            "and their NLL and a fusion of logits depend on it. Export logits if the program has them",
            table.path,
            int(zeros.sum()),
            int(zeros.any(axis=1).sum()),
            len(zeros),
            SMALLEST_PROB,
            np.log(SMALLEST_PROB),
        )


def logits_of(table: ForeignTable, *, values: str) -> NDArray[np.float32]:
    """Return logits: as they are, or the logarithms of probabilities, which are logits of the same softmax.

    A probability of exactly 0 counts as `SMALLEST_PROB`, the smallest normal float32, with a warning that says how many there
    are; nothing else is changed.

    Args:
        table: the scores.
        values: `logits`, `log_probs` or `probs`: what they are said to be.

    Returns:
        (n, 7) finite.

    Raises:
        FerError: scores that are not finite, or not what they are said to be.
    """
    _refuse_unbounded(table, values)
    scores = table.scores
    if values == "logits":
        _check_logits(table)
        return scores.astype(np.float32)
    if values == "probs":
        _check_probs(table)
        zeros = scores == 0
        _tell_zeros(table, zeros)
        return np.log(np.where(zeros, SMALLEST_PROB, scores)).astype(np.float32)
    _check_log_probs(table)
    zeros = np.isneginf(scores)
    _tell_zeros(table, zeros)
    return np.where(zeros, np.log(SMALLEST_PROB), scores).astype(np.float32)
