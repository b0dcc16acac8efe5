"""The neck (features -> embedding) and the cosine head (embedding -> cosines)."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Neck(nn.Sequential):
    """Linear -> BatchNorm -> SiLU -> Dropout."""

    def __init__(self, num_features: int, embedding_dim: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(num_features, embedding_dim),
            nn.BatchNorm1d(embedding_dim),
            nn.SiLU(),
            nn.Dropout(dropout),
        )


class CosineHead(nn.Module):
    """Cosines between an embedding and one learned direction per class, always in float32 at least."""

    def __init__(self, embedding_dim: int, num_classes: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.empty(num_classes, embedding_dim))
        nn.init.xavier_normal_(self.directions)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return cosines.

        Args:
            embeddings: (N, D) float; half precision is promoted.

        Returns:
            (N, C) in [-1, 1] up to rounding.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            wide = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            return functional.linear(functional.normalize(wide), functional.normalize(self.directions.to(wide.dtype)))
