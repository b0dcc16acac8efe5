"""Multi-level logit distillation: rows, pairs of rows and pairs of classes as the teacher has them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fer_lightning.functional._checks import at_least_float32
from fer_lightning.functional._teacher_pair import checked_pair, kl_rows


def _loss_at(student_logits: Tensor, teacher_logits: Tensor, kd_temperature: float) -> Tensor:
    """The three levels at one temperature."""
    student_logits, teacher_logits, _ = checked_pair(student_logits, teacher_logits, kd_temperature)
    num_rows, num_classes = student_logits.shape
    student_log_probs = (student_logits / kd_temperature).log_softmax(dim=1)
    teacher_log_probs = (teacher_logits / kd_temperature).log_softmax(dim=1)
    instances = kd_temperature**2 * kl_rows(teacher_log_probs, student_log_probs).mean()
    student, teacher = student_log_probs.exp(), teacher_log_probs.exp()
    rows = (student @ student.T - teacher @ teacher.T).square().sum() / num_rows
    classes = (student.T @ student - teacher.T @ teacher).square().sum() / num_classes
    return instances + rows + classes


def multi_level_loss(student_logits: Tensor, teacher_logits: Tensor, *, kd_temperatures: Sequence[float]) -> Tensor:
    """Agreement at three levels, mean over temperatures T of instance + batch + class.

        instance = T^2 / N sum_i KL(p_i || q_i)       `kd_loss`
        batch    = ||Q Q^T - P P^T||_F^2 / N          (N, N): how alike the predictions of two rows are
        class    = ||Q^T Q - P^T P||_F^2 / C          (C, C): how often two classes are thought of together

    with P, Q (N, C) the softmax of teacher and student logits / T, and p_i, q_i their rows. T^2 multiplies the
    instance level only, and the levels have equal weights, both as in the authors' code. The matrix levels are sums
    over entries: the batch level grows as N, the class level as N^2, so in large batches of few classes the latter
    outweighs the rest.

    Where it departs from the paper: the mean over temperatures, not the sum, so that the loss keeps its size whatever
    their number; one picture of a row, not a weak and a strong view; no level leaves out confident rows or classes.

    Matrices are computed with autocast off.

    Reference: Jin et al., Multi-Level Logit Distillation, CVPR 2023,
    https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html,
    section 3; its authors' code, https://github.com/Jin-Ying/Multi-Level-Logit-Distillation, has T = 2, 3, 4, 5, 6.

    Args:
        student_logits: (N, C) float.
        teacher_logits: (N, C) float.
        kd_temperatures: the T, each > 0, at least one.

    Returns:
        0-dim loss, 0 where the student's probabilities are the teacher's.

    Raises:
        ValueError: no temperature or one out of range, shapes differ or are not (N, C), not floating point.
    """
    if not kd_temperatures:
        raise ValueError("kd_temperatures must name at least one temperature, got none")
    student_logits = at_least_float32(student_logits, name="student_logits")  # once: gradients are added up in float32
    with torch.autocast(device_type=student_logits.device.type, enabled=False):
        losses = [_loss_at(student_logits, teacher_logits, kd_temperature) for kd_temperature in kd_temperatures]
        return torch.stack(losses).mean()
