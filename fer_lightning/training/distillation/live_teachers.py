"""The teachers of a live ensemble: they see a student's batch as the student does."""

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from fer_lightning.errors import FerError
from fer_lightning.models.fused_classifier import FusedClassifier
from fer_lightning.runs.ensemble_network import read_ensemble_network

OPTION = "distillation.ensemble"


class LiveTeachers:
    """Networks that teach and never learn, read from their own files, whose digests are compared.

    No module: whoever holds them neither trains nor saves them, neither averages their weights nor switches them to training.
    A copy of their holder, such as a weight average, shares them. Under autocast their backbones follow it.

    Args:
        network: in evaluation mode.
    """

    def __init__(self, network: FusedClassifier) -> None:
        self.network: FusedClassifier = network.requires_grad_(False)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = torch.device("cpu")

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @torch.no_grad()
    def logits(self, pictures: Tensor) -> Tensor:
        """Return each teacher's own logits, undivided, on the device of the pictures.

        Args:
            pictures: (N, 3, S, S) float RGB in [0, 1], mixed and their colours changed.

        Returns:
            (N, M, 7) float32.
        """
        if pictures.device != self._device:
            self.network.to(pictures.device)
            self._device = pictures.device
        return self.network.teacher_logits(pictures).transpose(0, 1)


def open_live_teachers(ensemble: Path, sha256: str | None) -> LiveTeachers:
    """Open the teachers of an ensemble that have a share.

    Args:
        ensemble: its folder, or its `ensemble.json`.
        sha256: digest that this file must have.

    Raises:
        FerError: the ensemble is damaged, was replaced, or is no network; a teacher is gone or was replaced.
    """
    read = read_ensemble_network(ensemble, option=OPTION)
    if read.sha256 != sha256:
        raise FerError(
            f"{OPTION}: {read.path} is not the one that the student was set up with: its sha256 is {read.sha256[:12]}, "
            f"recorded {str(sha256)[:12]}"
        )
    return LiveTeachers(read.build())
