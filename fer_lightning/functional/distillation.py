"""Losses that teach a student from teacher logits; each has the factor kd_temperature^2 and is a batch mean.

Teacher logits are constants: no gradient reaches them. The temperature is a number or a 0-dim tensor, which gets the
gradient that passes through both softmaxes and the factor. Half and bfloat16 logits are promoted to float32, float32
and float64 stay as they are, whatever the temperature's type. Everything is computed from log-softmax and logsumexp, so
logits hundreds apart give finite values and gradients.
"""

import torch
from torch import Tensor

from fer_lightning.functional._checks import check_labels, check_matrix
from fer_lightning.functional._target_split import log_target_and_rest, other_logits
from fer_lightning.functional._teacher_pair import checked_pair, kl_rows

_MIN_NORM = 1e-12  # below it a row or column counts as constant and its correlation as 0
_MIN_STD = 1e-7


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, *, kd_temperature: float | Tensor) -> Tensor:
    """Hinton's soft-target loss, T^2 KL(softmax(t / T) || softmax(s / T)), batch mean.

    KL and not cross-entropy: 0 when the student equals the teacher; the gradient is the same.

    Reference: Hinton et al., Distilling the Knowledge, https://arxiv.org/abs/1503.02531, section 2.

    Args:
        student_logits: (N, C) float, s.
        teacher_logits: (N, C) float, t.
        kd_temperature: T, > 0, a number or 0-dim.

    Returns:
        0-dim loss, >= 0.

    Raises:
        ValueError: shapes differ or are not (N, C), not floating point, temperature out of range.
    """
    student_logits, teacher_logits, kd_temperature = checked_pair(student_logits, teacher_logits, kd_temperature)
    student = (student_logits / kd_temperature).log_softmax(dim=1)
    teacher = (teacher_logits / kd_temperature).log_softmax(dim=1)
    return kd_temperature**2 * kl_rows(teacher, student).mean()


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    alpha: float,
    beta: float,
    kd_temperature: float | Tensor,
) -> Tensor:
    """Decoupled KD, T^2 (alpha TCKD + beta NCKD), batch mean.

        TCKD = KL((p_y, 1 - p_y) of the teacher || of the student)          target against the rest
        NCKD = KL(softmax of the teacher's other logits || the student's)   among the C - 1 other classes

    with p = softmax(logits / T). log(1 - p_y) is taken by logsumexp over the other logits. Row by row,
    KD = TCKD + (1 - p_y of the teacher) NCKD, so alpha 1 and beta = 1 - p_y gives `kd_loss`.

    Reference: Zhao et al., Decoupled Knowledge Distillation, https://arxiv.org/abs/2203.08679, eqs. 6 and 7. beta is
    not multiplied by alpha.

    Args:
        student_logits: (N, C) float, C >= 2.
        teacher_logits: (N, C) float.
        labels: (N,) int64, the target class y.
        alpha: weight of TCKD.
        beta: weight of NCKD.
        kd_temperature: T, > 0, a number or 0-dim.

    Returns:
        0-dim loss.

    Raises:
        ValueError: wrong shape or type, label out of range, temperature out of range.
    """
    student_logits, teacher_logits, kd_temperature = checked_pair(
        student_logits, teacher_logits, kd_temperature, min_classes=2
    )
    labels = check_labels(labels, num_rows=student_logits.shape[0], num_classes=student_logits.shape[1])
    student, teacher = student_logits / kd_temperature, teacher_logits / kd_temperature
    student_target, student_rest = log_target_and_rest(student, labels)
    teacher_target, teacher_rest = log_target_and_rest(teacher, labels)
    target_part = teacher_target.exp() * (teacher_target - student_target) + teacher_rest.exp() * (
        teacher_rest - student_rest
    )
    other_part = kl_rows(
        other_logits(teacher, labels).log_softmax(dim=1), other_logits(student, labels).log_softmax(dim=1)
    )
    return kd_temperature**2 * (alpha * target_part + beta * other_part).mean()


