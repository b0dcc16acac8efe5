"""The teacher as a LightningModule: it learns from labels."""

from torch import Tensor

from fer_lightning.data.batches.dataset import Batch
from fer_lightning.training.learner import LearnerModule


class TeacherModule(LearnerModule):
    """Trains a classifier on labels by the loss of its recipe, ArcFace unless said otherwise."""

    def loss(self, scores: Tensor, embeddings: Tensor, batch: Batch, *, batch_idx: int) -> Tensor:
        """Return the loss of a batch; see `LearnerModule.loss`."""
        loss: Tensor = self.objective(scores, embeddings, batch, epoch=self.current_epoch)
        return loss
