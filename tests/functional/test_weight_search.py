"""The nested figure of a search: whose it is, and that it does not profit from the choice."""

from typing import Any

import pytest
import torch

from fer_lightning.functional.calibration import fit_temperature
from fer_lightning.functional.fusion import fuse_log_probs, fuse_logits
from fer_lightning.functional.reliability import classification_scores
from fer_lightning.functional.teacher_scales import scaled_outside
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


@pytest.mark.parametrize("scale_teachers", [False, True])
@pytest.mark.parametrize("options", [SEARCHES[0], SEARCHES[1], SEARCHES[4]], ids=name_of)
def test_nothing_that_judges_a_fold_has_seen_its_labels(options: dict[str, Any], scale_teachers: bool) -> None:
    logits, labels, folds = teacher_rows(3, 150)
    folds = folds % 3
    inside = folds == 1
    others = torch.where(inside, (labels + 2) % 7, labels)
    first, second = (
        cross_validated(logits, given, folds, spaces=SPACES, scale_teachers=scale_teachers, **options)
        for given in (labels, others)
    )
    assert torch.equal(first.fold_weights[1], second.fold_weights[1])
    assert torch.equal(first.log_probs[inside], second.log_probs[inside])
    assert torch.equal(first.scaled_log_probs[inside], second.scaled_log_probs[inside])
    assert not torch.equal(first.scaled_log_probs[~inside], second.scaled_log_probs[~inside])


@pytest.mark.parametrize("options", SEARCHES[:2], ids=name_of)
def test_nested_search_of_scaled_teachers_is_one_on_teachers_scaled_outside(options: dict[str, Any]) -> None:
    logits, labels, folds = teacher_rows(3, 150)
    judged = cross_validated(logits, labels, folds, spaces=SPACES, scale_teachers=True, **options)
    rest = folds != 3
    scaled = scaled_outside(logits, labels, folds, 3)
    found = search_weights(scaled[:, rest], labels[rest], spaces=SPACES, folds=folds[rest], **options)
    assert (judged.fold_spaces[3], judged.fold_weights[3].tolist()) == (found.space, found.weights.tolist())
    fused = (fuse_logits if found.space == "logit" else fuse_log_probs)(scaled, found.weights)
    assert torch.allclose(judged.log_probs[~rest], fused[~rest].log_softmax(dim=1), atol=1e-12)
    deployed = fit_temperature(fused[rest], labels[rest]).apply(fused[~rest])
    assert torch.allclose(judged.scaled_log_probs[~rest], deployed, atol=1e-9)


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
