"""Comparisons of students for the tests, judged from made-up logits: no model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from fer_lightning.runs.artifacts import CalibrationRecord
from fer_lightning.runs.stored_logits import StoredLogits
from fer_lightning.runs.student_comparison import (
    ComparedEnsemble,
    ComparedStudent,
    JudgedSplit,
    StartedFrom,
    StudentArm,
    StudentComparison,
    TrainingBudget,
)
from fer_lightning.runs.student_verdict import verdict_of
from fer_lightning.training.student_comparison import judge_arms
from tests.runs.stored_scores import stored_scores

NOISES = {"ce": (2.2, 2.1, 2.3), "kd": (1.9, 1.95, 1.85), "dkd": (1.6, 1.7, 1.65)}
"""Arm -> noise of each seed's logits: the less, the better."""
STUDENT = ComparedStudent(backbone="mobilenetv3_large_100", num_parameters=4_211_000)
ENSEMBLE = ComparedEnsemble(name="T3", path="../ensembles/T3", sha256="e5" * 32, num_parameters=50_000_000)


def temperature(value: float) -> CalibrationRecord:
    """Return a temperature fitted on val rows that are none of these."""
    return CalibrationRecord(
        method="temperature",
        parameters={"temperature": value},
        calibration_temperature=value,
        at_bound=False,
        conformal_alpha=0.1,
        conformal_threshold=0.8,
        fitted_on_split="val",
        fitted_on_rows=100,
        fitted_on_fingerprint="f1" * 32,
    )


def students(
    noises: Mapping[str, Sequence[float]] = NOISES,
    *,
    num_rows: int = 300,
    split: str = "test",
    factor: float = 2.0,
    classes: Sequence[int] = range(7),
    calibrated: bool = True,
) -> tuple[dict[str, list[StoredLogits]], StoredLogits]:
    """Return stored logits of each arm and seed, overconfident by a factor, and those of a better ensemble."""
    random = torch.Generator().manual_seed(num_rows + len(split))
    truth = 2 * torch.randn(num_rows, 7, generator=random)
    labels = torch.tensor(classes)[torch.multinomial(truth[:, list(classes)].softmax(1), 1, generator=random)[:, 0]]
    record = temperature(factor * 1.4) if calibrated else None

    def stored(noise: float, digest: str) -> StoredLogits:
        logits = factor * (truth + noise * torch.randn(num_rows, 7, generator=random))
        groups = torch.arange(num_rows) // 2
        return stored_scores(logits, labels, split=split, groups=groups, checkpoint_sha256=digest, calibration=record)

    arms = {
        name: [stored(noise, f"{place}{seed}" * 32) for seed, noise in enumerate(of_seeds)]
        for place, (name, of_seeds) in enumerate(noises.items())
    }
    return arms, stored(1.2, "ee" * 32)


def judged(
    noises: Mapping[str, Sequence[float]] = NOISES, *, num_resamples: int = 100, **options: object
) -> JudgedSplit:
    """Return the arms judged on made-up rows; the first one is the baseline."""
    arms, ensemble = students(noises, **options)  # type: ignore[arg-type]  # by name
    return judge_arms(arms, ensemble, baseline=next(iter(noises)), num_resamples=num_resamples)


def arm(name: str, *, distils: bool = True, num_seeds: int = 3) -> StudentArm:
    """Return what is recorded of an arm."""
    init = StartedFrom(kind="hub", source="timm/mobilenetv3_large_100.ra_in1k", sha256="ab" * 32)
    budget = TrainingBudget(
        epochs=30,
        optimizer_steps=7020,
        train_rows=15_000,
        image_size=96,
        batch_size=64,
        augmentation="fast",
        init=[init] * num_seeds,
    )
    return StudentArm(
        name=name,
        distils=distils,
        options={"objective": name, "kd_temperature": "4"} if distils else {},
        runs=[f"students/{name}_seed{seed}" for seed in range(num_seeds)],
        checkpoint_sha256s=[f"{seed:02d}" * 32 for seed in range(num_seeds)],
        best_epochs=[20 + seed for seed in range(num_seeds)],
        kd_temperatures=[4.0 if distils else None] * num_seeds,
        budget=budget,
    )


def comparison(
    splits: Sequence[JudgedSplit], *, ensemble: ComparedEnsemble | None = ENSEMBLE, arms: Sequence[StudentArm] = ()
) -> StudentComparison:
    """Return the comparison of some judged splits, whose first arm is the baseline."""
    names = list(splits[0].arms)
    num_seeds = len(splits[0].arms[names[0]].raw.figures["nll"].values)
    told = list(arms) or [arm(name, distils=name != names[0], num_seeds=num_seeds) for name in names]
    return StudentComparison(
        name="student_comparison",
        manifest="datasets/generated/manifest.csv",
        manifest_sha256="ab" * 32,
        seeds=list(range(1, num_seeds + 1)),
        baseline=names[0],
        student=STUDENT,
        arms=told,
        ensemble=ensemble,
        splits=list(splits),
        verdict=verdict_of(told, splits, baseline=names[0], student=STUDENT, ensemble=ensemble),
    )


def with_macro_f1(split: JudgedSplit, name: str, value: float) -> JudgedSplit:
    """Return a split in which an arm has another macro-F1."""
    of_arm = split.arms[name]
    figures = {**of_arm.raw.figures, "macro_f1": replace(of_arm.raw.figures["macro_f1"], mean=value)}
    return replace(split, arms={**split.arms, name: replace(of_arm, raw=replace(of_arm.raw, figures=figures))})
