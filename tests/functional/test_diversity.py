"""Diversity of teachers against scikit-learn, by hand, and where a figure does not exist."""

import pytest
import torch
from sklearn.metrics import cohen_kappa_score, matthews_corrcoef

from fer_lightning.functional.diversity import PairDiversity, oracle_accuracy, pair_diversity


@pytest.mark.parametrize("seed", range(4))
def test_figures_agree_with_scikit_learn(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 7, (300,), generator=generator)
    a, b = (
        torch.where(
            torch.rand(300, generator=generator) < share, labels, torch.randint(0, 7, (300,), generator=generator)
        )
        for share in (0.7, 0.4)
    )
    found = pair_diversity(a, b, labels)
    assert found.error_correlation == pytest.approx(matthews_corrcoef(a != labels, b != labels), abs=1e-12)
    assert found.cohen_kappa == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)
    assert found.disagreement == pytest.approx(float((a != b).float().mean()))
    wrong = [(int(x) != int(y), int(z) != int(y)) for x, z, y in zip(a, b, labels, strict=True)]
    assert found.both_wrong == pytest.approx(sum(x and z for x, z in wrong) / 300)
    assert found.one_right == pytest.approx(sum(x != z for x, z in wrong) / 300)


def test_by_hand() -> None:
    labels = torch.tensor([0, 1, 2, 3])
    a, b = torch.tensor([0, 1, 0, 0]), torch.tensor([0, 0, 2, 1])
    found = pair_diversity(a, b, labels)
    # agreement 1 of 4; by chance (3*2 + 1*1) / 16
    assert found == PairDiversity(0.75, 0.0, 0.25, 0.5, (4 - 7) / (16 - 7))
    assert oracle_accuracy(torch.stack([a, b]), labels) == 0.75


def test_equal_teachers_agree_wholly() -> None:
    labels = torch.tensor([0, 1, 2, 3])
    predictions = torch.tensor([0, 1, 0, 3])
    assert pair_diversity(predictions, predictions, labels) == PairDiversity(0.0, 1.0, 0.25, 0.0, 1.0)


def test_figures_that_do_not_exist_are_none() -> None:
    labels = torch.tensor([3, 3])
    without_error = pair_diversity(labels, torch.tensor([3, 0]), labels)
    assert without_error.error_correlation is None
    assert without_error.cohen_kappa == 0.0
    same_class = pair_diversity(torch.tensor([1, 1]), torch.tensor([1, 1]), labels)
    assert same_class == PairDiversity(0.0, None, 1.0, 0.0, None)


def test_oracle_of_one_teacher_is_its_accuracy() -> None:
    labels = torch.tensor([0, 1, 2, 3])
    assert oracle_accuracy(torch.tensor([[0, 1, 0, 0]]), labels) == 0.5


def test_misfits_are_refused() -> None:
    labels = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"predictions must have shape \(2,\), got \(3,\)"):
        pair_diversity(torch.tensor([0, 1, 2]), labels, labels)
    with pytest.raises(ValueError, match=r"predictions must lie in 0\.\.6"):
        pair_diversity(labels, torch.tensor([0, 7]), labels)
    with pytest.raises(ValueError, match="N >= 1"):
        pair_diversity(labels[:0], labels[:0], labels[:0])
    with pytest.raises(ValueError, match=r"\(M, N\) with M >= 1"):
        oracle_accuracy(labels, labels)
    with pytest.raises(ValueError, match="integer class indices"):
        oracle_accuracy(torch.zeros(2, 2), labels)
