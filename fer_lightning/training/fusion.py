"""Fuses stored logits of teachers: each divided by its temperature, then averaged in one of two spaces."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from fer_lightning.functional.calibration import fit_temperature
from fer_lightning.functional.fusion import fuse_log_probs, fuse_logits
from fer_lightning.functional.teacher_scales import cross_fitted_temperatures
from fer_lightning.runs.artifacts import CalibrationRecord
from fer_lightning.runs.ensemble import ENSEMBLE_FILE, EnsembleTeacher
from fer_lightning.runs.ensemble_file import fusion_text, most_seen
from fer_lightning.runs.stored_logits import StoredLogits
from fer_lightning.runs.stored_logits_record import StoredLogitsRecord

_FUSE = {"logit": fuse_logits, "prob": fuse_log_probs}


@dataclass(frozen=True)
class Fusion:
    """How the logits of M teachers are averaged."""

    space: str
    """`logit`: weighted mean of logits. `prob`: logarithm of the weighted mean of softmaxes."""
    weights: tuple[float, ...]
    """(M,) >= 0, sum 1."""
    temperatures: tuple[float, ...]
    """(M,) > 0; each teacher's logits are divided by its own first."""

    def __post_init__(self) -> None:
        """Refuse what cannot be computed; the weights are checked where they are used."""
        if self.space not in _FUSE:
            raise ValueError(f"space must be one of {', '.join(_FUSE)}, got {self.space!r}")
        if len(self.temperatures) != len(self.weights):
            raise ValueError(
                f"{len(self.temperatures)} temperatures for {len(self.weights)} weights; one of each a teacher"
            )
        if not all(math.isfinite(temperature) and temperature > 0 for temperature in self.temperatures):
            raise ValueError(f"temperatures must be positive and finite, got {self.temperatures}")


def fusion_of(teachers: Sequence[EnsembleTeacher], space: str) -> Fusion:
    """Return how the teachers of an ensemble are averaged where it is deployed."""
    return Fusion(
        space=space,
        weights=tuple(teacher.weight for teacher in teachers),
        temperatures=tuple(teacher.calibration_temperature for teacher in teachers),
    )


@dataclass(frozen=True, eq=False)
class ScaledTeachers:
    """Logits of teachers, each on a scale of its own choosing or on a common one."""

    logits: Tensor
    """(M, N, 7) float64."""
    temperatures: tuple[float, ...]
    """To deploy; 1 where nothing was fitted."""
    at_bound: tuple[bool, ...]


def fused_logits(teacher_logits: Tensor, fusion: Fusion) -> Tensor:
    """Divide each teacher's logits by its temperature, and average them.

    Args:
        teacher_logits: (M, N, 7) float.
        fusion: how.

    Returns:
        (N, 7) logits, or log-probabilities in the `prob` space; float64 for float64, otherwise float32.

    Raises:
        ValueError: shapes that do not fit; weights that are negative, not finite, or do not sum to 1.
    """
    if len(teacher_logits) != len(fusion.temperatures):
        raise ValueError(f"logits of {len(teacher_logits)} teachers, but {len(fusion.temperatures)} weights")
    temperatures = torch.tensor(fusion.temperatures, dtype=torch.float64, device=teacher_logits.device)
    scaled = teacher_logits / temperatures.to(teacher_logits.dtype).view(-1, 1, 1)
    return _FUSE[fusion.space](scaled, fusion.weights)


def scaled_teachers(stored: Sequence[StoredLogits], *, scale: bool, num_folds: int) -> ScaledTeachers:
    """Bring teachers to a common scale, so that no row is scaled by a temperature that has seen it.

    The logits of each row are divided by a temperature fitted on the other folds; the temperatures returned are those of
    all rows. Where all rows are linked there is but one fold, and these are used for the rows too.

    Args:
        stored: of each teacher, on the same rows in the same order.
        scale: fit temperatures; they are 1 otherwise.
        num_folds: of cross-fitting.

    Raises:
        ValueError: temperatures are asked for on rows that are no val rows.
    """
    logits = torch.stack([one.logits for one in stored]).double()
    if not scale:
        return ScaledTeachers(logits, (1.0,) * len(stored), (False,) * len(stored))
    split, labels = stored[0].record.split, stored[0].labels
    if split != "val":
        raise ValueError(f"temperatures of teachers are fitted on val only, not on {split}")
    fits = [fit_temperature(one, labels) for one in logits]
    of_rows = cross_fitted_temperatures(logits, labels, stored[0].folds(num_folds))
    temperatures = tuple(fit.temperature for fit in fits)
    return ScaledTeachers(logits / of_rows.unsqueeze(2), temperatures, tuple(fit.at_bound for fit in fits))


def _record(used: Sequence[StoredLogitsRecord], logits: Tensor, *, folder: Path, sha256: str) -> StoredLogitsRecord:
    """Return the record of fused logits: what the teachers that have a share agree in, and nothing else."""
    first = used[0]
    same_pictures = len({record.canonical_digest for record in used}) == 1
    same_files = len({record.pictures_digest for record in used}) == 1
    return replace(
        first,
        kind="ensemble",
        dtype="float32",
        run_dir=str(folder),
        checkpoint=ENSEMBLE_FILE,
        epoch=-1,
        checkpoint_sha256=sha256,
        canonical=first.canonical if same_pictures else {},
        canonical_digest=first.canonical_digest if same_pictures else "",
        pictures_digest=first.pictures_digest if same_files else "",
        rows_seen_in_training=most_seen([record.rows_seen_in_training for record in used]),
        logits_sha256=hashlib.sha256(logits.numpy().tobytes()).hexdigest(),
        rows_sha256="",
    )


def fuse_stored(
    stored: Sequence[StoredLogits],
    fusion: Fusion,
    *,
    names: Sequence[str],
    folder: Path,
    sha256: str,
    calibration: CalibrationRecord | None,
    teacher_logits: Tensor | None = None,
) -> StoredLogits:
    """Return the logits of an ensemble on the rows that its teachers were scored on.

    Of rows seen in training the record tells the largest number that one teacher has seen.

    Args:
        stored: of each teacher, on the same rows in the same order, through the same view.
        fusion: how they are averaged.
        names: of the teachers.
        folder: of the ensemble.
        sha256: of its `ensemble.json`.
        calibration: of the fused logits, fitted on val; None where there is none.
        teacher_logits: (M, N, 7) logits that are divided by temperatures already, e.g. cross-fitted ones; they take the place
            of the stored ones and of the fusion's temperatures.

    Raises:
        ValueError: other rows, views or numbers of teachers; weights that are negative, not finite, or do not sum to 1.
    """
    if not len(stored) == len(names) == len(fusion.weights):
        raise ValueError(f"logits of {len(stored)} teachers, {len(names)} names and {len(fusion.weights)} weights")
    views = {(one.record.view, one.record.corruption) for one in stored}
    if len(views) > 1 or any(one.row_ids != stored[0].row_ids for one in stored):
        raise ValueError("logits of teachers are fused on the same rows, in the same order, through the same view only")
    if teacher_logits is None:
        fused = fused_logits(torch.stack([one.logits for one in stored]).double(), fusion).float()
    else:
        fused = fused_logits(teacher_logits, replace(fusion, temperatures=(1.0,) * len(stored))).float()
    used = [one.record for one, weight in zip(stored, fusion.weights, strict=True) if weight]
    record = _record(used, fused, folder=folder, sha256=sha256)
    what = fusion_text(fusion.space, fusion.weights, names)
    return replace(stored[0], record=replace(record, weights=what, calibration=calibration), logits=fused)
