"""The KD temperature that is learned against the student, harder epoch by epoch."""

import math

import torch
from torch import Tensor, nn


class CurriculumTemperature(nn.Module):
    """One learnable temperature, 1 + (highest - 1) sigmoid(theta), whose gradient is reversed.

    Descent on a loss therefore moves theta to where the loss is higher. The reversed gradient is multiplied by the
    strength of the curriculum, which rises by half a cosine over the epochs e and then stays,

        strength(e) = (1 - cos(pi min(e, epochs) / epochs)) / 2

    from 0, a constant temperature, to 1. theta has no dimension, so that weight decay leaves it alone: that would
    pull the temperature to the middle of the range.

    Reference: Li et al., Curriculum Temperature for Knowledge Distillation, https://arxiv.org/abs/2211.16231, its
    global temperature and cosine curriculum. The range here is 1..highest, the paper's is 1..1 + its range.

    Args:
        start: temperature before training, between 1 and `highest`.
        highest: least upper bound of the temperature.
        epochs: over how many the strength rises, > 0.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, start: float, highest: float, epochs: float) -> None:
        super().__init__()
        if not 1.0 < start < highest < math.inf:
            raise ValueError(f"start must lie between 1 and highest {highest}, got {start}")
        if not epochs > 0:
            raise ValueError(f"epochs must be positive, got {epochs}")
        self._span = highest - 1.0
        self._epochs = epochs
        self.theta = nn.Parameter(torch.tensor(math.log(start - 1.0) - math.log(highest - start)))

    def strength(self, epoch: float) -> float:
        """Return what the reversed gradient is multiplied by.

        Args:
            epoch: 0-based; a fraction is allowed.
        """
        return (1.0 - math.cos(math.pi * min(epoch / self._epochs, 1.0))) / 2.0

    @property
    def temperature(self) -> Tensor:
        """The temperature as it is, 0-dim, without gradient."""
        return 1.0 + self._span * self.theta.detach().sigmoid()

    def forward(self, epoch: float) -> Tensor:
        """Return the temperature, 0-dim, with the reversed gradient.

        Args:
            epoch: 0-based; a fraction is allowed.
        """
        fixed = self.theta.detach()
        reversed_theta = fixed - self.strength(epoch) * (self.theta - fixed)
        return 1.0 + self._span * reversed_theta.sigmoid()
