"""The figures show the numbers they are given."""

import io
from typing import cast

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from sklearn.metrics import confusion_matrix

from fer_lightning.labels import EMOTIONS
from fer_lightning.reports.figures import confusion_matrix_figure, reliability_diagram_figure


def axes_of(figure: Figure) -> list[Axes]:
    figure.savefig(io.BytesIO(), format="png", dpi=20)  # it can be drawn
    return figure.axes


def test_the_confusion_matrix_holds_the_counts() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 6, (200,), generator=generator)  # no Neutral row
    predictions = torch.randint(0, 7, (200,), generator=generator)
    axes = axes_of(confusion_matrix_figure(predictions, labels))[0]
    expected = confusion_matrix(labels.numpy(), predictions.numpy(), labels=range(7))
    shown = np.zeros((7, 7), dtype=int)
    for text in axes.texts:
        column, row = (int(value) for value in text.get_position())
        shown[row, column] = int(text.get_text())
    assert len(axes.texts) == 49
    np.testing.assert_array_equal(shown, expected)
    (image,) = cast("list[AxesImage]", axes.images)
    shares = expected / np.maximum(expected.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(np.asarray(image.get_array()), shares, rtol=1e-6)
    assert image.get_clim() == (0, 1)
    assert [label.get_text() for label in axes.get_xticklabels()] == list(EMOTIONS)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(EMOTIONS)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    accuracy = float((labels == predictions).double().mean())
    assert axes.get_title().startswith(f"n=200  accuracy {accuracy:.4f}  macro-F1 0.")


def test_dark_cells_have_white_numbers() -> None:
    axes = axes_of(confusion_matrix_figure(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 0, 0])))[0]
    colours = {text.get_position(): text.get_color() for text in axes.texts}
    assert (colours[0, 0], colours[1, 0]) == ("white", "black")


def bars_of(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def probs_of(confidences: list[float], predicted: int = 0) -> torch.Tensor:
    probs = torch.tensor(confidences, dtype=torch.float64).unsqueeze(1)
    rest = (1 - probs) / 6
    return torch.cat([probs if column == predicted else rest for column in range(7)], dim=1)


def test_the_reliability_diagram_by_hand() -> None:
    probs = probs_of([0.55, 0.6, 0.95, 1.0])
    labels = torch.tensor([0, 1, 0, 0])
    upper, lower = axes_of(reliability_diagram_figure(probs, labels, num_bins=10))
    bars = {round(bar.get_x() + bar.get_width() / 2, 6): bar.get_height() for bar in bars_of(upper)}
    assert bars == {0.55: 0.5, 0.95: 1.0}  # 0.6 belongs to (0.5, 0.6], 1.0 to the last bin
    shares = {round(bar.get_x() + bar.get_width() / 2, 6): bar.get_height() for bar in bars_of(lower)}
    assert shares == {round(0.05 + 0.1 * bin_, 6): (0.5 if bin_ in {5, 9} else 0.0) for bin_ in range(10)}
    diagonal, points = upper.lines
    assert np.asarray(diagonal.get_xydata()).tolist() == [[0, 0], [1, 1]]
    np.testing.assert_allclose(np.asarray(points.get_xydata()), [[0.575, 0.5], [0.975, 1.0]])
    ece = 0.5 * 0.075 + 0.5 * 0.025
    assert upper.get_title() == f"n=4  ECE {ece:.4f} (10 bins)"
    assert (upper.get_ylabel(), lower.get_ylabel()) == ("accuracy", "share of rows")
    assert lower.get_xlabel() == "confidence of the predicted class"


def test_bars_stay_inside_their_bins() -> None:
    upper, _ = axes_of(reliability_diagram_figure(probs_of([0.3, 0.5, 0.7, 0.99]), torch.zeros(4, dtype=torch.int64)))
    for bar in bars_of(upper):
        assert bar.get_width() <= 1 / 15
        assert bar.get_x() >= 0
        assert bar.get_x() + bar.get_width() <= 1


@pytest.mark.parametrize("confidence", [0.5, 1.0])
def test_one_row_can_be_drawn(confidence: float) -> None:
    upper, _ = axes_of(reliability_diagram_figure(probs_of([confidence]), torch.tensor([0])))
    assert [bar.get_height() for bar in bars_of(upper)] == [1.0]
    assert "n=1 " in upper.get_title()


def test_logits_are_refused() -> None:
    with pytest.raises(ValueError, match="prob"):
        reliability_diagram_figure(torch.randn(4, 7) * 30, torch.zeros(4, dtype=torch.int64))
