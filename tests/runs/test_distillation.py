"""What may change between two lessons of one student."""

import math
from dataclasses import replace
from typing import Any

import pytest

from fer_lightning.runs.distillation import DistillationRecord, TargetSharpness, changes_of_lesson
from tests.runs.examples import example

BEFORE: DistillationRecord = replace(example(DistillationRecord), kd_temperature=3.2, ensemble_temperature=1.4)


def rounded(number: float) -> float:
    """Return the next number, as another number of threads may give."""
    return math.nextafter(number, math.inf)


def test_rounding_is_no_other_lesson() -> None:
    sharp = TargetSharpness(mean_max_prob=0.7, mean_true_prob=0.6, mean_entropy_share=0.3)
    before = replace(BEFORE, targets=sharp)
    now = replace(before, kd_temperature=rounded(3.2), targets=replace(sharp, mean_max_prob=rounded(0.7)))
    assert changes_of_lesson(before, now) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kd_temperature": 3.21}, "kd_temperature was 3.2, is 3.21"),
        ({"kd_temperature": None}, "kd_temperature was 3.2, is None"),
        ({"ensemble_temperature": 1.0}, "ensemble_temperature was 1.4, is 1.0"),
        ({"source_sha256": "ab"}, "is ab"),
    ],
)
def test_what_teaches_something_else_is_named(changes: dict[str, Any], message: str) -> None:
    (change,) = changes_of_lesson(BEFORE, replace(BEFORE, **changes))
    assert message in change


def test_places_and_what_is_only_told_may_differ() -> None:
    assert changes_of_lesson(BEFORE, replace(BEFORE, source="elsewhere", teacher_parameters=5, verified_rows=9)) == []
