"""The term of a student's loss that makes its logits follow its teachers'."""

import torch
from torch import Tensor, nn

from fer_lightning.functional.distillation import (
    dist_loss,
    dkd_loss,
    kd_loss,
    nkd_loss,
    standardize_logits,
)
from fer_lightning.functional.fusion import mean_log_probs, mean_logits
from fer_lightning.functional.multi_level import multi_level_loss
from fer_lightning.functional.teacher_weights import confidence_weights, fuse_rows, loss_weights
from fer_lightning.training.distillation.config import (
    DistillationConfig,
    DistillationObjective,
    TargetClass,
    TeacherWeighting,
    TemperatureRule,
)
from fer_lightning.training.distillation.curriculum import CurriculumTemperature
from fer_lightning.training.recipe.student_recipe import TeacherFusion

_LEVELS = (0.5, 0.75, 1.0, 1.25, 1.5)
"""Temperatures of multi-level distillation, in units of kd_temperature: 2, 3, 4, 5, 6 where it is 4."""
_MEANS = {"logit": mean_logits, "prob": mean_log_probs}


class DistillationTerm(nn.Module):
    """The distillation loss of a batch: teachers are averaged, calibrated, then followed at the KD temperature.

    Rows count alike, whatever their class or row weights. A row without teacher logits (NaN) adds 0.

    Args:
        config: options.
        fusion: how teachers become one.
        kd_temperature: in effect.
        partial: some rows may be without teacher logits.
    """

    _weights: Tensor
    _temperatures: Tensor

    def __init__(
        self, config: DistillationConfig, fusion: TeacherFusion, *, kd_temperature: float, partial: bool
    ) -> None:
        super().__init__()
        self._config = config
        self._fusion = fusion
        # On the device beforehand: made in each step, they would have it wait.
        self.register_buffer("_weights", torch.tensor(fusion.weights), persistent=False)
        self.register_buffer("_temperatures", torch.tensor(fusion.temperatures).view(-1, 1, 1), persistent=False)
        self._kd_temperature = kd_temperature
        self._partial = partial
        self.curriculum: CurriculumTemperature | None = None
        if config.temperature_rule is TemperatureRule.curriculum:
            self.curriculum = CurriculumTemperature(
                start=kd_temperature, highest=config.curriculum_max_temperature, epochs=config.curriculum_epochs
            )

    @property
    def kd_temperature(self) -> float:
        """The temperature now; waits for the device where it is learned."""
        return self._kd_temperature if self.curriculum is None else float(self.curriculum.temperature)

    def weight(self, progress: float) -> float:
        """Return the weight of the term.

        Args:
            progress: epochs since the start of the run, a part of one included.
        """
        warmup = self._config.warmup_epochs
        return self._config.weight * (min(1.0, progress / warmup) if warmup else 1.0)

    def fused(self, teacher_logits: Tensor, labels: Tensor) -> Tensor:
        """Return the logits to follow: (N, 7), of (N, M, 7) of M teachers."""
        fusion = self._fusion
        by_teacher = teacher_logits.transpose(0, 1) / self._temperatures
        if len(by_teacher) == 1:
            return by_teacher[0] / fusion.ensemble_temperature
        match self._config.teacher_weighting:
            case TeacherWeighting.ensemble:
                mean = _MEANS[fusion.space](by_teacher, self._weights)
            case TeacherWeighting.loss:
                mean = fuse_rows(by_teacher, loss_weights(by_teacher, labels), space=fusion.space)
            case TeacherWeighting.confidence:
                mean = fuse_rows(by_teacher, confidence_weights(by_teacher), space=fusion.space)
        return mean / fusion.ensemble_temperature

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, progress: float) -> Tensor:
        """Return the mean loss of a batch, before its weight.

        Args:
            student_logits: (N, 7) as inference has them.
            teacher_logits: (N, M, 7), NaN in rows without.
            labels: (N,) int64.
            progress: epochs since the start of the run, a part of one included.
        """
        num_rows = len(labels)
        if self._partial:
            known = ~teacher_logits[:, 0, 0].isnan()
            student_logits, teacher_logits, labels = student_logits[known], teacher_logits[known], labels[known]
            if not len(labels):
                return self._nothing(student_logits)
        target = self.fused(teacher_logits, labels)
        return self._objective(student_logits, target, labels, progress) * (len(labels) / num_rows)

    def _nothing(self, no_logits: Tensor) -> Tensor:
        """Return 0, with a gradient of 0 in all that learns: ranks that exchange gradients wait for each one."""
        if self.curriculum is None:
            return no_logits.sum()
        return no_logits.sum() + 0.0 * self.curriculum.theta

    def _objective(self, student: Tensor, teacher: Tensor, labels: Tensor, progress: float) -> Tensor:
        config = self._config
        temperature = self._kd_temperature if self.curriculum is None else self.curriculum(progress)
        if config.target_class is TargetClass.teacher:
            labels = teacher.argmax(dim=1)
        if config.standardize:
            student, teacher = standardize_logits(student), standardize_logits(teacher)
        match config.objective:
            case DistillationObjective.kd:
                return kd_loss(student, teacher, kd_temperature=temperature)
            case DistillationObjective.dkd:
                alpha, beta = config.alpha, config.beta
                return dkd_loss(student, teacher, labels, alpha=alpha, beta=beta, kd_temperature=temperature)
            case DistillationObjective.nkd:
                return nkd_loss(student, teacher, labels, gamma=config.gamma, kd_temperature=temperature)
            case DistillationObjective.dist:
                return dist_loss(student, teacher, beta=config.beta, gamma=config.gamma, kd_temperature=temperature)
            case DistillationObjective.multi_level:
                levels = [self._kd_temperature * level for level in _LEVELS]
                return multi_level_loss(student, teacher, kd_temperatures=levels)
            case DistillationObjective.none:
                raise RuntimeError("nothing to distil")
