"""The matrix on scores made for the test: who calibrates which rows, absent classes, linked rows."""

import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor

from fer_lightning.functional.calibration import fit_temperature
from fer_lightning.runs.source_matrix import ALL_SOURCES, SourceCell, SourceCost
from fer_lightning.training.config import CalibrationConfig, CalibrationMethod
from fer_lightning.training.source_matrix import MatrixOptions, honest_log_probs, judge_cells, source_cost
from tests.training.judged_rows import stored
from tests.training.stored import recorded

N = 280
SOURCES = tuple("ferplus" if number % 2 else "rafdb_basic" for number in range(N))
OF_RAFDB = torch.tensor([source == "rafdb_basic" for source in SOURCES])


def options(method: CalibrationMethod = CalibrationMethod.temperature, folds: Tensor | None = None) -> MatrixOptions:
    return MatrixOptions(
        calibration=CalibrationConfig(method=method, num_folds=4),
        folds=torch.arange(N) // 2 % 4 if folds is None else folds,
        num_resamples=100,
        confidence=0.95,
    )


@pytest.fixture
def labels() -> Tensor:
    """No Surprise and no Neutral in rafdb_basic."""
    labels = torch.arange(N) // 2 % 7
    return torch.where(OF_RAFDB & (labels > 4), 0, labels)


@pytest.fixture
def logits(labels: Tensor) -> Tensor:
    noise = torch.randn(N, 7, generator=torch.Generator().manual_seed(8))
    return 3 * (noise + 1.5 * torch.nn.functional.one_hot(labels, 7))


def test_only_rows_never_seen_take_the_recorded_calibrator(logits: Tensor, labels: Tensor) -> None:
    rows = stored(logits, labels, sources=SOURCES, calibration=recorded(5.0))
    found = honest_log_probs(rows, "rafdb_basic", options())
    scores = rows.logits.double()
    torch.testing.assert_close(found[OF_RAFDB], (scores[OF_RAFDB] / 5).log_softmax(1))
    seen, folds = ~OF_RAFDB, options().folds
    for fold in range(4):
        inside, outside = seen & (folds == fold), seen & (folds != fold)
        fit = fit_temperature(scores[outside], labels[outside])  # rows left out never help to calibrate
        torch.testing.assert_close(found[inside], (scores[inside] / fit.temperature).log_softmax(1))


def test_the_reference_is_cross_fitted_everywhere(logits: Tensor, labels: Tensor) -> None:
    rows = stored(logits, labels, sources=SOURCES, calibration=recorded(5.0))
    found, scores, folds = honest_log_probs(rows, None, options()), rows.logits.double(), options().folds
    fit = fit_temperature(scores[folds != 2], labels[folds != 2])
    torch.testing.assert_close(found[folds == 2], (scores[folds == 2] / fit.temperature).log_softmax(1))


def test_without_a_calibrator_or_folds_scores_stay_raw(logits: Tensor, labels: Tensor) -> None:
    raw = logits.float().double().log_softmax(1)
    record = recorded(5.0)
    rows = stored(logits, labels, sources=SOURCES, calibration=record)
    torch.testing.assert_close(honest_log_probs(rows, "rafdb_basic", options(CalibrationMethod.none)), raw)
    torch.testing.assert_close(honest_log_probs(stored(logits, labels, sources=SOURCES), None, options()), raw)
    linked = options(folds=torch.zeros(N, dtype=torch.int64))
    torch.testing.assert_close(honest_log_probs(rows, "rafdb_basic", linked)[~OF_RAFDB], raw[~OF_RAFDB])


