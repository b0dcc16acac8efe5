"""Negative learning: what a row is not, as a loss."""

import torch
from torch import Tensor

from fer_lightning.functional._checks import check_matrix
from fer_lightning.functional._target_split import log_probs_and_rests


def negative_learning_loss(logits: Tensor, negatives: Tensor) -> Tensor:
    """Negative learning, the mean over all N rows of -sum_c log(1 - p_c) over the row's negatives c.

    p = softmax(logits). The gradient for one negative c is p_c in its own logit and -p_k p_c / (1 - p_c) in each other
    logit k: descent lowers z_c and raises the others, the likeliest most. A row without negatives costs nothing, but
    counts. log(1 - p_c) is the logsumexp of the other logits minus that of all: a logit hundreds above the others costs
    its lead and has the gradient 1.

    Reference: Kim et al., NLNL: Negative Learning for Noisy Labels, https://arxiv.org/abs/1908.07387, its NL loss,
    there for one complementary label a row.

    Args:
        logits: (N, C) float, C >= 2; half and bfloat16 become float32.
        negatives: (N, C) bool, the classes a row is known not to be.

    Returns:
        0-dim loss.

    Raises:
        ValueError: wrong shape or type.
    """
    logits = check_matrix(logits, name="logits", min_classes=2)
    if negatives.shape != logits.shape or negatives.dtype != torch.bool:
        raise ValueError(
            f"negatives must be bool of shape {tuple(logits.shape)}, got {negatives.dtype} of {tuple(negatives.shape)}"
        )
    _, log_rests = log_probs_and_rests(logits)
    return -log_rests.masked_fill(~negatives, 0.0).sum(dim=1).mean()
