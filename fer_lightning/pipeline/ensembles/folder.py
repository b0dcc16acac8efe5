"""The folder of an ensemble: a name that carries every choice, and the refusal of one that holds another ensemble."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from fer_lightning.errors import FerError, FinishedRunError
from fer_lightning.pipeline.ensembles.config import EnsembleConfig, FuseEnsembleRun, TeacherScaling, WeightSearch
from fer_lightning.pipeline.evaluation.config import EvaluationCalibration, EvaluationTarget
from fer_lightning.runs.ensemble import ENSEMBLE_FILE
from fer_lightning.runs.finished_ensemble import FinishedEnsemble, read_finished_ensemble
from fer_lightning.runs.run_dir import PLACE_OPTIONS, flat_values, read_config

_MOST_NAMED = 4
_LONGEST_HEAD = 120
_SAME_NLL = 1e-5  # batches of another size move it by 1e-7, one changed picture among thousands by 1e-4
_AIMED = (WeightSearch.optimise, WeightSearch.greedy)
_OF_A_SEARCH = ("grid_step", "finest_step", "greedy_steps", "subsets", "num_weight_resamples")
_RARE = (
    (EnsembleConfig, "ensemble", (*_OF_A_SEARCH, "judge_test")),
    (EvaluationCalibration, "calibration", ("num_folds", "num_bins", "conformal_alpha")),
    (EvaluationTarget, "evaluate", ("num_resamples", "confidence")),
)
"""Options that change figures and are seldom set: what differs from the defaults gets into the name as a digest."""
# What names places and machines, what `ensemble.json` records better (teachers by digest), and what happens in this folder.
_FREE_OPTIONS = {
    *PLACE_OPTIONS,
    "ensemble.teachers",
    "ensemble.names",
    "evaluate.output_dir",
    "evaluate.batch_size",
    "evaluate.accelerator",
    "evaluate.reuse_logits",
}


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _weights(run: FuseEnsembleRun) -> str:
    options = run.ensemble
    if options.search in _AIMED:
        return f"{options.search.value}-{options.aim.value}"
    if options.search is not WeightSearch.none:
        return str(options.search.value)
    return "-".join(f"{weight:.9g}" for weight in options.weights) or "equal"


def _head(run: FuseEnsembleRun, names: Sequence[str]) -> str:
    """Return teachers, spaces and weights; of many teachers the first two, and a digest of all of it."""
    spaces = "+".join(space.value for space in run.ensemble.spaces or [run.ensemble.space])
    whole = f"{'+'.join(names)}_{spaces}_{_weights(run)}"
    if len(names) <= _MOST_NAMED and len(whole) <= _LONGEST_HEAD:
        return whole
    how = "given" if run.ensemble.weights else _weights(run)
    first = "+".join(name[:20] for name in names[:2])
    return f"{first}+{len(names) - 2}more_{spaces}_{how}-{_digest(whole, 8)}"


def _rare_choices(run: FuseEnsembleRun) -> str | None:
    changed = []
    for kind, group, options in _RARE:
        given, default = getattr(run, group), kind()
        changed += [
            f"{group}.{name}={getattr(given, name)}"
            for name in options
            if getattr(given, name) != getattr(default, name) and f"{group}.{name}" not in _without_effect(run)
        ]
    return f"opt-{_digest(' '.join(changed), 6)}" if changed else None


def _without_effect(run: FuseEnsembleRun) -> set[str]:
    """Return options that this run does not look at."""
    searching = run.ensemble.search is not WeightSearch.none
    return set() if searching else {f"ensemble.{name}" for name in (*_OF_A_SEARCH, "aim")}


def ensemble_name(run: FuseEnsembleRun, names: Sequence[str], val_fingerprint: str) -> str:
    """Return the name of an ensemble's folder, e.g. `RN18+B3_logit_0.7-0.3_val-1a2b3c4d`.

    Args:
        run: the typed run.
        names: short ones of its teachers.
        val_fingerprint: of the rows that it is calibrated on.
    """
    method, view = run.calibration.settled(None).method.value, run.evaluate.view.value
    parts = [
        _head(run, names),
        "scaled" if run.ensemble.teacher_scaling is TeacherScaling.temperature else None,
        None if method == "temperature" else method,
        None if view == "single" else view,
        _rare_choices(run),
        f"val-{val_fingerprint[:8]}",
        run.run.tag,
    ]
    return "_".join(part for part in parts if part)


def _differences(recorded: Mapping[str, Any], now: Mapping[str, Any], free: Set[str] = frozenset()) -> list[str]:
    keys = [key for key in sorted({*recorded, *now}) if key not in free]
    return [
        f"{key}: recorded {recorded.get(key, '(absent)')!r}, now {now.get(key, '(absent)')!r}"
        for key in keys
        if recorded.get(key) != now.get(key)
    ]


def _other_logits(finished: FinishedEnsemble, nlls: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the teachers whose NLL is not the recorded one: pictures have changed, or were inferred on another device."""
    return [
        f"NLL of {name} on {judged.split}: recorded {judged.raw.nll:.9g}, now {now:.9g}"
        for name, results in finished.metrics.teachers.items()
        for judged, now in zip(results, nlls[name], strict=True)
        if not math.isclose(judged.raw.nll, now, rel_tol=_SAME_NLL, abs_tol=_SAME_NLL)
    ]


