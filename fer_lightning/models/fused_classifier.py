"""Classifiers fused into one network: pictures in, the ensemble's logits out."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from fer_lightning.functional.fusion import checked_weights, mean_log_probs, mean_logits
from fer_lightning.models.classifier import Classifier

_MEANS = {"logit": mean_logits, "prob": mean_log_probs}


class FusedClassifier(nn.Module):
    """Every classifier's logits, divided by its temperature, averaged with its weight.

    Args:
        classifiers: M of them, which all take the same pictures.
        space: `logit` or `prob`, see `functional.fusion`.
        weights: (M,) > 0, sum 1 within 1e-6.
        temperatures: (M,) > 0.

    Raises:
        ValueError: an unknown space; weights or temperatures that are not these.
    """

    weights: Tensor
    temperatures: Tensor

    def __init__(
        self, classifiers: Sequence[Classifier], *, space: str, weights: Sequence[float], temperatures: Sequence[float]
    ) -> None:
        super().__init__()
        if space not in _MEANS:
            raise ValueError(f"space must be one of {', '.join(_MEANS)}, got {space!r}")
        shares = checked_weights(weights, num_teachers=len(classifiers))
        scales = torch.tensor(temperatures, dtype=torch.float64)
        if not bool((shares > 0).all()):
            raise ValueError(f"a classifier of weight 0 has no part in the network, got {list(weights)}")
        if scales.shape != shares.shape or not bool((scales.isfinite() & (scales > 0)).all()):
            raise ValueError(
                f"temperatures must be {len(classifiers)} positive, finite numbers, got {list(temperatures)}"
            )
        self.space = space
        self.classifiers = nn.ModuleList(classifiers)
        self.register_buffer("weights", shares.float(), persistent=False)
        self.register_buffer("temperatures", scales.float(), persistent=False)

    def teacher_logits(self, pictures: Tensor) -> Tensor:
        """Return each classifier's own logits, before its temperature.

        Args:
            pictures: (N, 3, S, S) float RGB in [0, 1].

        Returns:
            (M, N, 7) float32.
        """
        return torch.stack([cast("Tensor", classifier(pictures)).float() for classifier in self.classifiers])

    def forward(self, pictures: Tensor) -> Tensor:
        """Return fused logits; log-probabilities in the `prob` space.

        Args:
            pictures: (N, 3, S, S) float RGB in [0, 1].

        Returns:
            (N, 7) float32.
        """
        return _MEANS[self.space](self.teacher_logits(pictures) / self.temperatures.view(-1, 1, 1), self.weights)
