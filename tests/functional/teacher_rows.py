"""Logits of several teachers who see the same faces with errors of their own, and labels."""

import torch
from torch import Tensor


def teacher_rows(num_teachers: int = 3, num_rows: int = 400, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(M, N, 7) float64 logits, later teachers noisier and louder, (N,) labels, and five folds."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    labels = torch.randint(0, 7, (num_rows,), generator=generator)
    seen = 1.5 * torch.nn.functional.one_hot(labels, 7).double() + 0.5 * noise(num_rows, 7)
    teachers = [(seen + (0.8 + 0.2 * m) * noise(num_rows, 7)) * (1.0 + m) for m in range(num_teachers)]
    return torch.stack(teachers), labels, torch.arange(num_rows) % 5
