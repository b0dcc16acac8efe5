"""The typed run that fuses an ensemble: fuse_ensemble."""

import math
from dataclasses import dataclass, field
from enum import Enum

from fer_lightning.pipeline.evaluation.config import EvaluateRun

_SUM_TOLERANCE = 1e-6
_SOURCE_MARK = "+"
_MOST_POINTS = 20_000
"""Of a grid: nine teachers in steps of .1 have 43,758, which take minutes on every resample and fold."""


class FusionSpace(Enum):
    """What is averaged."""

    logit = "logit"
    prob = "prob"


class TeacherScaling(Enum):
    """What is done to each teacher's logits before they are averaged."""

    none = "none"
    temperature = "temperature"


class WeightSearch(Enum):
    """How weights are found."""

    none = "none"
    grid = "grid"
    simplex = "simplex"
    optimise = "optimise"
    greedy = "greedy"


class SearchAim(Enum):
    """What `optimise` and `greedy` improve."""

    nll = "nll"
    macro_f1 = "macro_f1"


@dataclass(kw_only=True)
class EnsembleConfig:
    """Teachers, how they are averaged, and how their weights are found."""

    teachers: list[str] = field(default_factory=list)
    """Checkpoints, ONNX files, run directories (their best.pt), folders of stored logits, or of a foreign model."""
    names: list[str] = field(default_factory=list)
    """Short names, in the same order; unset: the first part of each run's name, e.g. RN18."""
    space: FusionSpace = FusionSpace.logit
    """`logit`: weighted mean of logits. `prob`: logarithm of the weighted mean of softmaxes."""
    spaces: list[FusionSpace] = field(default_factory=list)
    """Spaces that a search tries; empty: `space` alone."""
    weights: list[float] = field(default_factory=list)
    """One for each teacher, sum 1; empty: equal ones, or those found by the search."""
    teacher_scaling: TeacherScaling = TeacherScaling.none
    """`temperature`: each teacher's logits are divided by its own temperature first, fitted on val, so that the one
    with the largest logits does not drown the others."""
    search: WeightSearch = WeightSearch.none
    """`grid`: all weights in steps of `grid_step`. `simplex`: a coarse grid, refined around its best down to `finest_step`.
    `optimise`: continuous, towards `aim`. `greedy`: teachers added one at a time, towards `aim`. All on val."""
    aim: SearchAim = SearchAim.macro_f1
    """What `optimise` and `greedy` improve; `grid` and `simplex` go by macro-F1, minority-F1, ECE, accuracy."""
    grid_step: float = 0.1
    """Of `grid`: 66 points for three teachers."""
    finest_step: float = 0.0125
    """Of `simplex`."""
    greedy_steps: int = 50
    """Of `greedy`: teachers that are drawn, with replacement."""
    subsets: bool = True
    """A search also tells the best weights of every pair and triple."""
    num_weight_resamples: int = 200
    """Bootstrap resamples of the chosen weights' intervals; 0: none."""
    judge_test: bool = True
    """Judge the ensemble on test rows too, and compare it there with its best single teacher; nothing is chosen by them."""

    def __post_init__(self) -> None:
        """Check what can be known without the teachers."""
        self._check_teachers()
        self._check_weights()
        if self.spaces and self.search is WeightSearch.none:
            raise ValueError("ensemble.spaces are tried by a search: set ensemble.search, or ensemble.space alone")
        if len(set(self.spaces)) < len(self.spaces):
            raise ValueError("ensemble.spaces names a space twice")
        if not 0 < self.grid_step <= 0.5 or abs(round(1 / self.grid_step) * self.grid_step - 1) > _SUM_TOLERANCE:
            raise ValueError(f"ensemble.grid_step must divide 1 and lie in (0, 0.5], got {self.grid_step}")
        if not 0 < self.finest_step <= 0.25:
            raise ValueError(f"ensemble.finest_step must lie in (0, 0.25], got {self.finest_step}")
        if self.greedy_steps < 1:
            raise ValueError(f"ensemble.greedy_steps must be at least 1, got {self.greedy_steps}")
        if self.num_weight_resamples < 0 or 0 < self.num_weight_resamples < 100:
            raise ValueError(
                f"ensemble.num_weight_resamples must be 0 or at least 100, got {self.num_weight_resamples}"
            )
        self._check_points()

    def _check_points(self) -> None:
        """Refuse a search that would never end, before its teachers are inferred."""
        if self.search is WeightSearch.none:
            return
        parts, count = round(1 / self.grid_step), len(self.teachers)
        num_points = math.comb(parts + count - 1, parts) if self.search is WeightSearch.grid else 0
        if num_points > _MOST_POINTS:
            raise ValueError(
                f"ensemble.search=grid of {count} teachers in steps of {self.grid_step:g} has {num_points:,} points, more than "
                f"{_MOST_POINTS:,}: take ensemble.search=greedy or optimise, or a larger ensemble.grid_step"
            )
        of_subsets = sum(math.comb(count, size) * math.comb(parts + size - 1, parts) for size in (2, 3))
        if self.subsets and of_subsets > _MOST_POINTS:
            raise ValueError(
                f"the pairs and triples of {count} teachers in steps of {self.grid_step:g} are {of_subsets:,} points, more than "
                f"{_MOST_POINTS:,}: take ensemble.subsets=false, or a larger ensemble.grid_step"
            )

    def _check_teachers(self) -> None:
        if len(set(self.teachers)) < len(self.teachers):
            raise ValueError(f"ensemble.teachers names one twice: {', '.join(self.teachers)}")
        if self.names and (len(self.names) != len(self.teachers) or len(set(self.names)) < len(self.names)):
            raise ValueError(
                f"ensemble.names must name each of the {len(self.teachers)} teachers once, got {', '.join(self.names)}"
            )
        unfit = [name for name in self.names if not name or _SOURCE_MARK in name or "/" in name]
        if unfit:
            raise ValueError(f"ensemble.names must not be empty or hold + or /, got {unfit}")

    def _check_weights(self) -> None:
        if not self.weights:
            return
        if self.search is not WeightSearch.none:
            raise ValueError("ensemble.weights and ensemble.search both decide the weights; keep one of them")
        if len(self.weights) != len(self.teachers):
            raise ValueError(
                f"ensemble.weights has {len(self.weights)} numbers for {len(self.teachers)} ensemble.teachers; one each"
            )
        if any(not weight >= 0 for weight in self.weights):
            raise ValueError(f"ensemble.weights must not be negative, got {self.weights}")
        if abs(sum(self.weights) - 1) > _SUM_TOLERANCE:
            raise ValueError(
                f"ensemble.weights must sum to 1, got {self.weights}, whose sum is {sum(self.weights):.9g}: they are shares, "
                "and logits that are not divided by their sum have another scale"
            )


@dataclass(kw_only=True)
class FuseEnsembleRun(EvaluateRun):
    """Fuse the stored logits of teachers, with given weights or those that a search on val finds, and judge the result."""

    task: str = "fuse_ensemble"
    """The verb."""
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)

    def __post_init__(self) -> None:
        """Check that the options of a single model are left alone."""
        super().__post_init__()
        given = {
            "evaluate.checkpoint": self.evaluate.checkpoint,
            "evaluate.split": self.evaluate.split,
            "evaluate.calibrator": self.evaluate.calibrator,
            "evaluate.manifests": self.evaluate.manifests,
            "evaluate.gates.reference": self.evaluate.gates.reference,
        }
        for name, value in given.items():
            if value:
                raise ValueError(
                    f"{name} has no effect on task=fuse_ensemble: evaluate the ensemble's folder with task=evaluate"
                )
