"""The classifier: pictures in, logits out; what is saved, exported and deployed."""

from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from fer_lightning.labels import NUM_CLASSES
from fer_lightning.models.backbone import create_backbone
from fer_lightning.models.neck_and_head import CosineHead, Neck

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ClassifierSpec:
    """Everything needed to build a classifier again; plain scalars, kept in its checkpoint."""

    backbone: str
    """timm model name."""
    image_size: int
    embedding_dim: int
    dropout: float
    scale: float
    """Logits are scale x cosine."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


class Classifier(nn.Module):
    """Standardise -> backbone -> neck -> cosine head -> scale.

    Standardisation is part of the network, so no consumer can forget it or do it twice.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone, num_features = create_backbone(spec.backbone, image_size=spec.image_size)
        self.neck = Neck(num_features, spec.embedding_dim, spec.dropout)
        self.head = CosineHead(spec.embedding_dim, NUM_CLASSES)
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def cosines(self, pictures: Tensor) -> Tensor:
        """Return cosines to the class directions.

        Args:
            pictures: (N, 3, S, S) float RGB in [0, 1].

        Returns:
            (N, 7) float32 at least.
        """
        features = self.backbone((pictures - self.mean) / self.std)
        return cast("Tensor", self.head(self.neck(features)))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits, scale x cosine, without margin.

        Args:
            pictures: (N, 3, S, S) float RGB in [0, 1].

        Returns:
            (N, 7) float32 at least.
        """
        return self.spec.scale * self.cosines(pictures)
