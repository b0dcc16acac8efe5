"""Tables that are no logits, and logits that float16 cannot hold, are refused with the way out."""

import numpy as np
import pytest
from scipy.special import softmax

from fer_lightning.errors import FerError
from fer_lightning.runs.logit_checks import LARGEST_HALF, check_logits, no_logits

PATHS = [f"{number}.png" for number in range(20)]
LOGITS = np.random.default_rng(0).normal(0, 3, (20, 7)).astype(np.float32)


@pytest.mark.parametrize("values", [LOGITS, LOGITS.astype(np.float16), np.eye(7), np.abs(LOGITS), -softmax(LOGITS, 1)])
def test_logits_pass(values: np.ndarray) -> None:
    assert no_logits(values) is None
    check_logits(values, PATHS, "float16", where="x")


def test_probabilities_are_told_whatever_their_type() -> None:
    probs = softmax(LOGITS, axis=1)
    for kind in (np.float16, np.float32, np.float64):
        assert str(no_logits(probs.astype(kind))).startswith("probabilities: ")
    with pytest.raises(FerError, match="^x: logits are probabilities: .* remove the model's own"):
        check_logits(probs, PATHS, "float32", where="x")


def test_rows_that_are_not_finite_are_counted() -> None:
    broken = LOGITS.copy()
    broken[[3, 3, 7], [0, 1, 2]] = np.nan, np.inf, -np.inf
    with pytest.raises(FerError, match="^x: logits are not finite in 2 of 20 rows$"):
        check_logits(broken, PATHS, "float32", where="x")


def test_what_half_precision_cannot_hold_is_named() -> None:
    large = LOGITS.copy()
    large[4, 2], large[5, 2] = LARGEST_HALF, -LARGEST_HALF * 1.01
    check_logits(large, PATHS, "float32", where="x")
    with pytest.raises(FerError, match=r"beyond it in 1 of 20 rows: 5\.png \(66159\)\. Keep them as float32"):
        check_logits(large, PATHS, "float16", where="x")
