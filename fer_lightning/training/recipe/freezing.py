"""Which parameters learn in which epoch."""

from collections.abc import Iterator, Sequence

from torch import nn

from fer_lightning.errors import FerError
from fer_lightning.models.classifier import Classifier
from fer_lightning.training.config import StageConfig
from fer_lightning.training.recipe.learning_recipe import PhaseSpan


class Freezing:
    """Freezes the backbone, or its first layers, in the first epochs.

    A frozen part does not move at all: no step, no weight decay, no BatchNorm statistics; and it runs as in evaluation.

    Args:
        stage: options.
        classifier: whose backbone is frozen.
        phases: spans of epochs; all but the first are extra epochs.

    Raises:
        FerError: more layers are to be frozen than the backbone has.
    """

    def __init__(self, stage: StageConfig, classifier: Classifier, phases: Sequence[PhaseSpan]) -> None:
        self._stage = stage
        self._backbone = classifier.backbone
        self._num_epochs = phases[0].num_epochs
        layers = classifier.layer_of_parameters() if stage.freeze_blocks else {}
        num_layers = 1 + max(layers.values(), default=0)
        if stage.freeze_blocks >= num_layers and layers:
            raise FerError(
                f"stage.freeze_blocks={stage.freeze_blocks} of the {num_layers} layers of {classifier.spec.backbone} leaves "
                "none to train; stage.freeze_backbone_epochs freezes the whole backbone"
            )
        self._early = [
            parameter
            for name, parameter in self._backbone.named_parameters()
            if name in layers and layers[name] < stage.freeze_blocks
        ]
        self._frozen: list[nn.Parameter] = []

    def phase(self, epoch: int) -> str:
        """Return a name for what an epoch trains: `head`, `late blocks` or `all`; `polish` for all in extra epochs."""
        if epoch < self._stage.freeze_backbone_epochs:
            return "head"
        if epoch < self._stage.freeze_blocks_epochs:
            return "late blocks"
        return "all" if epoch < self._num_epochs else "polish"

    def apply(self, epoch: int, *, by_gradient: bool) -> None:
        """Freeze and thaw for an epoch; frozen modules are in evaluation mode.

        Args:
            epoch: 0-based.
            by_gradient: leave `requires_grad` alone; `drop_gradients` is called before each step instead (wrappers
                such as DDP settle at the start which gradients they exchange).
        """
        if epoch < self._stage.freeze_backbone_epochs:
            self._frozen = list(self._backbone.parameters())
        else:
            self._frozen = self._early if epoch < self._stage.freeze_blocks_epochs else []
        frozen = {id(parameter) for parameter in self._frozen}
        self._backbone.train()
        for module in _wholly_within(self._backbone, frozen):
            module.eval()
        for parameter in self._backbone.parameters():
            parameter.requires_grad_(by_gradient or id(parameter) not in frozen)

    def drop_gradients(self) -> None:
        """Forget the gradients of frozen parameters, so that neither clipping nor the optimizer sees them."""
        for parameter in self._frozen:
            parameter.grad = None


def _wholly_within(module: nn.Module, frozen: set[int]) -> Iterator[nn.Module]:
    """Return the largest modules all of whose parameters are frozen; what has no parameters goes with its parent."""
    parameters = [id(parameter) for parameter in module.parameters()]
    if parameters and frozen.issuperset(parameters):
        yield module
        return
    for child in module.children():
        yield from _wholly_within(child, frozen)
