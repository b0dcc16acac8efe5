"""The searches of weights in one space: refinement of a grid, continuous optimisation, greedy selection."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from fer_lightning.functional._convex_weights import lowest_logit_nll, lowest_mixture_nll
from fer_lightning.functional._simplex import coarse_points, pair_moves, simplex_grid
from fer_lightning.functional._visited_points import SearchRows, VisitedPoints, choose

SEARCHES = ("grid", "simplex", "optimise", "greedy")
AIMS = ("macro_f1", "nll")
SPACES = ("logit", "prob")

_FIRST_STEP = 0.125  # half of the coarse grid's
_CONTINUOUS_STEPS = tuple(0.5**k for k in range(3, 11))


def check_spaces(spaces: Sequence[str]) -> None:
    """Refuse unknown spaces, none at all, or one twice.

    Raises:
        ValueError: one of these.
    """
    if not spaces or not set(spaces) <= set(SPACES) or len(set(spaces)) < len(spaces):
        raise ValueError(f"spaces takes logit and prob, each once, got {list(spaces)}")


@dataclass(frozen=True)
class SearchOptions:
    """What is searched and how; see `weight_search.search_weights`."""

    spaces: tuple[str, ...]
    search: str
    aim: str
    grid_step: float
    finest_step: float
    greedy_steps: int

    def __post_init__(self) -> None:
        check_spaces(self.spaces)
        if self.search not in SEARCHES:
            raise ValueError(f"search must be one of {', '.join(SEARCHES)}, got {self.search!r}")
        if self.aim not in AIMS:
            raise ValueError(f"aim must be one of {', '.join(AIMS)}, got {self.aim!r}")
        if not 0.0 < self.finest_step <= 1.0:
            raise ValueError(f"finest_step must lie in (0, 1], got {self.finest_step}")
        if self.greedy_steps < 1:
            raise ValueError(f"greedy_steps must be at least 1, got {self.greedy_steps}")

    @property
    def by(self) -> str:
        """What decides between points: `nll`, or `macro_f1` for the documents' order."""
        return self.aim if self.search in {"optimise", "greedy"} else "macro_f1"


def _halving_steps(finest: float) -> Iterator[float]:
    """Steps down to the finest, each half of the one before, so that weights stay multiples of the finest."""
    doublings = max(0, math.floor(math.log2(_FIRST_STEP / finest) + 1e-9))
    yield from (finest * 2**k for k in range(doublings, -1, -1))


def _refine(points: VisitedPoints, starts: Sequence[int], steps: Sequence[float], *, by: str) -> None:
    """Move weight between pairs of teachers while that improves the best start, in ever smaller steps."""
    best = choose([(points, starts)], by=by)[1]
    for step in steps:
        centres = {best}
        while True:
            moved = points.visit(pair_moves(points.weights([best])[0], step))
            chosen = choose([(points, [best, *moved])], by=by)[1]
            if chosen in centres:  # equal within a tolerance to one left before
                break
            best = chosen
            centres.add(best)


def _optimise(points: VisitedPoints, rows: SearchRows, *, by: str) -> None:
    """From the minimum of the NLL, or a coarse point where one is better, by a direct search."""
    lowest = (lowest_logit_nll if points.space == "logit" else lowest_mixture_nll)(rows.teacher_logits, rows.labels)
    starts = [] if lowest is None else points.visit(lowest.unsqueeze(0))
    starts += points.visit(coarse_points(len(rows.teacher_logits)))
    if by == "nll" and points.space == "logit" and lowest is not None:
        return  # nothing is lower
    _refine(points, list(dict.fromkeys(starts)), _CONTINUOUS_STEPS, by=by)


def _pick_greedily(points: VisitedPoints, num_teachers: int, num_picks: int, *, by: str) -> None:
    """Add the teacher that helps most, or harms least, one at a time and with replacement."""
    counts = torch.zeros(num_teachers, dtype=torch.float64)
    for picks in range(1, num_picks + 1):
        candidates = counts + torch.eye(num_teachers, dtype=torch.float64)
        visited = points.visit(candidates / picks)
        counts = candidates[visited.index(choose([(points, visited)], by=by)[1])]


def visited_points(rows: SearchRows, space: str, options: SearchOptions) -> VisitedPoints:
    """Search one space; the best of the points is left to `choose`."""
    points, num_teachers = VisitedPoints(rows, space), len(rows.teacher_logits)
    if options.search == "grid":
        points.visit(simplex_grid(num_teachers, step=options.grid_step))
    elif options.search == "simplex":
        starts = points.visit(coarse_points(num_teachers))
        _refine(points, starts, tuple(_halving_steps(options.finest_step)), by=options.by)
    elif options.search == "optimise":
        _optimise(points, rows, by=options.by)
    else:
        _pick_greedily(points, num_teachers, options.greedy_steps, by=options.by)
    return points
