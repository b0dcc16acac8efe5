"""Logits, log-probabilities and probabilities of other programs: converted, and never taken for one another."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from fer_lightning.data.foreign.score_spaces import SMALLEST_PROB, logits_of
from fer_lightning.data.foreign.table import ForeignTable
from fer_lightning.errors import FerError

LOGITS = 3 * np.random.default_rng(0).normal(size=(40, 7))
PROBS = softmax(LOGITS, axis=1)
COSINES = LOGITS / np.abs(LOGITS).max()


def table(scores: NDArray[Any]) -> ForeignTable:
    return ForeignTable(
        path=Path("preds.csv"),
        sha256="ab" * 32,
        scores=np.asarray(scores, dtype=np.float64),
        join="position",
        keys=(),
        bboxes=None,
        places=np.arange(len(scores)) + 2,
        unit="line",
        ignored=(),
    )


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_all_three_spaces_give_logits_of_the_same_softmax() -> None:
    given = {"logits": LOGITS, "log_probs": log_softmax(LOGITS, axis=1), "probs": PROBS}
    for values, scores in given.items():
        logits = logits_of(table(scores), values=values)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(softmax(logits.astype(np.float64), axis=1), PROBS, atol=1e-6)
    np.testing.assert_array_equal(logits_of(table(LOGITS), values="logits"), LOGITS.astype(np.float32))


@pytest.mark.parametrize("round_to", [3, 6])
def test_rounded_probabilities_are_probabilities(round_to: int) -> None:
    rounded = softmax(LOGITS / 3, axis=1).round(round_to)
    np.testing.assert_allclose(np.exp(logits_of(table(rounded), values="probs")), rounded, rtol=1e-5)


@pytest.mark.parametrize(
    ("scores", "values", "said"),
    [
        (PROBS, "logits", r"all 40 rows are probabilities, not logits(.|\n)*second one: set foreign.values=probs"),
        (np.eye(7), "logits", "all 7 rows are probabilities"),
        (COSINES, "logits", r"all 40 rows lie in \[-1, 1\], as cosines do(.|\n)*Multiply them by the scale"),
        (COSINES.astype(np.float16), "logits", "as cosines do"),
        (1 / (1 + np.exp(-LOGITS)), "logits", "as cosines do"),
        (COSINES[:1], "logits", "all 1 rows lie in"),
        (LOGITS, "probs", "39 of 40 rows are no probabilities: set foreign.values=logits"),
        (100 * PROBS, "probs", r"40 of 40 rows are no probabilities(.|\n)*line 2: the sum is not 1 \(100\)"),
        (
            np.vstack([PROBS, [0.9, 0.09, 0, 0, 0, 0, 0]]),
            "probs",
            r"1 of 41 rows (.|\n)*line 42: the sum is not 1 \(0.99\)",
        ),
        (np.vstack([PROBS, [1.1, -0.1, 0, 0, 0, 0, 0]]), "probs", r"1 of 41 (.|\n)*line 42: a negative entry \(-0.1\)"),
        (np.log(PROBS), "probs", "are no probabilities"),
        (LOGITS, "log_probs", r"rows are no log-probabilities(.|\n)*the sum of exp is not 1"),
        (PROBS, "log_probs", "are no log-probabilities"),
        (800 + LOGITS, "log_probs", r"are no log-probabilities(.|\n)*\(inf\)"),
    ],
)
def test_one_space_handed_as_another_is_refused(scores: NDArray[Any], values: str, said: str) -> None:
    with pytest.raises(FerError, match=said):
        logits_of(table(scores), values=values)


@pytest.mark.parametrize("scale", [16.0, 30.0, 64.0])
def test_scaled_cosines_are_logits(scale: float) -> None:
    np.testing.assert_array_equal(logits_of(table(scale * COSINES), values="logits"), (scale * COSINES).astype("f4"))


def test_flat_logits_can_be_given_as_probabilities() -> None:
    logits = logits_of(table(softmax(COSINES, axis=1)), values="probs")
    np.testing.assert_allclose(softmax(logits.astype(np.float64), axis=1), softmax(COSINES, axis=1), atol=1e-7)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_scores_that_are_not_finite_are_refused_with_row_and_class(bad: float) -> None:
    scores = LOGITS.copy()
    scores[3, 5] = bad
    with pytest.raises(FerError, match=r"1 of 40 rows hold scores that are not finite:\n  line 5: .*\(Surprise="):
        logits_of(table(scores), values="logits")


@pytest.mark.parametrize("values", ["probs", "log_probs"])
def test_a_probability_of_zero_is_the_smallest_float_and_is_said(values: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    probs = np.array([[0.5, 0.5, 0, 0, 0, 0, 0], [0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1]])
    with np.errstate(divide="ignore"):
        scores = probs if values == "probs" else np.log(probs)
    logits = logits_of(table(scores), values=values)
    assert pytest.approx(2.0**-126) == SMALLEST_PROB
    assert logits[0].tolist() == pytest.approx([np.log(0.5)] * 2 + [-126 * np.log(2)] * 5)
    assert "5 probabilities in 1 of 2 rows are exactly 0" in caplog.text
    np.testing.assert_allclose(softmax(logits, axis=1), probs, atol=1e-7)


def test_without_zeros_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    logits_of(table(PROBS), values="probs")
    assert caplog.text == ""
