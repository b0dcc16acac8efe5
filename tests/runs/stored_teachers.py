"""Writes stored logits of several teachers on the same rows by hand: no model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fer_lightning.runs.stored_logits import write_stored_logits
from tests.runs.stored_scores import stored_scores

TEACHERS = ("RN18", "B3", "CNXT")


def teacher_logits(num_rows: int, num_teachers: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Return (M, N, 7) logits, whose scale and noise grow from teacher to teacher, and labels that they know something of."""
    random = torch.Generator().manual_seed(seed)
    known = 1.5 * torch.randn(num_rows, 7, generator=random)
    labels = torch.multinomial(known.softmax(1), 1, generator=random).squeeze(1)
    noise = torch.randn(num_teachers, num_rows, 7, generator=random)
    numbers = torch.arange(num_teachers).view(-1, 1, 1)
    return (2 + numbers) * (known + (0.8 + 0.2 * numbers) * noise), labels


def write_teachers(
    root: Path,
    *,
    num_val: int = 300,
    num_test: int = 150,
    names: Sequence[str] = TEACHERS,
    seed: int = 0,
    shuffled_test: bool = False,
    sources: Sequence[str] | None = None,
) -> list[str]:
    """Write a folder for each teacher with a folder for each split, and return them as `ensemble.teachers` takes them.

    Args:
        root: of the folders.
        num_val: rows.
        num_test: rows; 0: no test split.
        names: of the teachers.
        seed: of all draws.
        shuffled_test: whether the labels of the test rows are permuted.
        sources: of the val rows; one for all unless given.
    """
    for number, (split, num_rows) in enumerate((("val", num_val), ("test", num_test))):
        if not num_rows:
            continue
        logits, labels = teacher_logits(num_rows, len(names), seed=10 * seed + number)
        if split == "test" and shuffled_test:
            labels = labels[torch.randperm(num_rows, generator=torch.Generator().manual_seed(1))]
        for position, name in enumerate(names):
            stored = stored_scores(
                logits[position],
                labels,
                split=split,
                run_dir=f"experiments/teachers/{name}_seed1",
                checkpoint_sha256=f"{position + 1:02d}" * 32,
                kind="foreign",
                canonical={},
                canonical_digest="",
                manifest="m.csv",
            )
            of_sources = tuple(sources) if sources is not None and split == "val" else stored.sources
            write_stored_logits(root / name / split, replace(stored, sources=of_sources))
    return [str(root / name) for name in names]