def test_absent_classes_and_rows_seen(logits: Tensor, labels: Tensor) -> None:
    rows = stored(logits, labels, sources=SOURCES)
    log_probs = honest_log_probs(rows, None, options())
    cells = judge_cells(rows, log_probs, ["ferplus", "rafdb_basic"], {"0", "1", "2"}, options())
    by_source = {cell.source: cell for cell in cells}
    assert [cell.source for cell in cells] == ["ferplus", "rafdb_basic", ALL_SOURCES]
    assert [cell.classes_present for cell in cells] == [7, 5, 7]
    assert [cell.rows_seen_in_training for cell in cells] == [1, 2, 3]
    predictions = logits.argmax(1)[OF_RAFDB]
    f1 = f1_score(labels[OF_RAFDB], predictions, labels=range(5), average="macro", zero_division=0)
    cell = by_source["rafdb_basic"]
    assert cell.macro_f1_present == pytest.approx(f1)
    assert cell.macro_f1_present_range is not None
    assert 0 < cell.macro_f1_present_range.low < f1 < cell.macro_f1_present_range.high < 1


def compared(
    scores: tuple[Tensor, Tensor], labels: Tensor, groups: Tensor | None = None
) -> tuple[SourceCost, SourceCell]:
    """Cost of rafdb_basic, and the reference's cell of it, of reference and another teacher."""
    pairs = []
    for logits in scores:
        rows = stored(logits, labels, sources=SOURCES, groups=groups)
        log_probs = honest_log_probs(rows, None, options())
        cells = judge_cells(rows, log_probs, ["ferplus", "rafdb_basic"], set(), options())
        pairs.append((rows, log_probs, {cell.source: cell for cell in cells}))
    cost = source_cost("rafdb_basic", pairs[0], pairs[1][1:], options())
    for name in ("accuracy", "macro_f1_present"):
        figure = getattr(cost, name)
        with_it, without = (getattr(cells["rafdb_basic"], name) for _, _, cells in pairs)
        assert (figure.reference, figure.without) == (with_it, without)
        assert figure.cost == with_it - without
        assert (figure.range is None) == (figure.p_value is None)
    assert cost.n == int(OF_RAFDB.sum())
    return cost, pairs[0][2]["rafdb_basic"]


def in_groups(number: int) -> Tensor:
    """Rows of rafdb_basic in so many groups, others by themselves."""
    return torch.where(OF_RAFDB, torch.arange(N) // 2 % number, N + torch.arange(N))


@pytest.mark.parametrize("num_groups", [1, 9, 10])
def test_ranges_need_ten_groups(logits: Tensor, labels: Tensor, num_groups: int) -> None:
    worse = logits + 6 * torch.randn(N, 7, generator=torch.Generator().manual_seed(9))
    cost, cell = compared((logits, worse), labels, in_groups(num_groups))
    assert (cost.num_groups, cell.num_groups) == (num_groups, num_groups)
    assert cost.differing_predictions == int((logits.argmax(1) != worse.argmax(1))[OF_RAFDB].sum())
    for figure, limits in (
        (cost.accuracy, cell.accuracy_range),
        (cost.macro_f1_present, cell.macro_f1_present_range),
    ):
        assert figure.cost > 0.1
        assert (figure.range is None, limits is None) == (num_groups < 10, num_groups < 10)
        if figure.range is not None:
            assert figure.range.low < figure.cost < figure.range.high
            assert figure.p_value is not None
            assert figure.p_value < 0.05


def test_equal_predictions_have_no_range(logits: Tensor, labels: Tensor) -> None:
    sharper = torch.where(OF_RAFDB[:, None], 2 * logits, -logits)  # others differ
    cost, cell = compared((logits, sharper), labels)
    assert cost.differing_predictions == 0
    for figure in (cost.accuracy, cost.macro_f1_present):
        assert (figure.cost, figure.range, figure.p_value) == (0, None, None)
    assert cell.accuracy_range is not None
    once = logits.clone()
    row = int(OF_RAFDB.nonzero()[0])
    once[row] = -logits[row]
    cost, _ = compared((logits, once), labels)
    assert cost.differing_predictions == 1
    assert cost.accuracy.range is not None
