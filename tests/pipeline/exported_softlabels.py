"""Ensembles made by hand, and exports of their soft labels."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fer_lightning.data.config import DataConfig
from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.evaluation.config import EvaluationTarget
from fer_lightning.pipeline.logits.config import LogitsType
from fer_lightning.pipeline.softlabels.config import ExportSoftlabelsRun, SoftlabelsConfig
from fer_lightning.runs.artifacts import EvaluatedCheckpoint, read_artifact, write_artifact
from fer_lightning.runs.checkpoint import read_checkpoint
from fer_lightning.runs.config import OnExisting, RunConfig
from fer_lightning.runs.ensemble import Ensemble, EnsembleMetrics, EnsembleTeacher
from tests.runs.examples import calibration_record, example


def write_ensemble(
    folder: Path,
    run_dirs: Sequence[str],
    *,
    weights: Sequence[float],
    temperatures: Sequence[float] = (),
    space: str = "logit",
    view: str = "single",
) -> str:
    """Write `ensemble.json`, and return its folder as an option takes it."""
    teachers = [
        EnsembleTeacher(
            name=Path(run_dir).name,
            given=run_dir,
            kind="checkpoint",
            checkpoint="best.pt",
            checkpoint_sha256=hashlib.sha256((Path(run_dir) / "best.pt").read_bytes()).hexdigest(),
            canonical_digest=read_checkpoint(Path(run_dir) / "best.pt", option="x").canonical.digest(),
            weight=weight,
            calibration_temperature=temperature,
            temperature_at_bound=False,
        )
        for run_dir, weight, temperature in zip(run_dirs, weights, temperatures or [1.0] * len(run_dirs), strict=True)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    made = replace(example(Ensemble), name=folder.name, space=space, view=view, class_order=list(EMOTIONS))
    fitted = calibration_record()
    made = replace(made, teachers=teachers, calibration=fitted, val_fingerprint=fitted.fitted_on_fingerprint)
    write_artifact(folder / "ensemble.json", made)
    return str(folder)


def write_figures(folder: str, temperatures: dict[str, float]) -> None:
    """Write `ensemble_metrics.json` beside an ensemble: each of some teachers judged alone, with a temperature fitted on val."""
    ensemble = read_artifact(Path(folder) / "ensemble.json", Ensemble)
    judged: EvaluatedCheckpoint = example(EvaluatedCheckpoint)
    teachers = {
        teacher.name: [
            replace(
                judged,
                checkpoint_sha256=teacher.checkpoint_sha256,
                calibration=calibration_record(temperatures[teacher.name]),
            )
        ]
        for teacher in ensemble.teachers
        if teacher.name in temperatures
    }
    write_artifact(
        Path(folder) / "ensemble_metrics.json", replace(example(EnsembleMetrics), evaluated=[judged], teachers=teachers)
    )


def export_run(
    ensemble: str | None,
    *,
    root: str = "out",
    tag: str | None = None,
    seed: int = 1337,
    resume: bool = False,
    dtype: str = "float16",
    data: DataConfig | None = None,
    evaluate: dict[str, Any] | None = None,
    **softlabels: Any,
) -> ExportSoftlabelsRun:
    """Return the run of an export on the CPU."""
    on_existing = OnExisting.resume if resume else OnExisting.fail
    return ExportSoftlabelsRun(
        run=RunConfig(root=root, tag=tag, seed=seed, on_existing=on_existing),
        evaluate=EvaluationTarget(accelerator="cpu", batch_size=4, **(evaluate or {})),
        data=data or DataConfig(manifest="manifest.csv", num_workers=0),
        softlabels=SoftlabelsConfig(ensemble=ensemble, dtype=LogitsType(dtype), **softlabels),
    )


def only_export(root: str = "out") -> Path:
    """Return the folder of the only export."""
    (folder,) = (Path(root) / "softlabels").iterdir()
    return folder
