"""Distillation losses as the papers write them, in decimal arithmetic, whose exponents have room for e^-400."""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, localcontext

Rows = list[list[Decimal]]

DIGITS = 45
STEP = Decimal("1e-15")
"""Of central differences: their error is about its square, and digits lost are about 15."""


def total(values: Iterable[Decimal]) -> Decimal:
    return sum(values, Decimal(0))


def softmax(row: Sequence[Decimal], temperature: Decimal) -> list[Decimal]:
    powers = [(logit / temperature).exp() for logit in row]
    whole = total(powers)
    return [power / whole for power in powers]


def others(row: Sequence[Decimal], label: int) -> list[Decimal]:
    return [value for column, value in enumerate(row) if column != label]


def divergence(p: Sequence[Decimal], q: Sequence[Decimal]) -> Decimal:
    return total(a * (a / b).ln() for a, b in zip(p, q, strict=True))


def mean(values: Sequence[Decimal]) -> Decimal:
    return total(values) / len(values)


def kd(student: Rows, teacher: Rows, temperature: Decimal) -> Decimal:
    return temperature**2 * mean(
        [divergence(softmax(t, temperature), softmax(s, temperature)) for s, t in zip(student, teacher, strict=True)]
    )


def dkd(
    student: Rows, teacher: Rows, labels: list[int], alpha: Decimal, beta: Decimal, temperature: Decimal
) -> Decimal:
    rows = []
    for s, t, y in zip(student, teacher, labels, strict=True):
        p, q = softmax(t, temperature), softmax(s, temperature)
        target = divergence([p[y], total(others(p, y))], [q[y], total(others(q, y))])
        rest = divergence(softmax(others(t, y), temperature), softmax(others(s, y), temperature))
        rows.append(alpha * target + beta * rest)
    return temperature**2 * mean(rows)


def nkd(student: Rows, teacher: Rows, labels: list[int], gamma: Decimal, temperature: Decimal) -> Decimal:
    rows = []
    for s, t, y in zip(student, teacher, labels, strict=True):
        target = -softmax(t, Decimal(1))[y] * softmax(s, Decimal(1))[y].ln()
        p, q = softmax(others(t, y), temperature), softmax(others(s, y), temperature)
        rows.append(target - gamma * temperature**2 * sum(a * b.ln() for a, b in zip(p, q, strict=True)))
    return mean(rows)


def correlation(left: Sequence[Decimal], right: Sequence[Decimal]) -> Decimal:
    a, b = [value - mean(left) for value in left], [value - mean(right) for value in right]
    product = total(x * y for x, y in zip(a, b, strict=True))
    return product / (total(x * x for x in a) * total(y * y for y in b)).sqrt()


def dist(student: Rows, teacher: Rows, beta: Decimal, gamma: Decimal, temperature: Decimal) -> Decimal:
    q, p = [softmax(row, temperature) for row in student], [softmax(row, temperature) for row in teacher]
    inter = 1 - mean([correlation(a, b) for a, b in zip(q, p, strict=True)])
    intra = 1 - mean([correlation(a, b) for a, b in zip(zip(*q, strict=True), zip(*p, strict=True), strict=True)])
    return temperature**2 * (beta * inter + gamma * intra)


def gram_distance(left: Rows, right: Rows) -> Decimal:
    """Squared Frobenius norm of L L^T - R R^T, entry by entry."""
    squares = Decimal(0)
    for i in range(len(left)):
        for j in range(len(left)):
            squares += (
                sum(a * b for a, b in zip(left[i], left[j], strict=True))
                - sum(a * b for a, b in zip(right[i], right[j], strict=True))
            ) ** 2
    return squares


def multi_level(student: Rows, teacher: Rows, temperatures: Sequence[Decimal]) -> Decimal:
    losses = []
    for temperature in temperatures:
        q, p = [softmax(row, temperature) for row in student], [softmax(row, temperature) for row in teacher]
        columns_q, columns_p = [list(c) for c in zip(*q, strict=True)], [list(c) for c in zip(*p, strict=True)]
        losses.append(
            kd(student, teacher, temperature)
            + gram_distance(q, p) / len(q)
            + gram_distance(columns_q, columns_p) / len(columns_q)
        )
    return mean(losses)


def standardize(rows: Rows) -> Rows:
    made = []
    for row in rows:
        centred = [value - mean(row) for value in row]
        std = (total(value**2 for value in centred) / (len(row) - 1)).sqrt()
        made.append([value / std for value in centred])
    return made


def negative(logits: Rows, negatives: list[list[bool]]) -> Decimal:
    rows = []
    for row, marks in zip(logits, negatives, strict=True):
        p = softmax(row, Decimal(1))
        rows.append(-total(total(others(p, column)).ln() for column, marked in enumerate(marks) if marked))
    return mean(rows)


def value_and_gradient(loss: Callable[[Rows], Decimal], point: Sequence[Sequence[float]]) -> tuple[float, Rows]:
    """The loss at a point and its gradient by central differences."""
    with localcontext() as context:
        context.prec = DIGITS
        rows = [[Decimal(value) for value in row] for row in point]
        value = float(loss(rows))
        gradient = [[Decimal(0)] * len(row) for row in rows]
        for i, row in enumerate(rows):
            for j, at in enumerate(row):
                row[j] = at + STEP
                above = loss(rows)
                row[j] = at - STEP
                gradient[i][j] = (above - loss(rows)) / (2 * STEP)
                row[j] = at
    return value, gradient
