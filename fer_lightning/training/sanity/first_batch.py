"""Looks at the first training batch: pictures as they leave the loader and enter the backbone, labels, loss."""

from typing import Any

import lightning
import torch.nn.functional as F  # noqa: N812  the name torch's own documentation uses
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fer_lightning.data.batches.dataset import Batch
from fer_lightning.models.classifier import Classifier, standardise
from fer_lightning.runs.check_report import FirstBatch
from fer_lightning.training.learner import LearnerModule

_ROUNDING = 0.05  # of half precision, on standardised pictures


def chance_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy that logits have when the labels are dealt among the rows at random.

    With label shares f:  mean_i log sum_c exp(l_ic) - sum_c f_c mean_i l_ic.  It is ln 7 for logits near 0, and more the
    further apart they are.

    Args:
        logits: (N, 7) float.
        labels: (N,) int64.
    """
    shares = F.one_hot(labels, logits.shape[1]).to(logits.dtype).mean(0)
    return logits.logsumexp(1).mean() - shares @ logits.mean(0)


class FirstBatchProbe(lightning.Callback):
    """Measures batch 0 of epoch 0, and hinders nothing."""

    def __init__(self) -> None:
        self.measured: FirstBatch | None = None
        self._entered: Tensor | None = None
        self._scores: Tensor | None = None

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Listen to the backbone's first layer and to the head."""
        if self.measured is not None:
            return
        classifier = _learner(pl_module).classifier
        self._hooks = [
            _first_layer(classifier.backbone).register_forward_pre_hook(self._note_entered),
            classifier.head.register_forward_hook(self._note_scores),
        ]

    def _note_entered(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._entered = inputs[0].detach() if self._entered is None else self._entered  # SAM passes twice

    def _note_scores(self, _: nn.Module, inputs: tuple[Tensor, ...], scores: Tensor) -> None:
        self._scores = scores.detach() if self._scores is None else self._scores

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Compute the figures of the first batch."""
        if self.measured is not None:
            return
        for hook in self._hooks:
            hook.remove()
        if self._entered is None or self._scores is None:
            raise RuntimeError("the first batch did not pass through backbone and head")
        self.measured = _figures(_learner(pl_module), batch, self._entered, self._scores)


def _learner(module: lightning.LightningModule) -> LearnerModule:
    if not isinstance(module, LearnerModule):
        raise TypeError(f"expected a LearnerModule, got {type(module).__name__}")
    return module


def _first_layer(backbone: nn.Module) -> nn.Module:
    """Return the first layer with parameters; timm registers layers in the order in which pictures meet them."""
    return next(part for part in backbone.modules() if not list(part.children()) and list(part.parameters()))


def _figures(learner: LearnerModule, batch: Batch, entered: Tensor, scores: Tensor) -> FirstBatch:
    classifier = learner.classifier
    logits = learner.ramp().scale * scores if classifier.scores_are_cosines else scores
    inputs = entered.float()
    norms, in_evaluation = _batch_norms(classifier)
    return FirstBatch(
        shape=list(batch.pictures.shape),
        dtype=str(batch.pictures.dtype).removeprefix("torch."),
        smallest=float(batch.pictures.min()),
        largest=float(batch.pictures.max()),
        standardised_mean=inputs.mean((0, 2, 3)).tolist(),
        standardised_std=inputs.std((0, 2, 3)).tolist(),
        standardised_smallest=float(inputs.min()),
        standardised_largest=float(inputs.max()),
        labels=batch.labels.tolist(),
        mixed_rows=_mixed_rows(batch, entered, classifier),
        loss=float(learner.last_loss),
        cross_entropy=float(F.cross_entropy(logits, batch.labels)),
        chance_cross_entropy=float(chance_cross_entropy(logits, batch.labels)),
        logit_spread=float(logits.std(1).mean()),
        batch_norms=norms,
        batch_norms_in_evaluation=in_evaluation,
    )


def _mixed_rows(batch: Batch, entered: Tensor, classifier: Classifier) -> int:
    plain = standardise(batch.pictures, classifier.mean, classifier.std).to(entered.dtype)
    return int(((plain - entered).abs().amax((1, 2, 3)) > _ROUNDING).sum())


def _batch_norms(classifier: Classifier) -> tuple[int, list[str]]:
    """Return the number of trained batch normalisations, and the names of those that use running statistics."""
    trained = [
        (name, part)
        for name, part in classifier.named_modules()
        if isinstance(part, _BatchNorm) and any(parameter.requires_grad for parameter in part.parameters())
    ]
    return len(trained), [name for name, part in trained if not part.training]
