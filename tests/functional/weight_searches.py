"""Every search of weights, as keyword arguments, small enough for a few hundred rows."""

from typing import Any

SEARCHES: tuple[dict[str, Any], ...] = (
    {"search": "grid"},
    {"search": "simplex"},
    {"search": "optimise", "aim": "macro_f1"},
    {"search": "optimise", "aim": "nll"},
    {"search": "greedy", "aim": "macro_f1", "greedy_steps": 8},
    {"search": "greedy", "aim": "nll", "greedy_steps": 8},
)


def name_of(options: dict[str, Any]) -> str:
    """Name of a search in the names of tests."""
    return "-".join(map(str, options.values()))
