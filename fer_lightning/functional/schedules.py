"""Learning-rate schedule: linear warm-up, cosine decay, clamped after the end."""

import math


def warmup_cosine(step: int, *, base_lr: float, min_lr: float, warmup_steps: int, total_steps: int) -> float:
    """Learning rate of one optimizer step.

        lr(step) = base_lr (step + 1) / warmup_steps                                    step < warmup_steps
                   min_lr + (base_lr - min_lr) (1 + cos(pi progress)) / 2               otherwise
                   min_lr                                                               step >= total_steps
        progress = (step - warmup_steps) / (total_steps - warmup_steps)

    The last warm-up step already has `base_lr`, as has step `warmup_steps`, where the cosine starts. `min_lr` is
    reached at step `total_steps`, one past the last step of a run, and never left again.

    Reference: Loshchilov & Hutter, SGDR, https://arxiv.org/abs/1608.03983, eq. 5, one period.

    Args:
        step: 0-based index of the optimizer step (not of the micro-batch).
        base_lr: peak, > 0.
        min_lr: floor, 0..base_lr.
        warmup_steps: length of the warm-up, 0..total_steps; 0 starts at `base_lr`.
        total_steps: number of optimizer steps of the whole run, >= 1.

    Raises:
        ValueError: an argument out of range.
    """
    if step < 0:
        raise ValueError(f"step must be >= 0, got {step}")
    if total_steps < 1 or not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"expected 0 <= warmup_steps <= total_steps and total_steps >= 1, got {warmup_steps} and {total_steps}"
        )
    if not (math.isfinite(base_lr) and base_lr > 0.0 and 0.0 <= min_lr <= base_lr):
        raise ValueError(f"expected 0 <= min_lr <= base_lr and base_lr > 0, got min_lr={min_lr}, base_lr={base_lr}")
    if step >= total_steps:
        return float(min_lr)
    if step < warmup_steps:
        return base_lr * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return min_lr + (base_lr - min_lr) * (1.0 + math.cos(math.pi * progress)) / 2.0