def check_free(
    folder: Path,
    run: FuseEnsembleRun,
    teachers: Mapping[str, str],
    fingerprints: Sequence[str],
    nlls: Callable[[], Mapping[str, Sequence[float]]],
) -> None:
    """Refuse a folder that holds this ensemble already, or another one.

    What an interrupted command has left there is no obstacle: `ensemble.json` is written last.

    Args:
        folder: of the ensemble; it may be absent.
        run: the typed run.
        teachers: name -> digest of its file.
        fingerprints: of the rows to be judged, val first.
        nlls: returns name -> NLL of its logits as they are now, on the rows to be judged.

    Raises:
        FinishedRunError: it holds this very ensemble.
        FerError: it holds another one, this one of other logits, a damaged one, or files that are none.
    """
    if not (folder / ENSEMBLE_FILE).exists():
        items = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
        others = [name for name in items if not name.startswith(".")]
        if others and "config.yaml" not in others:
            raise FerError(
                f"{folder} holds files but no ensemble ({', '.join(others[:5])}); choose another run.tag or run.root"
            )
        return
    try:
        finished = read_finished_ensemble(folder)
    except FerError as error:
        raise FerError(f"{error}. Remove {folder} to fuse it again, or keep it and set run.tag=<name>") from error
    differing = _differences(
        flat_values(read_config(folder)), flat_values(run), free=_FREE_OPTIONS | _without_effect(run)
    )
    recorded = {teacher.name: teacher.checkpoint_sha256 for teacher in finished.record.teachers}
    differing += _differences(
        {f"bytes of {name}": sha256[:12] for name, sha256 in recorded.items()},
        {f"bytes of {name}": sha256[:12] for name, sha256 in teachers.items()},
    )
    judged = [result.row_set_fingerprint[:12] for result in finished.metrics.evaluated]
    if judged != [fingerprint[:12] for fingerprint in fingerprints]:
        differing.append(f"row sets: recorded {judged}, now {[fingerprint[:12] for fingerprint in fingerprints]}")
    if differing:
        listed = "\n  ".join(differing)
        raise FerError(f"{folder} holds another ensemble:\n  {listed}\nKeep both with run.tag=<name>.")
    changed = _other_logits(finished, nlls())
    if changed:
        listed = "\n  ".join(changed)
        raise FerError(
            f"{folder} holds this ensemble, judged on other logits than those there are now: pictures have changed since, or were seen "
            f"by another device:\n  {listed}\nKeep both with run.tag=<name>, or remove the folder to fuse it again."
        )
    raise FinishedRunError(
        f"{folder} holds this very ensemble already; nothing is left to do. Another one beside it: run.tag=<name>"
    )
