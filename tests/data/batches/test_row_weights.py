"""The weight column: proportions as written, refusals with the line."""

from fractions import Fraction

import numpy as np
import pytest

from fer_lightning.data.batches.row_weights import row_weights
from fer_lightning.errors import FerError
from tests.data.conftest import Workshop, make_row


def weights_of(workshop: Workshop, *texts: str) -> list[int]:
    rows = [make_row(f"{index}.png", weight=text) for index, text in enumerate(texts)]
    return [int(weight) for weight in row_weights(workshop.read(rows), np.arange(len(texts)))]


def test_decimals_are_taken_as_written(workshop: Workshop) -> None:
    assert weights_of(workshop, "0.1", "", "2", "0", "1e-1", "0.30") == [1, 10, 20, 0, 1, 3]
    assert weights_of(workshop, "2.5", "1.25") == [250, 125]
    assert weights_of(workshop, "7", "7") == [7, 7]


def test_too_many_digits_are_rounded_and_nothing_vanishes(workshop: Workshop) -> None:
    texts = ["0.12345678901234567", "1e-30", "1e5", "0"]
    weights = weights_of(workshop, *texts)
    assert sum(weights) <= 2**44
    assert weights[3] == 0
    assert weights[1] == 1
    assert abs(Fraction(weights[0], sum(weights)) - Fraction(texts[0]) / Fraction("100000.1234")) < Fraction(1, 2**43)


def test_huge_weights_fit(workshop: Workshop) -> None:
    weights = weights_of(workshop, "3e300", "1e300", "0")
    assert sum(weights) <= 2**44
    assert weights[0] == pytest.approx(3 * weights[1], rel=1e-9)


def test_only_the_rows_asked_for_count(workshop: Workshop) -> None:
    manifest = workshop.read([make_row("a.png", weight="0.001"), make_row("b.png", weight="2"), make_row("c.png")])
    assert row_weights(manifest, np.array([2, 1])).tolist() == [1, 2]


def test_refusals(workshop: Workshop) -> None:
    with pytest.raises(FerError, match=r"needs a column named weight, and .*manifest\.csv has none"):
        row_weights(workshop.read([make_row("a.png")]), np.arange(1))
    with pytest.raises(FerError, match="the weights of all 2 train rows are 0"):
        weights_of(workshop, "0", "0.0")


@pytest.mark.parametrize("text", ["-1", "heavy", "nan", "inf"])
def test_a_weight_that_is_none_is_refused(workshop: Workshop, text: str) -> None:
    with pytest.raises(FerError, match=f"line 3.*{text}"):  # by the reader of manifests, or here
        weights_of(workshop, "1", text)
