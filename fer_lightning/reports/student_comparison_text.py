"""What a comparison of students says in sentences: whether it is fair, what decides, what intervals cover, the verdict."""

from collections.abc import Callable

from fer_lightning.reports.leaderboard_cells import NONE, bare
from fer_lightning.runs.student_comparison import (
    ArmDifference,
    ArmFigures,
    JudgedArm,
    JudgedSplit,
    StartedFrom,
    StudentArm,
    StudentComparison,
    StudentTarget,
    StudentVerdict,
)

_BUDGET: dict[str, Callable[[StudentArm], str]] = {
    "epochs": lambda arm: f"{arm.budget.epochs}",
    "optimizer steps": lambda arm: f"{arm.budget.optimizer_steps:,}",
    "train rows": lambda arm: f"{arm.budget.train_rows:,}",
    "image size": lambda arm: f"{arm.budget.image_size} px",
    "batch size": lambda arm: f"{arm.budget.batch_size}",
    "augmentation": lambda arm: arm.budget.augmentation,
    "starting weights": lambda arm: ", ".join(dict.fromkeys(map(_start, arm.budget.init))),
}


def _start(start: StartedFrom) -> str:
    digest = "" if start.sha256 is None else f" ({start.sha256[:8]})"
    source = "" if start.source == start.kind else f" {start.source}"
    return f"{start.kind}{source}{digest}"


def signed(number: float) -> str:
    """Return a number with its sign, e.g. `+.0123`."""
    return f"{'-' if number < 0 else '+'}{bare(abs(number))}"


def limits_text(low: float | None, high: float | None, shown: Callable[[float], str] = signed) -> str:
    """Return an interval, `-` where there is none."""
    return NONE if low is None or high is None else f"[{shown(low)}, {shown(high)}]"


def difference_text(difference: ArmDifference | None) -> str:
    """Return a difference with its interval over rows."""
    if difference is None:
        return NONE
    return f"{signed(difference.difference)} {limits_text(difference.low, difference.high)}"


def p_text(p_value: float) -> str:
    """Return a p-value, e.g. `.012`."""
    return "< .001" if p_value < 0.001 else f"{p_value:.3f}".replace("0.", ".", 1)


def deployed(judged: JudgedArm) -> ArmFigures:
    """Return an arm's calibrated figures, raw ones where there are none."""
    return judged.raw if judged.scaled is None else judged.scaled


def unequal(comparison: StudentComparison) -> list[str]:
    """Return what the arms were not given alike, one sentence each; empty for equal budgets."""
    found = []
    for what, text in _BUDGET.items():
        values = {arm.name: text(arm) for arm in comparison.arms}
        if len(set(values.values())) > 1:
            found.append(f"{what} differ: {'; '.join(f'{name} {value}' for name, value in values.items())}")
    return found


def _equal(comparison: StudentComparison) -> str:
    first = comparison.arms[0]
    same = [
        f"{what} {text(first)}" for what, text in _BUDGET.items() if len({text(arm) for arm in comparison.arms}) == 1
    ]
    return f"every arm has the same seeds ({', '.join(map(str, comparison.seeds))}), {', '.join(same)}"


def fairness(comparison: StudentComparison) -> list[str]:
    """Return what all arms have in common, then loudly what they have not."""
    return [_equal(comparison), *(f"NOT AN EQUAL BUDGET: {sentence}" for sentence in unequal(comparison))]


def what_decides(comparison: StudentComparison) -> str:
    """Return which split chooses and which one judges."""
    splits = [judged.split for judged in comparison.splits]
    if "val" not in splits:
        return f"figures are of {' and '.join(splits)}; without val rows no arm is chosen"
    choice = "val chose each run's best epoch, its calibrator and the best distilled arm"
    if "test" not in splits:
        return f"{choice}, and judges too, which flatters what it has chosen: there are no test rows"
    return f"{choice}; test judges, and nothing was chosen or fitted on it"


def what_intervals_cover(judged: JudgedSplit, num_seeds: int) -> list[str]:
    """Return what each kind of interval says, and what it does not."""
    share, seeds = f"{100 * judged.confidence:g} %", f"{num_seeds} seed{'s' * (num_seeds != 1)}"
    notes = [
        f"figures are means over {seeds}; differences are arm less baseline, seed by seed",
        f"over rows ({share}, {judged.num_resamples} resamples of linked rows): what other rows would show of the networks trained",
        "of ECE alone the interval is of the true error, and may lie below the figure: chance alone makes an ECE larger than it is",
        "p-values: rows swapped between the arms, linked ones and all seeds together",
    ]
    if num_seeds == 1:
        return [*notes, "one seed says nothing about what another one would give"]
    return [
        *notes,
        f"over seeds ({share}, Student t): what other seeds would show on these very rows",
        f"over rows and seeds ({share}, conservative): what other seeds would show on other rows, so what is true of the objective",
    ]


def _target(name: str, target: StudentTarget, told: str) -> str:
    return f"{'met' if target.met else 'NOT MET'}: {name}: {told}"


def _against(verdict: StudentVerdict, judged: JudgedArm, figure: str, target: StudentTarget, label: str) -> str:
    figures = deployed(judged) if verdict.calibrated and figure != "macro_f1" else judged.raw
    change = None if figures.differences is None else figures.differences[figure]
    p_value = "" if change is None else f", p {p_text(change.p_value)}"
    return _target(label, target, f"{difference_text(change)}{p_value}")


def verdict_text(comparison: StudentComparison) -> list[str]:
    """Return the verdict: a sentence, then a line for each target."""
    verdict = comparison.verdict
    if verdict is None:
        return ["no verdict: there is no distilled arm, or there are no val rows to choose it by"]
    judged = next(each for each in comparison.splits if each.split == verdict.judged_on).arms[verdict.arm]
    how = "calibrated" if verdict.calibrated else "raw"
    beats = "beats" if verdict.macro_f1.met else "does not beat"
    same = "" if verdict.judged_on != verdict.chosen_on else ", which has chosen it and flatters it"
    outcome = f"{beats} {verdict.baseline} on {verdict.judged_on}{same}"
    reached = "all targets are met" if verdict.all_met else "not all targets are met"
    lines = [
        f"{verdict.arm}, the best distilled arm by {verdict.chosen_on} macro-F1, {outcome}; {reached}",
        _against(verdict, judged, "macro_f1", verdict.macro_f1, "macro-F1 higher, interval over rows above 0"),
        _against(verdict, judged, "nll", verdict.nll, f"NLL lower ({how})"),
        _against(verdict, judged, "ece", verdict.ece, f"ECE lower ({how})"),
    ]
    if verdict.retention is not None:
        told = f"{100 * verdict.retention.value:.2f} % (at least {100 * verdict.retention.limit:g} %)"
        lines.append(_target("keeps the ensemble's macro-F1", verdict.retention, told))
    if verdict.parameter_share is not None:
        told = f"{100 * verdict.parameter_share.value:.1f} % (less than {100 * verdict.parameter_share.limit:g} %)"
        lines.append(_target("share of the ensemble's parameters", verdict.parameter_share, told))
    if verdict.macro_f1_over_seeds is not None:
        holds = (
            "above 0 as well" if verdict.macro_f1_over_seeds.met else "not above 0: other seeds might decide otherwise"
        )
        limit = signed(verdict.macro_f1_over_seeds.value)
        lines.append(f"over rows and seeds, the lower limit of the macro-F1 difference is {limit}, {holds}")
    return lines
