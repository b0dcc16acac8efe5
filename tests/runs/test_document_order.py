"""One order for every table: macro-F1, minority-F1, ECE as deployed, accuracy."""

import itertools
from dataclasses import replace

from fer_lightning.runs.artifacts import EvaluatedCheckpoint
from fer_lightning.runs.document_order import document_place, place_of
from tests.runs.examples import example


def test_each_figure_decides_among_equals_of_those_before_it() -> None:
    better = {"macro_f1": 0.6, "minority_f1": 0.5, "ece": 0.1, "accuracy": 0.7}
    worse = {"macro_f1": 0.5, "minority_f1": 0.4, "ece": 0.2, "accuracy": 0.6}
    pairs = [[(name, better[name]), (name, worse[name])] for name in better]
    choices = [dict(choice) for choice in itertools.product(*pairs)]
    shuffled = [choices[(7 * place) % len(choices)] for place in range(len(choices))]
    assert sorted(shuffled, key=lambda figures: document_place(**figures)) == choices


def test_rounding_decides_nothing() -> None:
    figures = {"macro_f1": 0.1 + 0.2, "minority_f1": 0.5, "ece": 0.1, "accuracy": 0.7}
    assert document_place(**figures) == document_place(**figures | {"macro_f1": 0.3})


def test_the_ece_is_the_one_that_is_deployed() -> None:
    judged = example(EvaluatedCheckpoint)
    raw = replace(judged.raw, ece=0.2)
    uncalibrated = replace(judged, raw=raw, scaled=None)
    assert place_of(uncalibrated)[2] == 0.2
    assert place_of(replace(uncalibrated, scaled=replace(raw, ece=0.05)))[2] == 0.05
