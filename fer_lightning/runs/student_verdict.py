"""The verdict on distilled students: chosen on val, judged on test, held against four targets."""

from collections.abc import Sequence

from fer_lightning.runs.student_comparison import (
    ArmDifference,
    ComparedEnsemble,
    ComparedStudent,
    JudgedArm,
    JudgedSplit,
    StudentArm,
    StudentTarget,
    StudentVerdict,
)

LEAST_RETENTION, LARGEST_PARAMETER_SHARE = 0.97, 0.25


def _split(splits: Sequence[JudgedSplit], name: str) -> JudgedSplit | None:
    return next((judged for judged in splits if judged.split == name), None)


def best_distilled(arms: Sequence[StudentArm], judged: JudgedSplit, *, baseline: str) -> str | None:
    """Return the distilled arm, the baseline apart, of the highest raw macro-F1; None where there is none."""
    distilled = [arm.name for arm in arms if arm.distils and arm.name != baseline]
    return max(distilled, key=lambda name: judged.arms[name].raw.figures["macro_f1"].mean, default=None)


def parameter_share(student: ComparedStudent, ensemble: ComparedEnsemble | None) -> float | None:
    """Return the student's parameters as a share of the ensemble's; None where these are not known."""
    if ensemble is None or not ensemble.num_parameters:
        return None
    return student.num_parameters / ensemble.num_parameters


def _above(value: float, limit: float) -> StudentTarget:
    return StudentTarget(met=value > limit, value=value, limit=limit)


def _below(value: float, limit: float) -> StudentTarget:
    return StudentTarget(met=value < limit, value=value, limit=limit)


def _at_least(value: float, limit: float) -> StudentTarget:
    return StudentTarget(met=value >= limit, value=value, limit=limit)


def _to_baseline(judged: JudgedArm, *, calibrated: bool) -> dict[str, ArmDifference]:
    figures = judged.scaled if calibrated and judged.scaled is not None else judged.raw
    return figures.differences or {}


def verdict_of(
    arms: Sequence[StudentArm],
    splits: Sequence[JudgedSplit],
    *,
    baseline: str,
    student: ComparedStudent,
    ensemble: ComparedEnsemble | None,
) -> StudentVerdict | None:
    """Choose the best distilled arm by its macro-F1 on val, and hold its figures on test against the targets.

    The targets: the lower limit of the difference in macro-F1 to the baseline (paired over rows) lies above 0; NLL and
    ECE, as deployed, are lower than the baseline's; at least 97 % of the ensemble's macro-F1 at less than a quarter of its
    parameters. Without test rows, val judges too, which flatters the arm it has chosen.

    Args:
        arms: all of them.
        splits: as judged; val among them.
        baseline: name of the arm that differences are taken to.
        student: the network.
        ensemble: the teacher.

    Returns:
        The verdict; None without val rows or a distilled arm.
    """
    val, test = _split(splits, "val"), _split(splits, "test")
    chosen = None if val is None else best_distilled(arms, val, baseline=baseline)
    if val is None or chosen is None:
        return None
    judged = (test or val).arms[chosen]
    calibrated = judged.scaled is not None and judged.scaled.differences is not None
    deployed = _to_baseline(judged, calibrated=calibrated)
    macro_f1 = _to_baseline(judged, calibrated=False)["macro_f1"]
    of_both = macro_f1.low_of_rows_and_seeds
    share = parameter_share(student, ensemble)
    targets = (
        _above(macro_f1.low, 0.0),
        _below(deployed["nll"].difference, 0.0),
        _below(deployed["ece"].difference, 0.0),
    )
    retention = None if judged.retention is None else _at_least(judged.retention, LEAST_RETENTION)
    smaller = None if share is None else _below(share, LARGEST_PARAMETER_SHARE)
    keeps = None if retention is None or smaller is None else retention.met and smaller.met
    return StudentVerdict(
        arm=chosen,
        baseline=baseline,
        chosen_on="val",
        judged_on=(test or val).split,
        calibrated=calibrated,
        macro_f1=targets[0],
        macro_f1_over_seeds=None if of_both is None else _above(of_both, 0.0),
        nll=targets[1],
        ece=targets[2],
        retention=retention,
        parameter_share=smaller,
        keeps_the_ensemble=keeps,
        all_met=all(target.met for target in targets) and keeps is True,
    )
