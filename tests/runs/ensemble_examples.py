"""Small ensembles for the tests."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.files import sha256_of
from fer_lightning.labels import EMOTIONS
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.ensemble import ENSEMBLE_FILE, Ensemble, EnsembleTeacher
from tests.runs.examples import IMAGE_SIZE, MANIFEST_SHA256, calibration_record, write_checkpoint


def teacher(path: Path, name: str, **changes: Any) -> EnsembleTeacher:
    """Return a teacher whose run directory or file this is."""
    file = path / "best.pt" if path.is_dir() else path
    plain = EnsembleTeacher(
        name=name,
        given=str(path),
        kind="checkpoint",
        checkpoint=file.name,
        checkpoint_sha256=sha256_of(file),
        canonical_digest=CanonicalSpec(size=IMAGE_SIZE).digest(),
        weight=1.0,
        calibration_temperature=1.0,
        temperature_at_bound=False,
    )
    return replace(plain, **changes)


def ensemble_of(teachers: Sequence[EnsembleTeacher], **changes: Any) -> Ensemble:
    """Return an ensemble of teachers."""
    plain = Ensemble(
        name="PAIR",
        space="logit",
        teachers=list(teachers),
        class_order=list(EMOTIONS),
        view="single",
        weights_how="given",
        manifest="manifest.csv",
        manifest_sha256=MANIFEST_SHA256,
        val_fingerprint="ef" * 32,
        val_rows=10,
        calibration=calibration_record(1.3),
    )
    return replace(plain, **changes)


def write_pair(
    root: Path,
    *,
    space: str = "logit",
    weights: Sequence[float] = (0.3, 0.7),
    temperatures: Sequence[float] = (2.0, 0.5),
) -> Path:
    """Write two tiny checkpoints and an ensemble of them, and return its folder."""
    teachers = []
    for number, (weight, temperature) in enumerate(zip(weights, temperatures, strict=True)):
        run_dir = root / f"run{number}"
        run_dir.mkdir(parents=True, exist_ok=True)
        write_checkpoint(run_dir / "best.pt", seed=number)
        teachers.append(teacher(run_dir, f"T{number}", weight=weight, calibration_temperature=temperature))
    return write_ensemble(root / "PAIR", ensemble_of(teachers, space=space))


def write_ensemble(folder: Path, ensemble: Ensemble) -> Path:
    """Write `ensemble.json` and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_artifact(folder / ENSEMBLE_FILE, ensemble)
    return folder
