"""What stored soft labels teach: the scale that was asked for by plain arithmetic, and a refusal where it is not known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from numpy.typing import NDArray

from fer_lightning.errors import FerError
from fer_lightning.runs.ensemble import EnsembleTeacher
from fer_lightning.runs.softlabels import SoftLabels
from fer_lightning.training.distillation.config import TeacherCalibration
from fer_lightning.training.distillation.stored_teachers import TaughtLogits, taught_logits
from tests.runs.softlabel_examples import CROP, FLIP, make_softlabels, teacher, write_manifest

WEIGHTS, RECORDED, FITTED = (0.6, 0.1, 0.3), (1.0, 2.0, 0.5), (1.6, 3.5, 0.8)
SPACES = pytest.mark.parametrize("space", ["logit", "prob"])
ROUNDING = {"float16": 2e-2, "float32": 1e-5}
"""Of logits up to 120 divided by .5."""


def three_teachers(weights: Sequence[float] = WEIGHTS, recorded: Sequence[float] = RECORDED) -> list[EnsembleTeacher]:
    return [
        teacher(name=name, weight=weight, calibration_temperature=temperature)
        for name, weight, temperature in zip(("RN18", "B3", "CNXT"), weights, recorded, strict=True)
    ]


def soft(folder: Path, **options: Any) -> SoftLabels:
    """Return soft labels of three teachers in three views; some options are of their record."""
    given: dict[str, Any] = {
        "dtype": "float32",
        "views": (FLIP, CROP),
        "teachers": three_teachers(),
        "teacher_temperatures": list(FITTED),
        "ensemble_temperature": 1.7,
    }
    return make_softlabels(write_manifest(folder / "m.csv"), **given | options)


def taught(
    softlabels: SoftLabels, calibration: str = "none", *, each_teacher: bool = False, views: bool = False
) -> TaughtLogits:
    return taught_logits(
        softlabels,
        calibration=TeacherCalibration(calibration),
        each_teacher=each_teacher,
        views=views,
        option="distillation.softlabels",
    )


def raw(softlabels: SoftLabels) -> NDArray[np.float64]:
    """Return (V, M, N, 7) logits of the teachers as they are kept."""
    assert softlabels.teacher_logits is not None
    return softlabels.teacher_logits.double().numpy()


def fuse(
    logits: NDArray[np.float64], weights: Sequence[float], temperatures: Sequence[float], space: str
) -> NDArray[np.float64]:
    """Average (V, M, N, 7) teachers one after the other."""
    total = np.zeros(logits[:, 0].shape)
    for own, weight, temperature in zip(logits.swapaxes(0, 1), weights, temperatures, strict=True):
        scaled = own / temperature
        total += weight * (scaled if space == "logit" else scipy.special.softmax(scaled, axis=-1))
    return total if space == "logit" else np.log(total)


def near(found: torch.Tensor, expected: NDArray[np.float64], atol: float = 1e-5) -> None:
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=1e-5, atol=atol)


@SPACES
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("calibration", ["none", "temperature"])
def test_fused_logits_as_they_were_exported(tmp_path: Path, space: str, dtype: str, calibration: str) -> None:
    softlabels = soft(tmp_path, space=space, dtype=dtype)
    found = taught(softlabels, calibration)
    assert found.logits.shape == (1, 28, 1, 7)
    assert found.logits.dtype == torch.float32
    assert torch.equal(found.logits[0, :, 0], softlabels.logits.float())
    near(found.logits[:, :, 0], fuse(raw(softlabels)[:1], WEIGHTS, RECORDED, space), ROUNDING[dtype] * 5)
    assert found.ensemble_temperature == (1.7 if calibration == "temperature" else 1.0)
    assert (found.temperatures, found.weights, found.space) == (RECORDED, (1.0,), space)


@SPACES
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_each_teacher_divided_by_its_fitted_temperature_before_fusion(tmp_path: Path, space: str, dtype: str) -> None:
    softlabels = soft(tmp_path, space=space, dtype=dtype)
    found = taught(softlabels, "per_teacher")
    assert found.logits.shape == (1, 28, 1, 7)
    near(found.logits[:, :, 0], fuse(raw(softlabels)[:1], WEIGHTS, FITTED, space))
    assert not torch.allclose(found.logits[0, :, 0], softlabels.logits.float(), atol=0.1)
    assert (found.ensemble_temperature, found.temperatures, found.weights) == (1.0, FITTED, (1.0,))


@SPACES
def test_temperatures_that_the_ensemble_has_already_give_what_was_exported(tmp_path: Path, space: str) -> None:
    softlabels = soft(tmp_path, space=space, teacher_temperatures=list(RECORDED))
    exported, again = taught(softlabels).logits, taught(softlabels, "per_teacher").logits
    torch.testing.assert_close(again, exported, rtol=1e-5, atol=1e-4)


@SPACES
@pytest.mark.parametrize(
    ("calibration", "temperatures"), [("none", RECORDED), ("temperature", RECORDED), ("per_teacher", FITTED)]
)
@pytest.mark.parametrize("views", [False, True])
def test_every_teacher_by_itself(
    tmp_path: Path, space: str, calibration: str, temperatures: tuple[float, ...], views: bool
) -> None:
    softlabels = soft(tmp_path, space=space)
    found = taught(softlabels, calibration, each_teacher=True, views=views)
    expected = np.stack([raw(softlabels)[:, m] / temperature for m, temperature in enumerate(temperatures)], axis=2)
    assert found.logits.shape == (3 if views else 1, 28, 3, 7)
    near(found.logits, expected if views else expected[:1])
    assert (found.temperatures, found.weights, found.space) == (temperatures, WEIGHTS, space)
    assert found.ensemble_temperature == (1.7 if calibration == "temperature" else 1.0)
    by_hand = fuse(found.logits.double().numpy().swapaxes(1, 2), found.weights, (1.0,) * 3, space)
    fused = taught(softlabels, calibration, views=views)
    near(fused.logits[:, :, 0], by_hand, 1e-4)
    assert fused.ensemble_temperature == found.ensemble_temperature


@SPACES
@pytest.mark.parametrize("calibration", ["none", "per_teacher"])
def test_all_views_in_their_order(tmp_path: Path, space: str, calibration: str) -> None:
    softlabels = soft(tmp_path, space=space)
    found = taught(softlabels, calibration, views=True)
    temperatures = RECORDED if calibration == "none" else FITTED
    near(found.logits[:, :, 0], fuse(raw(softlabels), WEIGHTS, temperatures, space), 1e-4)
    assert torch.equal(found.logits[0], taught(softlabels, calibration).logits[0])
    assert softlabels.view_logits is not None
    if calibration == "none":
        assert torch.equal(found.logits[1:, :, 0], softlabels.view_logits)


@SPACES
def test_a_teacher_without_a_share_does_not_count(tmp_path: Path, space: str) -> None:
    teachers = three_teachers(weights=(0.75, 0.0, 0.25))
    softlabels = soft(tmp_path, space=space, teachers=teachers, teacher_temperatures=[1.6, None, 0.8])
    found = taught(softlabels, "per_teacher", each_teacher=True)
    assert (found.temperatures, found.weights) == ((1.6, 0.8), (0.75, 0.25))
    near(found.logits[0], np.stack([raw(softlabels)[0, 0] / 1.6, raw(softlabels)[0, 1] / 0.8], axis=1))
    fused = taught(softlabels, "per_teacher")
    near(fused.logits[:, :, 0], fuse(raw(softlabels)[:1], (0.75, 0.25), (1.6, 0.8), space))


@SPACES
@pytest.mark.parametrize("recorded", [1.0, 2.5])
def test_a_single_teacher(tmp_path: Path, space: str, recorded: float) -> None:
    """Its raw logits are known up to a constant in a row, which no softmax sees."""
    alone = [teacher(calibration_temperature=recorded)]
    softlabels = soft(tmp_path, space=space, teachers=alone, teacher_temperatures=[1.6])
    found = taught(softlabels, "per_teacher", views=True)
    assert softlabels.view_logits is not None
    exported = torch.cat([softlabels.logits[None], softlabels.view_logits]).double().numpy()
    expected = scipy.special.softmax(exported * recorded / 1.6, axis=-1)
    np.testing.assert_allclose(found.logits[:, :, 0].double().softmax(-1).numpy(), expected, rtol=1e-4, atol=1e-9)
    assert (found.temperatures, found.weights) == ((1.6,), (1.0,))
    assert torch.equal(taught(softlabels).logits[0, :, 0], softlabels.logits)


def test_soft_labels_themselves_stay_as_they_are(tmp_path: Path) -> None:
    softlabels, again = soft(tmp_path), soft(tmp_path)
    for calibration in ("none", "temperature", "per_teacher"):
        for each_teacher in (False, True):
            taught(softlabels, calibration, each_teacher=each_teacher, views=True).logits.fill_(torch.nan)
    for name in ("logits", "view_logits", "teacher_logits"):
        assert torch.equal(getattr(softlabels, name), getattr(again, name))


@pytest.mark.parametrize(
    ("changes", "asked", "messages"),
    [
        (
            {"ensemble_temperature": None},
            {"calibration": "temperature"},
            (
                "teacher_calibration=temperature",
                "experiments/teachers/RN18, which has none",
                "calibration=temperature and",
            ),
        ),
        (
            {"teacher_temperatures": [1.6, None, None]},
            {"calibration": "per_teacher"},
            ("teacher_calibration=per_teacher", "not known of B3, CNXT. Fuse"),
        ),
        (
            {"teachers": [teacher()], "teacher_temperatures": [None]},
            {"calibration": "per_teacher"},
            ("not known of RN18",),
        ),
        (
            {"teachers": [teacher()], "teacher_temperatures": [1.6]},
            {"each_teacher": True},
            ("distillation.teacher_weighting", "of one: RN18", "teacher_weighting=ensemble"),
        ),
        (
            {"teachers": three_teachers(weights=(0.0, 1.0, 0.0))},
            {"each_teacher": True},
            ("of one: B3",),
        ),
        ({"views": ()}, {"views": True}, ("distillation.views=true", "plain view only", "softlabels.crops=")),
    ],
)
def test_what_soft_labels_do_not_hold_is_refused(
    tmp_path: Path, changes: dict[str, Any], asked: dict[str, Any], messages: tuple[str, ...]
) -> None:
    with pytest.raises(FerError) as refusal:
        taught(soft(tmp_path, **changes), **asked)
    for message in ("distillation.softlabels: ", *messages):
        assert message in str(refusal.value)


def test_nothing_is_refused_that_is_not_asked_for(tmp_path: Path) -> None:
    softlabels = soft(tmp_path, views=(), ensemble_temperature=None, teacher_temperatures=[None] * 3)
    assert taught(softlabels).logits.shape == (1, 28, 1, 7)
    assert taught(softlabels, each_teacher=True).temperatures == RECORDED