def nkd_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, gamma: float, kd_temperature: float | Tensor
) -> Tensor:
    """Normalised KD, target and non-target cross-entropies weighted by the teacher; batch mean of the rows.

        row = -p_y(t) log p_y(s) - gamma T^2 sum_{j != y} q_j(t) log q_j(s)

    where p = softmax(logits) at temperature 1 and q = softmax over the C - 1 other classes of logits / T. Both parts
    are cross-entropies as in the paper, not divergences: the loss of a perfect student is the teacher's entropy, not
    0. T^2 multiplies the non-target part only. The usual cross-entropy with the labels is not included.

    Reference: Yang et al., From Knowledge Distillation to Self-Knowledge Distillation,
    https://arxiv.org/abs/2303.13005, the NKD loss of section 3.1; its image-classification setting is gamma 1.5, T 1.

    Args:
        student_logits: (N, C) float, s, C >= 2.
        teacher_logits: (N, C) float, t.
        labels: (N,) int64, the target class y.
        gamma: weight of the non-target part.
        kd_temperature: T of the non-target part, > 0, a number or 0-dim.

    Returns:
        0-dim loss.

    Raises:
        ValueError: wrong shape or type, label out of range, temperature out of range.
    """
    student_logits, teacher_logits, kd_temperature = checked_pair(
        student_logits, teacher_logits, kd_temperature, min_classes=2
    )
    labels = check_labels(labels, num_rows=student_logits.shape[0], num_classes=student_logits.shape[1])
    columns = labels.unsqueeze(1)
    teacher_target = teacher_logits.softmax(dim=1).gather(1, columns).squeeze(1)
    student_target = student_logits.log_softmax(dim=1).gather(1, columns).squeeze(1)
    teacher_others = (other_logits(teacher_logits, labels) / kd_temperature).softmax(dim=1)
    student_others = (other_logits(student_logits, labels) / kd_temperature).log_softmax(dim=1)
    other_part = (teacher_others * student_others).sum(dim=1)
    return -(teacher_target * student_target + gamma * kd_temperature**2 * other_part).mean()


def _mean_correlation(left: Tensor, right: Tensor, *, dim: int) -> Tensor:
    """Mean Pearson correlation along `dim`; 0 for a constant row or column."""
    left = left - left.mean(dim=dim, keepdim=True)
    right = right - right.mean(dim=dim, keepdim=True)
    left = left / left.norm(dim=dim, keepdim=True).clamp(min=_MIN_NORM)
    right = right / right.norm(dim=dim, keepdim=True).clamp(min=_MIN_NORM)
    return (left * right).sum(dim=dim).mean()


def dist_loss(
    student_logits: Tensor, teacher_logits: Tensor, *, beta: float, gamma: float, kd_temperature: float | Tensor
) -> Tensor:
    """DIST, T^2 (beta inter + gamma intra), correlations instead of a divergence.

        inter = 1 - mean over rows of Pearson(student row, teacher row)            classes within one row
        intra = 1 - mean over columns of Pearson(student column, teacher column)   rows of the batch within one class

    of softmax(logits / T). A row or column whose centred norm is below 1e-12 has correlation 0; with a single row
    intra is therefore 1 without gradient. A correlation does not see the scale, so at high T the gradient grows as T^2,
    unlike that of the divergences: from T to 2 T as if the loss had four times its weight.

    Reference: Huang et al., Knowledge Distillation from A Stronger Teacher, https://arxiv.org/abs/2205.10536,
    section 4; T^2 as in the authors' code.

    Args:
        student_logits: (N, C) float.
        teacher_logits: (N, C) float.
        beta: weight of the inter-class part.
        gamma: weight of the intra-class part.
        kd_temperature: T, > 0, a number or 0-dim.

    Returns:
        0-dim loss.

    Raises:
        ValueError: shapes differ or are not (N, C), not floating point, temperature out of range.
    """
    student_logits, teacher_logits, kd_temperature = checked_pair(student_logits, teacher_logits, kd_temperature)
    student = (student_logits / kd_temperature).softmax(dim=1)
    teacher = (teacher_logits / kd_temperature).softmax(dim=1)
    inter = 1.0 - _mean_correlation(student, teacher, dim=1)
    intra = 1.0 - _mean_correlation(student, teacher, dim=0)
    return kd_temperature**2 * (beta * inter + gamma * intra)


def standardize_logits(logits: Tensor) -> Tensor:
    """Z-score of each row, (z - mean) / std with the sample std (divisor C - 1).

    A target whose other classes are equal then lies sqrt(C) above them, the most a standardised row can hold: for 7
    classes at kd_temperature 2 no probability exceeds 1 / (1 + 6 exp(-sqrt(7) / 2)) = .385.

    A row with a std below 1e-7 counts as constant and gives zeros, without gradient. Apply it to student and teacher
    before `kd_loss` or `dkd_loss`; it removes shift and positive scale from the comparison.

    Reference: Sun et al., Logit Standardization in Knowledge Distillation, https://arxiv.org/abs/2403.01427,
    with the std of the authors' code.

    Args:
        logits: (N, C) float.

    Returns:
        (N, C) standardised logits, float32 or float64.

    Raises:
        ValueError: wrong shape, fewer than two classes, or not floating point.
    """
    logits = check_matrix(logits, name="logits")
    if logits.shape[1] < 2:
        raise ValueError(f"standardising needs at least two classes, got logits of shape {tuple(logits.shape)}")
    centred = logits - logits.mean(dim=1, keepdim=True)
    stds = logits.std(dim=1, keepdim=True, correction=1)
    return torch.where(stds < _MIN_STD, 0.0, centred / stds.clamp(min=_MIN_STD))
