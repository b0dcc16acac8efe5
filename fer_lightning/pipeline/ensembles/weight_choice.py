"""Finds an ensemble's weights on val, and says how sure they are, what the choice flatters, and how teachers differ."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fer_lightning.functional.diversity import oracle_accuracy, pair_diversity
from fer_lightning.functional.ensemble_sweep import FusionSweep
from fer_lightning.functional.reliability import reliability_report
from fer_lightning.functional.weight_search import (
    FoundWeights,
    cross_validated,
    search_weights,
    source_bests,
    subset_bests,
    weight_intervals,
)
from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.ensembles.config import FuseEnsembleRun, TeacherScaling
from fer_lightning.pipeline.ensembles.judged_teachers import JudgedTeachers
from fer_lightning.runs.document_order import document_place
from fer_lightning.runs.ensemble import FusionFigures, PairDiversity, SubsetBest, WeightInterval, WeightSearchReport
from fer_lightning.runs.evaluation import Range
from fer_lightning.training.calibration import num_folds
from fer_lightning.training.slices import all_linked


@dataclass(frozen=True)
class Searched:
    """What a search has found."""

    report: WeightSearchReport
    points: list[FusionFigures]
    """Every point of every space, best first."""


def point_figures(sweep: FusionSweep, index: int, space: str) -> FusionFigures:
    """Return the figures of one point of a sweep."""
    return FusionFigures(
        space=space,
        weights=sweep.weights[index].tolist(),
        accuracy=float(sweep.accuracy[index]),
        macro_f1=float(sweep.macro_f1[index]),
        minority_f1=float(sweep.minority_f1[index]),
        per_class_f1=dict(zip(EMOTIONS, sweep.per_class_f1[index].tolist(), strict=True)),
        nll=float(sweep.nll[index]),
        ece=float(sweep.ece[index]),
        brier=float(sweep.brier[index]),
        calibration_temperature=float(sweep.temperatures[index]),
        temperature_at_bound=bool(sweep.at_bound[index]),
        nll_scaled=float(sweep.nll_scaled[index]),
        ece_scaled=float(sweep.ece_scaled[index]),
        brier_scaled=float(sweep.brier_scaled[index]),
    )


def _best_first(points: dict[str, FusionSweep]) -> list[FusionFigures]:
    """Return all points in the documents' order: macro-F1, minority-F1, calibrated ECE, accuracy, fewer teachers."""
    all_points = [
        point_figures(sweep, index, space) for space, sweep in points.items() for index in range(len(sweep.weights))
    ]

    def place(point: FusionFigures) -> tuple[float, ...]:
        of_figures = document_place(
            macro_f1=point.macro_f1, minority_f1=point.minority_f1, ece=point.ece_scaled, accuracy=point.accuracy
        )
        return *of_figures, sum(weight > 0 for weight in point.weights)

    return sorted(all_points, key=place)


def _judged_outside(
    run: FuseEnsembleRun, teachers: JudgedTeachers, chosen: FusionFigures, options: dict[str, Any]
) -> tuple[FusionFigures, list[list[float]], list[str]]:
    """Judge each row by weights and temperatures, the teachers' included, that were chosen on the other folds."""
    stored, num_bins = teachers.stored[0], run.calibration.num_bins
    labels = stored[0].labels
    found = cross_validated(
        torch.stack([one.logits for one in stored]).double(),
        labels,
        teachers.folds,
        num_bins=num_bins,
        scale_teachers=run.ensemble.teacher_scaling is TeacherScaling.temperature,
        **options,
    )
    raw = reliability_report(found.log_probs, labels, num_bins=num_bins)
    scaled = reliability_report(found.scaled_log_probs, labels, num_bins=num_bins)
    figures = replace(
        chosen,
        accuracy=raw.scores.accuracy,
        macro_f1=raw.scores.macro_f1,
        minority_f1=raw.scores.minority_f1,
        per_class_f1=dict(zip(EMOTIONS, raw.scores.per_class_f1.tolist(), strict=True)),
        nll=raw.nll,
        ece=raw.ece,
        brier=raw.brier,
        nll_scaled=scaled.nll,
        ece_scaled=scaled.ece,
        brier_scaled=scaled.brier,
    )
    return figures, [weights.tolist() for weights in found.fold_weights], found.fold_spaces


