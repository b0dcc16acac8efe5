"""Suspected label errors against a plain loop, and against errors planted in labels."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fer_lightning.functional.confident_learning import suspected_label_errors


def random_rows(num_rows: int, num_classes: int, seed: int, *, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(num_rows, num_classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_classes, (num_rows,), generator=generator)
    logits[torch.arange(num_rows), labels] += 1.5
    return logits.softmax(1), labels


def by_loop(probs: list[list[float]], labels: list[int]) -> tuple[list[int | None], list[list[int]]]:
    """The class each row counts for, and the confident joint, one row at a time."""
    classes = range(len(probs[0]))
    means = {}
    for one in classes:
        own = [row[one] for row, label in zip(probs, labels, strict=True) if label == one]
        if own:
            means[one] = sum(own) / len(own)
    joint = [[0 for _ in classes] for _ in classes]
    counted: list[int | None] = []
    for row, label in zip(probs, labels, strict=True):
        best = None
        for one, mean in means.items():
            if row[one] >= mean and (best is None or row[one] > row[best]):
                best = one
        counted.append(best)
        if best is not None:
            joint[label][best] += 1
    return counted, joint


@pytest.mark.parametrize(("num_rows", "num_classes", "seed"), [(400, 7, 0), (60, 3, 1), (1000, 2, 2), (9, 7, 3)])
def test_equals_a_loop(num_rows: int, num_classes: int, seed: int) -> None:
    probs, labels = random_rows(num_rows, num_classes, seed)
    found = suspected_label_errors(probs, labels)
    counted, joint = by_loop(probs.tolist(), labels.tolist())
    assert found.confident_joint.tolist() == joint
    expected = [label if one is None else one for one, label in zip(counted, labels.tolist(), strict=True)]
    assert found.suggested.tolist() == expected
    assert found.suspected.tolist() == [
        one is not None and one != label for one, label in zip(counted, labels.tolist(), strict=True)
    ]
    assert int(found.suspected.sum()) == int(found.confident_joint.sum() - found.confident_joint.diagonal().sum())


def test_by_hand() -> None:
    # Class 0: mean of .9, .8, .1 = .6; class 1: mean of .9, .6 = .75.
    probs = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.1, 0.9], [0.4, 0.6]], dtype=torch.float64)
    found = suspected_label_errors(probs, torch.tensor([0, 0, 0, 1, 1]))
    assert found.thresholds.tolist() == pytest.approx([0.6, 0.75])
    assert found.confident_joint.tolist() == [[2, 1], [0, 1]]  # the last row reaches no threshold
    assert found.suspected.tolist() == [False, False, True, False, False]
    assert found.suggested.tolist() == [0, 0, 1, 1, 1]
    assert found.self_confidence.tolist() == pytest.approx([0.9, 0.8, 0.1, 0.9, 0.6])
    assert found.margin.tolist() == pytest.approx([0.8, 0.6, -0.8, 0.8, 0.2])


def test_planted_flips_are_found_and_come_first() -> None:
    random = np.random.default_rng(7)
    truth = random.integers(0, 7, 4000)
    logits = random.normal(0, 1, (4000, 7))
    logits[np.arange(4000), truth] += 8
    labels = truth.copy()
    flipped = random.choice(4000, 200, replace=False)  # 5 %
    labels[flipped] = (truth[flipped] + random.integers(1, 7, 200)) % 7
    found = suspected_label_errors(torch.from_numpy(logits).softmax(1), torch.from_numpy(labels))
    planted = np.zeros(4000, dtype=bool)
    planted[flipped] = True
    suspected = found.suspected.numpy()
    assert (suspected & planted).sum() / 200 > 0.95
    assert (suspected & planted).sum() / suspected.sum() > 0.9
    first = found.margin.argsort().numpy()[:150]
    assert planted[first].mean() > 0.95
    both = suspected & planted
    assert (found.suggested.numpy()[both] == truth[both]).mean() > 0.95


def test_a_class_without_rows_is_never_suggested() -> None:
    probs = torch.tensor([[0.1, 0.1, 0.8], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]], dtype=torch.float64)
    found = suspected_label_errors(probs, torch.tensor([0, 1, 0]))
    assert found.thresholds.tolist() == pytest.approx([0.35, 0.7, float("inf")])
    assert found.confident_joint.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert not found.suspected.any()


def test_equal_confidence_reaches_its_own_mean() -> None:
    probs = torch.full((3, 2), 0.1, dtype=torch.float64)  # the mean of three times .1 is above .1
    probs[:, 1] = 0.9
    found = suspected_label_errors(probs, torch.zeros(3, dtype=torch.int64))
    assert found.confident_joint.tolist() == [[3, 0], [0, 0]]


@pytest.mark.parametrize(("probs", "labels"), [([[1.0]], [0]), ([[0.2, 0.8]], [1])])
def test_one_row_or_one_class(probs: list[list[float]], labels: list[int]) -> None:
    found = suspected_label_errors(torch.tensor(probs), torch.tensor(labels))
    assert found.suspected.tolist() == [False]
    assert found.self_confidence.dtype == torch.float64


@pytest.mark.parametrize(
    ("probs", "labels", "message"),
    [
        (torch.tensor([[3.0, -1.0]]), torch.tensor([0]), "are these logits"),
        (torch.tensor([[0.5, 0.6]]), torch.tensor([0]), "are these logits"),
        (torch.tensor([[float("nan"), 1.0]]), torch.tensor([0]), "NaN"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), "N >= 1"),
        (torch.tensor([[0.5, 0.5]]), torch.tensor([2]), "must lie in 0..1"),
        (torch.tensor([[0.5, 0.5]]), torch.tensor([0.0]), "integer class indices"),
    ],
)
def test_refusals(probs: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        suspected_label_errors(probs, labels)
