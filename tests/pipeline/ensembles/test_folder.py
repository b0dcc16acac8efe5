"""Names of ensembles: every choice that changes results is in them, and no two configurations share one."""

from typing import Any

import pytest

from fer_lightning.pipeline.ensembles.config import (
    EnsembleConfig,
    FuseEnsembleRun,
    FusionSpace,
    SearchAim,
    TeacherScaling,
    WeightSearch,
)
from fer_lightning.pipeline.ensembles.folder import ensemble_name
from fer_lightning.pipeline.evaluation.config import EvaluationCalibration, EvaluationTarget, View
from fer_lightning.runs.config import RunConfig
from fer_lightning.training.config import CalibrationMethod

NAMES = ("RN18", "B3", "CNXT")


def name(names: tuple[str, ...] = NAMES, *, rows: str = "ab" * 32, **groups: Any) -> str:
    ensemble = EnsembleConfig(teachers=[f"t/{one}" for one in names], **groups.pop("ensemble", {}))
    return ensemble_name(FuseEnsembleRun(ensemble=ensemble, **groups), names, rows)


@pytest.mark.parametrize(
    ("ensemble", "expected"),
    [
        ({"weights": [0.4, 0.4, 0.2]}, "RN18+B3+CNXT_logit_0.4-0.4-0.2_val-abababab"),
        ({}, "RN18+B3+CNXT_logit_equal_val-abababab"),
        ({"space": FusionSpace.prob, "weights": [1, 0, 0]}, "RN18+B3+CNXT_prob_1-0-0_val-abababab"),
        ({"search": WeightSearch.grid, "aim": SearchAim.nll}, "RN18+B3+CNXT_logit_grid_val-abababab"),
        (
            {"search": WeightSearch.greedy, "spaces": list(FusionSpace)},
            "RN18+B3+CNXT_logit+prob_greedy-macro_f1_val-abababab",
        ),
        ({"teacher_scaling": TeacherScaling.temperature}, "RN18+B3+CNXT_logit_equal_scaled_val-abababab"),
        ({"grid_step": 0.5}, "RN18+B3+CNXT_logit_equal_val-abababab"),
    ],
)
def test_a_name_says_what_is_fused_how(ensemble: dict[str, Any], expected: str) -> None:
    assert name(ensemble=ensemble) == expected


def test_view_calibration_and_tag_are_told() -> None:
    given = name(
        run=RunConfig(tag="try"),
        calibration=EvaluationCalibration(method=CalibrationMethod.vector),
        evaluate=EvaluationTarget(view=View.flip),
    )
    assert given == "RN18+B3+CNXT_logit_equal_vector_flip_val-abababab_try"


def test_no_two_configurations_share_a_name() -> None:
    grid = {"search": WeightSearch.grid}
    names = [
        name(),
        name(rows="cd" * 32),
        name(ensemble=grid),
        name(ensemble=grid | {"grid_step": 0.5}),
        name(ensemble=grid | {"grid_step": 0.25}),
        name(ensemble=grid | {"subsets": False}),
        name(ensemble={"judge_test": False}),
        name(ensemble={"weights": [1 / 3, 1 / 3, 1 / 3]}),
        name(ensemble={"weights": [0.3333333, 0.3333333, 0.3333334]}),
        name(calibration=EvaluationCalibration(num_folds=3)),
        name(calibration=EvaluationCalibration(num_bins=10)),
        name(calibration=EvaluationCalibration(method=CalibrationMethod.none)),
        name(evaluate=EvaluationTarget(num_resamples=500)),
        name(evaluate=EvaluationTarget(confidence=0.9)),
        name(("B3", "RN18", "CNXT")),
    ]
    assert len(set(names)) == len(names)


def test_many_teachers_have_a_short_name_of_their_own() -> None:
    many = tuple(f"TEACHER{number}" for number in range(12))
    equal = name(many)
    assert equal.startswith("TEACHER0+TEACHER1+10more_logit_equal-")
    given = [
        name(many, ensemble={"weights": [0.5, 0.5, *[0] * 10]}),
        name(many, ensemble={"weights": [0.5, *[0] * 10, 0.5]}),
    ]
    assert all(one.startswith("TEACHER0+TEACHER1+10more_logit_given-") for one in given)
    assert len({equal, *given, name((*many[:-1], "OTHER"))}) == 4
    assert max(map(len, (*given, name(("x" * 90, "y" * 90))))) < 120