def _intervals(
    run: FuseEnsembleRun, names: Sequence[str], logits: Tensor, labels: Tensor, groups: Tensor, found: FoundWeights
) -> list[WeightInterval]:
    num_resamples = run.ensemble.num_weight_resamples
    if not num_resamples or all_linked(groups):
        return []
    intervals = weight_intervals(
        logits, labels, found, groups=groups, num_resamples=num_resamples, confidence=run.evaluate.confidence
    )
    return [
        WeightInterval(
            teacher=name,
            weight=weight,
            interval=Range(low=interval.low, high=interval.high),
            chosen_share=interval.chosen_share,
        )
        for name, weight, interval in zip(names, found.weights.tolist(), intervals, strict=True)
    ]


def _diversity(names: Sequence[str], predictions: Tensor, labels: Tensor) -> list[PairDiversity]:
    pairs = [(first, second) for first in range(len(names)) for second in range(first + 1, len(names))]
    return [
        PairDiversity(
            teachers=[names[first], names[second]],
            **vars(pair_diversity(predictions[first], predictions[second], labels)),
        )
        for first, second in pairs
    ]


def _subsets(
    run: FuseEnsembleRun, teachers: JudgedTeachers, found: FoundWeights, folds: Tensor | None, spaces: Sequence[str]
) -> list[SubsetBest]:
    """Return the best of pairs and triples, and of the searched points on the rows of each source."""
    if not run.ensemble.subsets:
        return []
    names, val, logits = teachers.names, teachers.stored[0][0], teachers.scaled.logits
    num_bins = run.calibration.num_bins
    some = subset_bests(
        logits, val.labels, spaces=spaces, grid_step=run.ensemble.grid_step, folds=folds, num_bins=num_bins
    )
    bests = [
        SubsetBest(
            teachers=[names[member] for member in best.members],
            source=None,
            n=len(val.labels),
            point=point_figures(best.sweep, best.index, best.space),
        )
        for best in some
    ]
    if len(set(val.sources)) < 2:
        return bests
    points = np.concatenate([sweep.weights.numpy() for sweep in found.points.values()])
    weights = torch.from_numpy(np.unique(points, axis=0))
    of_sources = source_bests(
        logits, val.labels, val.sources, spaces=spaces, weights=weights, folds=folds, num_bins=num_bins
    )
    return bests + [
        SubsetBest(
            teachers=list(names), source=best.source, n=best.n, point=point_figures(best.sweep, best.index, best.space)
        )
        for best in of_sources
    ]


def search(run: FuseEnsembleRun, teachers: JudgedTeachers) -> Searched:
    """Search the weights on val.

    Args:
        run: which search, of which spaces.
        teachers: on val; nothing else is looked at.
    """
    asked, val, logits = run.ensemble, teachers.stored[0][0], teachers.scaled.logits
    labels, num_bins = val.labels, run.calibration.num_bins
    spaces = [space.value for space in asked.spaces or [asked.space]]
    options: dict[str, Any] = {
        "spaces": spaces,
        "search": asked.search.value,
        "aim": asked.aim.value,
        "grid_step": asked.grid_step,
        "finest_step": asked.finest_step,
        "greedy_steps": asked.greedy_steps,
    }
    folds = teachers.folds if num_folds(teachers.folds) > 1 else None
    found = search_weights(logits, labels, folds=folds, num_bins=num_bins, **options)
    chosen = point_figures(found.points[found.space], found.index, found.space)
    outside: tuple[FusionFigures | None, list[list[float]], list[str]] = (None, [], [])
    if folds is not None:
        outside = _judged_outside(run, teachers, chosen, options)
    predictions = logits.argmax(dim=2)
    report = WeightSearchReport(
        search=asked.search.value,
        aim=asked.aim.value,
        spaces=spaces,
        teachers=list(teachers.names),
        num_points=sum(len(sweep.weights) for sweep in found.points.values()),
        num_folds=num_folds(teachers.folds),
        row_set_fingerprint=val.record.row_set_fingerprint,
        n=len(labels),
        chosen=chosen,
        cross_validated=outside[0],
        fold_weights=outside[1],
        fold_spaces=outside[2],
        weight_intervals=_intervals(run, teachers.names, logits, labels, val.groups, found),
        confidence=run.evaluate.confidence,
        num_resamples=asked.num_weight_resamples,
        diversity=_diversity(teachers.names, predictions, labels),
        oracle_accuracy=oracle_accuracy(predictions, labels),
        subsets=_subsets(run, teachers, found, folds, spaces),
    )
    return Searched(report, _best_first(found.points))
