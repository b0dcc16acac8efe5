"""The sweep against the functions of one ensemble at a time, also where temperatures and ties are hard."""

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  the name torch's own documentation uses
from torch import Tensor

from fer_lightning.functional import ensemble_sweep
from fer_lightning.functional.calibration import cross_fitted_log_probs, fit_temperature
from fer_lightning.functional.ensemble_sweep import FusionSweep, confusions, sweep_weights
from fer_lightning.functional.fusion import fuse_log_probs, fuse_logits
from fer_lightning.functional.reliability import (
    brier_score,
    classification_scores,
    expected_calibration_error,
    negative_log_likelihood,
)

SPACES = ("logit", "prob")
FUSE = {"logit": fuse_logits, "prob": fuse_log_probs}
SIMPLEX = torch.tensor(
    [[k / 5 for k in point] for point in itertools.product(range(6), repeat=3) if sum(point) == 5], dtype=torch.float64
)
SOME = SIMPLEX[::5]


def _teachers(num_rows: int = 600, num_teachers: int = 3, seed: int = 11) -> tuple[Tensor, Tensor]:
    """Float32 logits that are right in about two thirds of the rows, and skewed labels."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.tensor([0.12, 0.04, 0.08, 0.35, 0.13, 0.08, 0.20])
    labels = torch.multinomial(shares, num_rows, replacement=True, generator=generator)
    shared = torch.randn(num_rows, 7, generator=generator)
    own = torch.randn(num_teachers, num_rows, 7, generator=generator)
    scales = torch.tensor([1.3, 2.0, 1.0])[torch.arange(num_teachers) % 3]
    return (F.one_hot(labels, 7) * 2.2 + shared + own) * scales[:, None, None], labels


def _folds(num_rows: int, num_folds: int = 5) -> Tensor:
    return torch.arange(num_rows) * 7 % num_folds


def _expected(
    logits: Tensor, labels: Tensor, weights: Tensor, space: str, folds: Tensor | None, num_bins: int
) -> FusionSweep:
    """The same, one point and one function at a time."""
    rows: list[dict[str, Tensor]] = []
    for point in weights:
        fused = FUSE[space](logits.double(), point)
        fit = fit_temperature(fused, labels)
        scaled = fit.apply(fused) if folds is None else cross_fitted_log_probs(fused, labels, folds)
        raw = fused.log_softmax(dim=1)
        scores = classification_scores(fused.argmax(dim=1), labels)
        rows.append(
            {
                "weights": point,
                "confusion": scores.confusion,
                "accuracy": torch.tensor(scores.accuracy, dtype=torch.float64),
                "macro_f1": torch.tensor(scores.macro_f1, dtype=torch.float64),
                "minority_f1": torch.tensor(scores.minority_f1, dtype=torch.float64),
                "per_class_f1": scores.per_class_f1,
                "temperatures": torch.tensor(fit.temperature, dtype=torch.float64),
                "at_bound": torch.tensor(fit.at_bound),
            }
        )
        for suffix, log_probs in (("", raw), ("_scaled", scaled)):
            rows[-1][f"nll{suffix}"] = negative_log_likelihood(log_probs, labels)
            rows[-1][f"brier{suffix}"] = brier_score(log_probs.exp(), labels)
            rows[-1][f"ece{suffix}"] = expected_calibration_error(log_probs.exp(), labels, num_bins=num_bins)
    return FusionSweep(**{name: torch.stack([row[name] for row in rows]) for name in rows[0]})


def _assert_same(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor = SOME,
    *,
    space: str,
    folds: Tensor | None = None,
    num_bins: int = 15,
) -> FusionSweep:
    """Counts and bounds exactly, figures to 1e-9, temperatures to a relative 1e-8."""
    swept = sweep_weights(logits, labels, weights, space=space, folds=folds, num_bins=num_bins)
    expected = _expected(logits, labels, weights, space, folds, num_bins)
    for field in dataclasses.fields(FusionSweep):
        ours, theirs = getattr(swept, field.name), getattr(expected, field.name)
        if field.name in ("confusion", "at_bound"):
            assert torch.equal(ours, theirs), field.name
        else:
            tolerance = (1e-8, 0.0) if field.name == "temperatures" else (0.0, 1e-9)
            torch.testing.assert_close(ours, theirs, rtol=tolerance[0], atol=tolerance[1], msg=field.name)
    return swept


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("num_rows", [20, 600, 6000])
@pytest.mark.parametrize("crossed", [False, True])
def test_equals_one_point_at_a_time(space: str, num_rows: int, crossed: bool) -> None:
    logits, labels = _teachers(num_rows)
    folds = _folds(num_rows) if crossed else None
    swept = _assert_same(logits, labels, space=space, folds=folds)
    assert swept.weights.dtype == swept.nll.dtype == torch.float64
    assert swept.confusion.dtype == torch.int64


def test_most_points_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("fell back")

    monkeypatch.setattr(ensemble_sweep, "fit_temperature", refuse)
    logits, labels = _teachers(6000)
    for space in SPACES:
        for folds in (None, _folds(6000)):
            assert len(sweep_weights(logits, labels, SIMPLEX, space=space, folds=folds).nll) == len(SIMPLEX)
    wide = logits * torch.tensor([30.0, 1.0, 1.0])[:, None, None]
    for space in SPACES:
        assert bool(sweep_weights(wide, labels, SOME, space=space).nll_scaled.isfinite().all())


@pytest.mark.parametrize("space", SPACES)
def test_number_of_teachers_and_points(space: str) -> None:
    logits, labels = _teachers(300, num_teachers=10)
    _assert_same(logits[:1], labels, torch.ones(1, 1, dtype=torch.float64), space=space)
    _assert_same(logits, labels, torch.full((1, 10), 0.1, dtype=torch.float64), space=space)
    drawn = torch.rand(1100, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn /= drawn.sum(dim=1, keepdim=True)
    swept = sweep_weights(logits, labels, drawn, space=space)
    for point in (0, 511, 512, 1099):
        alone = sweep_weights(logits, labels, drawn[point : point + 1], space=space)
        for field in dataclasses.fields(FusionSweep):
            assert torch.equal(getattr(swept, field.name)[point], getattr(alone, field.name)[0]), field.name


@pytest.mark.parametrize("space", SPACES)
def test_folds_of_one_class_and_of_any_name(space: str) -> None:
    logits, labels = _teachers()
    _assert_same(logits, labels, space=space, folds=labels)
    _assert_same(logits, labels, space=space, folds=torch.where(_folds(600) > 2, -5, 10**9))
    lopsided = torch.zeros(600, dtype=torch.int64)
    lopsided[0] = 1
    _assert_same(logits, labels, space=space, folds=lopsided)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("crossed", [False, True])
def test_hard_temperatures(space: str, crossed: bool) -> None:
    logits, labels = _teachers()
    folds = _folds(600) if crossed else None
    separable = F.one_hot(labels, 7).float().expand(3, -1, -1) * 200
    nearly = labels.clone()
    nearly[5] = (nearly[5] + 1) % 7
    cases = {
        "separable": (separable, labels, 1e-2),
        "one wrong, 200 apart": (separable, nearly, None),
        "backward": (-logits, labels, 1e3),
        "constant": (torch.full_like(logits, 3.0), labels, 1.0),
        "unequal scales": (logits * torch.tensor([30.0, 1.0, 1.0])[:, None, None], labels, None),
        "far apart": (logits * 1000, labels, None),
        "close": (logits * 1e-4, labels, 1e-2),
        "half": (logits.half(), labels, None),
    }
    for name, (given, truth, temperature) in cases.items():
        swept = _assert_same(given, truth, space=space, folds=folds)
        if temperature is not None:
            assert set(swept.temperatures.tolist()) == {temperature}, name
            assert swept.at_bound.all() == (temperature != 1.0), name


@pytest.mark.parametrize("space", SPACES)
def test_ties_go_to_the_first_class_of_the_fused_scores(space: str) -> None:
    logits, labels = _teachers()
    rounded = logits.round()
    swept = sweep_weights(rounded, labels, SIMPLEX, space=space)
    predictions = [FUSE[space](rounded.double(), point).argmax(dim=1) for point in SIMPLEX]
    counts = torch.stack([classification_scores(of, labels).confusion for of in predictions])
    assert torch.equal(swept.confusion, counts)
    assert torch.equal(confusions(rounded, labels, SIMPLEX, space=space), counts)
    equal = torch.zeros(3, 600, 7)
    assert sweep_weights(equal, labels, SOME, space=space).confusion[:, :, 0].sum() == 600 * len(SOME)


def test_confidences_at_the_edge_of_a_bin() -> None:
    labels = torch.arange(21) % 7
    for num_bins in (1, 2, 7, 14):
        for space in SPACES:
            _assert_same(torch.zeros(3, 21, 7), labels, space=space, num_bins=num_bins)
    halves = torch.full((3, 8, 7), -100.0, dtype=torch.float64)
    halves[:, :, :2] = 0.0
    raw = sweep_weights(halves, torch.arange(8) % 2, SOME, space="logit", num_bins=10)
    expected = _expected(halves, torch.arange(8) % 2, SOME, "logit", None, 10)
    torch.testing.assert_close(raw.ece, expected.ece, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("space", SPACES)
def test_confusions_by_fold_add_up(space: str) -> None:
    logits, labels = _teachers()
    folds = _folds(600, 4) * 10 - 3
    together = confusions(logits, labels, SIMPLEX, space=space)
    by_fold = confusions(logits, labels, SIMPLEX, space=space, folds=folds)
    assert by_fold.shape == (4, len(SIMPLEX), 7, 7)
    assert torch.equal(by_fold.sum(dim=0), together)
    inside = folds == 7
    assert torch.equal(by_fold[1], confusions(logits[:, inside], labels[inside], SIMPLEX, space=space))


@pytest.mark.parametrize("space", SPACES)
def test_repeats_bit_for_bit_on_any_number_of_threads(space: str) -> None:
    logits, labels = _teachers(9000)
    threads = torch.get_num_threads()
    swept = []
    try:
        for number in (1, 2, 2):
            torch.set_num_threads(number)
            swept.append(sweep_weights(logits, labels, SOME, space=space, folds=_folds(9000)))
    finally:
        torch.set_num_threads(threads)
    for field in dataclasses.fields(FusionSweep):
        assert all(torch.equal(getattr(swept[0], field.name), getattr(other, field.name)) for other in swept[1:])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights": [[0.5, 0.4, 0.2]]}, "sum to 1"),
        ({"weights": [[1.2, -0.2, 0.0]]}, "non-negative"),
        ({"weights": [[float("nan"), 0.5, 0.5]]}, "finite"),
        ({"weights": [[0.5, 0.5]]}, r"\(P, 3\)"),
        ({"weights": torch.zeros(0, 3)}, "P >= 1"),
        ({"teacher_logits": torch.zeros(600, 7)}, r"\(M, N, 7\)"),
        ({"teacher_logits": torch.zeros(3, 600, 8)}, r"\(M, N, 7\)"),
        ({"teacher_logits": torch.zeros(3, 600, 7, dtype=torch.int64)}, "floating"),
        ({"teacher_logits": torch.full((3, 600, 7), float("inf"))}, "first row 0 of teacher 0"),
        ({"labels": torch.full((600,), 7)}, "0..6"),
        ({"labels": torch.zeros(599, dtype=torch.int64)}, "shape"),
        ({"space": "cosine"}, "logit, prob"),
        ({"folds": torch.zeros(600, dtype=torch.int64)}, "at least two folds"),
        ({"folds": torch.zeros(600)}, "folds must be integers"),
        ({"folds": torch.zeros(5, dtype=torch.int64)}, "folds must be integers"),
        ({"num_bins": 0}, "num_bins"),
    ],
)
def test_broken_inputs_are_refused(changed: dict[str, object], message: str) -> None:
    logits, labels = _teachers()
    given = {"teacher_logits": logits, "labels": labels, "weights": SOME, "space": "logit", **changed}
    with pytest.raises(ValueError, match=message):
        sweep_weights(**given)  # type: ignore[arg-type]
