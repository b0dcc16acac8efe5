"""Which runs are one recipe under several seeds, and what tells recipes apart."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fer_lightning.runs.finished_run import FinishedRun

ABSENT = "absent"
"""Value of an option that a run of another version does not know."""
WIDEST_NAME = 36
"""Characters of a recipe's name on the console: lines then have about 150."""
_INIT = "stage.init_from"
_PHASES = "phases"
_TAUGHT_BY = "distillation.taught_by"
_FOLDERS_OF_RUNS = {"teachers", "students"}
_NOT_OF_THE_RECIPE = {"run.seed", "run.tag"}
_LAST = ("manifest", "train_rows")
"""What the rows tell beyond the options."""


def _recipe(run: FinishedRun) -> dict[str, str]:
    """Return everything that makes the recipe, as text: options, and the rows it was trained on."""
    options = {key: _text(value) for key, value in run.options.items() if key not in _NOT_OF_THE_RECIPE}
    options.setdefault(_PHASES, "1")
    if run.taught_by is not None:  # a student's teachers are told by digest: they may be moved
        options[_TAUGHT_BY] = run.taught_by[:8]
    rows = {
        "manifest": run.alignment.manifest_sha256[:8],
        "train_rows": run.alignment.row_set_fingerprints["train"][:8],
    }
    return options | rows


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _key(recipe: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={recipe[key]}" for key in sorted(recipe))


def _of_own_seed(run: FinishedRun, recipe: dict[str, str]) -> dict[str, str]:
    """Return the recipe with the run's own seed taken out of the run it started from: stages of one seed after another."""
    start = re.sub(rf"seed{run.seed}(?!\d)", "seed*", recipe[_INIT]) if _INIT in recipe else None
    return recipe if start is None else {**recipe, _INIT: start}


def group_recipes(runs: Sequence[FinishedRun]) -> list[tuple[dict[str, str], list[FinishedRun]]]:
    """Group runs that differ in their seed only.

    Runs of several seeds that start from one and the same run are a recipe, and so are runs that start each from the run
    of its own seed.

    Returns:
        Recipe (dotted key -> value) and its runs by seed, in the order in which recipes first occur.
    """
    recipes = [_recipe(run) for run in runs]
    seeds: dict[str, set[int]] = {}
    for run, recipe in zip(runs, recipes, strict=True):
        seeds.setdefault(_key(recipe), set()).add(run.seed)
    groups: dict[str, tuple[dict[str, str], list[FinishedRun]]] = {}
    for run, recipe in zip(runs, recipes, strict=True):
        common = recipe if len(seeds[_key(recipe)]) > 1 else _of_own_seed(run, recipe)
        groups.setdefault(_key(common), (common, []))[1].append(run)
    return [(recipe, sorted(members, key=lambda run: run.seed)) for recipe, members in groups.values()]


def telling_options(recipes: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the keys that tell recipes apart, without those that follow from the name of their own group of options.

    `loss.gamma` follows from `loss.name` where each name goes with one value; what is told of the rows comes last and
    only where nothing else tells two recipes apart.
    """
    keys = dict.fromkeys(key for recipe in recipes for key in recipe if key not in _LAST)
    differing = [key for key in keys if len({recipe.get(key) for recipe in recipes}) > 1]
    told: list[str] = []
    for key in sorted(differing, key=lambda key: not key.endswith(".name")):  # names first, else in recorded order
        name = f"{key.partition('.')[0]}.name"
        if name == key or name not in told or not _follows(recipes, key, [name]):
            told.append(key)
    for key in _LAST:
        if not _follows(recipes, key, told):
            told.append(key)
    return told


def _follows(recipes: Sequence[Mapping[str, str]], key: str, given: Sequence[str]) -> bool:
    """Whether the values of some keys leave one value of another."""
    values: dict[tuple[str | None, ...], str | None] = {}
    return all(values.setdefault(tuple(r.get(k) for k in given), r.get(key)) == r.get(key) for r in recipes)


def without_seed(run_name: str, seed: int) -> str:
    """Return the name of a run as its other seeds have it too."""
    return "_".join(part for part in run_name.split("_") if part != f"seed{seed}")


def _folder_names(runs: Sequence[FinishedRun]) -> list[str]:
    """Return the folder of each run without its seed; where folders repeat, with those above in front that differ."""
    ways = []
    for run in runs:
        *above, own = run.path.resolve().parts[1:]
        ways.append([*(part for part in above if part not in _FOLDERS_OF_RUNS), without_seed(own, run.seed)])
    return distinct_tails(ways, shortest=1)


def distinct_tails(ways: Sequence[Sequence[str]], *, shortest: int) -> list[str]:
    """Return the last parts of each way, as many as tell it from the others; equal ways stay equal, and whole.

    Args:
        ways: parts of paths.
        shortest: fewest parts.
    """
    names = []
    for way in ways:
        others = [other for other in ways if other is not way]
        shown = shortest
        while shown < len(way) and any(other[-shown:] == way[-shown:] for other in others):
            shown += 1
        names.append("/".join(way[-shown:]))
    return names


def recipe_names(recipes: Sequence[Mapping[str, str]], told: Sequence[str], firsts: Sequence[FinishedRun]) -> list[str]:
    """Return a short name for each recipe: the options that tell it apart, or the folder of its first run without the seed.

    Args:
        recipes: of one table.
        told: their telling options; where there are none, or too many to read, folders are taken, unless these are alike.
        firsts: each recipe's first run.
    """
    by_options = [
        ", ".join(f"{key.removesuffix('.name')}={recipe.get(key, ABSENT)}" for key in told) for recipe in recipes
    ]
    if told and max(map(len, by_options)) <= WIDEST_NAME:
        return by_options
    by_folder = _folder_names(firsts)
    return by_folder if not told or len({*by_folder}) == len(by_folder) else by_options
