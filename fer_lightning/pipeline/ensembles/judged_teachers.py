"""Teachers on the rows of an ensemble, judged alone: what every job of a sweep over weights has in common."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from torch import Tensor

from fer_lightning.runs.document_order import place_of
from fer_lightning.runs.stored_logits import StoredLogits
from fer_lightning.training.config import CalibrationConfig
from fer_lightning.training.ensemble_judging import JudgedModel, judge_on_splits
from fer_lightning.training.fusion import ScaledTeachers, scaled_teachers


@dataclass(frozen=True, eq=False)
class JudgedTeachers:
    """Teachers on val, and on test where there is one."""

    names: tuple[str, ...]
    stored: tuple[tuple[StoredLogits, ...], ...]
    """Split by split, val first: of each teacher."""
    scaled: ScaledTeachers
    """On val."""
    folds: Tensor
    """(N,) cross-fit folds of the val rows."""
    judged: dict[str, list[JudgedModel]]
    """Each teacher alone, split by split."""

    @property
    def best(self) -> str:
        """The best single teacher on val: by macro-F1, minority-F1, ECE, accuracy."""
        return min(self.names, key=lambda name: place_of(self.judged[name][0].result))


@dataclass(frozen=True)
class _Same:
    """Logits by identity, which is all that tells them from those of an earlier job at no cost."""

    ids: tuple[int, ...]
    stored: tuple[tuple[StoredLogits, ...], ...] = field(compare=False)


@lru_cache(maxsize=1)
def _judged(
    same: _Same, names: tuple[str, ...], options: tuple[tuple[str, object], ...], *, scale: bool
) -> JudgedTeachers:
    config = CalibrationConfig(**dict(options))  # type: ignore[arg-type]
    scaled = scaled_teachers(same.stored[0], scale=scale, num_folds=config.num_folds)
    folds = same.stored[0][0].folds(config.num_folds)
    judged = {
        name: judge_on_splits([split[number] for split in same.stored], config, folds=folds)
        for number, name in enumerate(names)
    }
    return JudgedTeachers(names, same.stored, scaled, folds, judged)


def judged_teachers(
    names: Sequence[str], stored: Sequence[Sequence[StoredLogits]], config: CalibrationConfig, *, scale: bool
) -> JudgedTeachers:
    """Judge each teacher alone; the last answer is remembered for the next job of a sweep.

    Args:
        names: of the teachers.
        stored: split by split, val first: logits of each teacher, on the same rows in the same order.
        config: calibration method, folds and bins, the same for each teacher and the ensemble.
        scale: divide each teacher's logits by a temperature of its own before they are averaged.
    """
    kept = tuple(tuple(split) for split in stored)
    same = _Same(tuple(id(one) for split in kept for one in split), kept)
    return _judged(same, tuple(names), tuple(sorted(vars(config).items())), scale=scale)
