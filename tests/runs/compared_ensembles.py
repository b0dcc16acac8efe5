"""Finished ensembles as comparisons take them, made in memory."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fer_lightning.runs.artifacts import EvaluatedCheckpoint
from fer_lightning.runs.ensemble import (
    Ensemble,
    EnsembleMetrics,
    EnsembleTeacher,
    PairedFigure,
    TeacherComparison,
)
from fer_lightning.runs.finished_ensemble import FinishedEnsemble
from tests.runs.examples import calibration_record, example
from tests.runs.finished_runs import metrics

VAL_ROWS, TEST_ROWS = "fa" * 32, "7e" * 32


def judged(
    split: str, rows: str, *, ece_scaled: float | None = 0.02, n: int = 51, **figures: float
) -> EvaluatedCheckpoint:
    """Return a judged model, .5 where a figure is not given."""
    checkpoint: EvaluatedCheckpoint = example(EvaluatedCheckpoint)
    return replace(
        checkpoint,
        checkpoint_sha256="5a" * 32,
        split=split,
        n=n,
        row_set_fingerprint=rows,
        num_bins=15,
        raw=metrics(**figures),
        scaled=None if ece_scaled is None else metrics(**{**figures, "ece": ece_scaled}),
    )


def comparison(low: float, high: float, *, split: str = "test") -> TeacherComparison:
    """Return a comparison whose difference of macro-F1 lies in the middle of its interval."""
    figure = PairedFigure(
        teacher=0.5, ensemble=0.5 + (low + high) / 2, difference=(low + high) / 2, low=low, high=high, p_value=0.04
    )
    return TeacherComparison(
        teacher="RN18",
        split=split,
        n=40,
        row_set_fingerprint=TEST_ROWS,
        confidence=0.95,
        num_resamples=200,
        figures={"macro_f1": figure},
        mcnemar_p=0.5,
        discordant=[1, 2],
        chosen_here=split == "val",
    )


def finished(
    name: str,
    weights: Sequence[float] = (0.7, 0.3),
    *,
    rows: str = VAL_ROWS,
    test_rows: str | None = TEST_ROWS,
    at_bound: bool = False,
    temperature: float = 1.0,
    against: Sequence[TeacherComparison] = (),
    **figures: Any,
) -> FinishedEnsemble:
    """Return an ensemble of RN18, B3, ... with figures on val; .5 where not given, and .6 less than these on test."""
    names = ("RN18", "B3", "CNXT")[: len(weights)]
    teachers = [
        replace(
            example(EnsembleTeacher),
            name=teacher,
            weight=weight,
            calibration_temperature=temperature,
            temperature_at_bound=at_bound,
        )
        for teacher, weight in zip(names, weights, strict=True)
    ]
    record = replace(
        example(Ensemble),
        name=name,
        space="logit",
        view="single",
        teachers=teachers,
        weights_how="given",
        calibration=calibration_record(2.5),
    )
    test = [] if test_rows is None else [judged("test", test_rows, n=40, accuracy=0.11)]
    all_metrics = replace(
        example(EnsembleMetrics),
        name=name,
        weights=dict(zip(names, weights, strict=True)),
        evaluated=[judged("val", rows, **figures), *test],
        teachers={
            teacher: [judged("val", rows, macro_f1=0.3 + 0.1 * place), *test] for place, teacher in enumerate(names)
        },
        best_teacher="RN18",
        against_best_teacher=list(against),
    )
    return FinishedEnsemble(Path("sweep/ensembles") / name, record, all_metrics)
