"""What a student is taught from stored soft labels: fused logits or each teacher's own, on the scale that is asked for."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fer_lightning.errors import FerError
from fer_lightning.runs.ensemble_teachers import with_a_share
from fer_lightning.runs.softlabels import SoftLabels
from fer_lightning.training.distillation.config import TeacherCalibration
from fer_lightning.training.distillation.divisors import divisor_of_ensemble, divisors_of_teachers
from fer_lightning.training.fusion import Fusion, fused_logits

_WAY_OUT = "Fuse the teachers with calibration=temperature and export again"


@dataclass(frozen=True, eq=False)
class TaughtLogits:
    """Logits to follow, in the order of the soft labels' file."""

    logits: Tensor
    """(V, N, M, 7) float32: of the plain view first, then of the others; of M teachers, or 1 where they are fused."""
    ensemble_temperature: float
    """What the fused logits are still to be divided by; 1 unless the ensemble's calibration is asked for."""
    temperatures: tuple[float, ...]
    """Of each teacher that has a share: what its raw logits were divided by, before they were fused or given."""
    weights: tuple[float, ...]
    """(M,) shares of the teachers in `logits`, sum 1; (1,) where they are fused already."""
    space: str
    """`logit` or `prob`: where the teachers are averaged, or were."""


def _check_content(softlabels: SoftLabels, *, each_teacher: bool, views: bool, option: str) -> None:
    record = softlabels.record
    if each_teacher and softlabels.teacher_logits is None:
        raise FerError(
            f"{option}: distillation.teacher_weighting weighs several teachers row by row, and these soft labels are of one: "
            f"{with_a_share(record.teachers)[0].name}. Export those of an ensemble, or use teacher_weighting=ensemble"
        )
    if views and softlabels.view_logits is None:
        raise FerError(
            f"{option}: distillation.views=true shows pictures as the teachers saw them, and these soft labels have the plain view "
            "only. Export them with softlabels.crops=<number> or softlabels.flip=true, or use distillation.views=false"
        )


def _fused_views(softlabels: SoftLabels) -> list[Tensor]:
    """Return (N, 7) exported logits of each view."""
    return [softlabels.logits, *([] if softlabels.view_logits is None else softlabels.view_logits)]


def _raw_views(softlabels: SoftLabels) -> Iterator[Tensor]:
    """Yield (M, N, 7) float64 logits of each view, undivided; those of a single teacher up to a constant in a row."""
    if softlabels.teacher_logits is not None:
        yield from (view.double() for view in softlabels.teacher_logits)
    else:
        (alone,) = with_a_share(softlabels.record.teachers)
        yield from (view[None].double() * alone.calibration_temperature for view in _fused_views(softlabels))


def taught_logits(
    softlabels: SoftLabels, *, calibration: TeacherCalibration, each_teacher: bool, views: bool, option: str
) -> TaughtLogits:
    """Return the logits that a student follows.

    Args:
        softlabels: as `read_softlabels` returns them.
        calibration: `none` and `temperature` divide each teacher by what the ensemble does, usually 1; `temperature` also names
            the ensemble's own temperature, by which nothing is divided here; `per_teacher` divides each teacher by the
            temperature that was fitted for it.
        each_teacher: give the logits of every teacher that has a share, instead of fused ones.
        views: give all views, instead of the plain one.
        option: the option that named the soft labels, for messages.

    Raises:
        FerError: the soft labels hold no such temperature, teachers or views.
    """
    record = softlabels.record
    _check_content(softlabels, each_teacher=each_teacher, views=views, option=option)
    ensemble_temperature = divisor_of_ensemble(
        record.ensemble_temperature, calibration, ensemble=record.ensemble, option=option, way_out=_WAY_OUT
    )
    temperatures = divisors_of_teachers(
        record.teachers, record.teacher_temperatures, calibration, option=option, way_out=_WAY_OUT
    )
    shares = tuple(teacher.weight for teacher in with_a_share(record.teachers))
    if each_teacher:
        divisors = torch.tensor(temperatures, dtype=torch.float64).view(-1, 1, 1)
        tables = ((raw / divisors).float().transpose(0, 1) for raw in _raw_views(softlabels))
    elif calibration is TeacherCalibration.per_teacher:
        fusion = Fusion(record.space, shares, temperatures)
        tables = (fused_logits(raw, fusion).float()[:, None] for raw in _raw_views(softlabels))
    else:
        tables = (fused.float()[:, None] for fused in _fused_views(softlabels))
    wanted = range(len(record.views) if views else 1)
    return TaughtLogits(
        logits=torch.stack([table for _, table in zip(wanted, tables, strict=False)]),
        ensemble_temperature=ensemble_temperature,
        temperatures=temperatures,
        weights=shares if each_teacher else (1.0,),
        space=record.space,
    )
