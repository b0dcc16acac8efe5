"""The nested figure of a search: whose it is, and that it does not profit from the choice."""

from typing import Any

import pytest
import torch

from fer_lightning.functional.calibration import fit_temperature
from fer_lightning.functional.fusion import fuse_log_probs, fuse_logits
from fer_lightning.functional.reliability import classification_scores
from fer_lightning.functional.weight_search import cross_validated, search_weights
from tests.functional.teacher_rows import teacher_rows
from tests.functional.weight_searches import SEARCHES, name_of

SPACES = ("logit", "prob")


@pytest.mark.parametrize("options", SEARCHES, ids=name_of)
def test_nested_figures_are_those_of_a_search_on_the_other_rows(options: dict[str, Any]) -> None:
    logits, labels, _ = teacher_rows(3, 150)
    folds = torch.arange(150) % 3 * 5 - 2
    judged = cross_validated(logits, labels, folds, spaces=SPACES, **options)
    assert len(judged.fold_weights) == len(judged.fold_spaces) == 3
    rest = folds != 3
    found = search_weights(logits[:, rest], labels[rest], spaces=SPACES, folds=folds[rest], **options)
    assert judged.fold_spaces[1] == found.space
    assert judged.fold_weights[1].tolist() == pytest.approx(found.weights.tolist(), abs=1e-12)
    fused = (fuse_logits if found.space == "logit" else fuse_log_probs)(logits, found.weights)
    scaled = fit_temperature(fused[rest], labels[rest]).apply(fused[~rest])
    assert torch.allclose(judged.log_probs[~rest], fused[~rest].log_softmax(dim=1), atol=1e-12)
    assert torch.allclose(judged.scaled_log_probs[~rest], scaled, atol=1e-9)


def test_two_folds_leave_one_and_no_inner_ones() -> None:
    logits, labels, folds = teacher_rows(2, 100)
    halves = folds % 2 * 7
    judged = cross_validated(logits, labels, halves, spaces=["prob"], search="grid")
    found = search_weights(logits[:, halves == 7], labels[halves == 7], spaces=["prob"], search="grid")
    assert judged.fold_weights[0].tolist() == found.weights.tolist()


def test_nested_figure_of_worthless_teachers_is_chance_while_the_chosen_one_is_above() -> None:
    chosen, nested = [], []
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(8, 210, 7, dtype=torch.float64, generator=generator)
        labels = torch.randint(0, 7, (210,), generator=generator)
        folds = torch.arange(210) % 5
        found = search_weights(logits, labels, spaces=["logit"], search="greedy", greedy_steps=6)
        judged = cross_validated(logits, labels, folds, spaces=["logit"], search="greedy", greedy_steps=6)
        chosen.append(float(found.points["logit"].accuracy[found.index]))
        nested.append(classification_scores(judged.log_probs.argmax(dim=1), labels).accuracy)
    deviation = (1 / 7 * 6 / 7 / 210 / 8) ** 0.5
    assert sum(nested) / 8 == pytest.approx(1 / 7, abs=4 * deviation)
    assert sum(chosen) / 8 > 1 / 7 + 5 * deviation
