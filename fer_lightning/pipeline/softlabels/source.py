"""What soft labels are exported of: an ensemble as its folder says, or a single teacher, and the logits of either."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.ensembles.recorded_teachers import check_recorded, open_recorded
from fer_lightning.pipeline.logits.teacher_models import TeacherModel, open_teachers
from fer_lightning.pipeline.logits.teacher_scores import teacher_scores
from fer_lightning.pipeline.softlabels.config import ExportSoftlabelsRun
from fer_lightning.runs.ensemble import Ensemble, EnsembleTeacher
from fer_lightning.runs.ensemble_file import ensemble_file, is_ensemble, read_ensemble
from fer_lightning.runs.ensemble_teachers import with_a_share
from fer_lightning.runs.fitted_temperatures import fitted_temperature, teacher_temperatures

if TYPE_CHECKING:
    from torch import Tensor

    from fer_lightning.data.batches.crop_views import CropView
    from fer_lightning.runs.stored_logits import StoredLogits

OPTION = "softlabels.ensemble"


@dataclass(frozen=True)
class Source:
    """Whose logits are exported."""

    given: str
    name: str
    """Of the ensemble's folder, or of the teacher's run."""
    teachers: tuple[TeacherModel, ...]
    """Those that have a share."""
    ensemble: Ensemble | None
    """None: a single teacher, whose calibration its logits tell."""
    content: bytes | None
    """Of `ensemble.json`, byte for byte."""
    temperatures: tuple[float | None, ...]
    """Of the raw logits of the ensemble's teachers, fitted on its val rows; empty for a single teacher."""

    def shares(self, stored: "Sequence[StoredLogits]") -> list[EnsembleTeacher]:
        """Return the teachers that have a share, as an ensemble records them.

        Args:
            stored: logits of each.
        """
        if self.ensemble is not None:
            return with_a_share(self.ensemble.teachers)
        record = stored[0].record
        teacher = EnsembleTeacher(
            name=self.teachers[0].name,
            given=self.given,
            kind=record.kind,
            checkpoint=record.checkpoint,
            checkpoint_sha256=record.checkpoint_sha256,
            canonical_digest=record.canonical_digest,
            weight=1.0,
            calibration_temperature=1.0,
            temperature_at_bound=False,
        )
        return [teacher]

    def fitted(self, stored: "Sequence[StoredLogits]") -> list[float | None]:
        """Return the calibration temperature of each teacher's raw logits; a single one has that of its own run.

        Args:
            stored: logits of each that has a share.
        """
        if self.ensemble is not None:
            return list(self.temperatures)
        alone = self.as_ensemble(stored)
        return [fitted_temperature(alone.calibration, alone.val_fingerprint)]

    def as_ensemble(self, stored: "Sequence[StoredLogits]") -> Ensemble:
        """Return the ensemble; a single teacher is one of its own, uncalibrated but for what its run has recorded."""
        if self.ensemble is not None:
            return self.ensemble
        record = stored[0].record
        calibration = record.calibration
        return Ensemble(
            name=self.name,
            space="logit",
            teachers=self.shares(stored),
            class_order=list(EMOTIONS),
            view="single",
            weights_how="a single teacher",
            manifest=record.manifest,
            manifest_sha256=record.manifest_sha256,
            val_fingerprint="" if calibration is None else calibration.fitted_on_fingerprint,
            val_rows=0 if calibration is None else calibration.fitted_on_rows,
            calibration=calibration,
        )


@dataclass(frozen=True, eq=False)
class FusedSplit:
    """Logits of a split, of each teacher and fused."""

    split: str
    stored: "list[StoredLogits]"
    """Of each teacher that has a share."""
    logits: "list[Tensor]"
    """(N, 7) float64 of each view: the plain one, the mirror image, crops."""
    teacher_logits: "list[list[Tensor]]"
    """[view][teacher]: (N, 7) float32, not divided by its temperature."""


def _teacher_name(given: str) -> str:
    path = Path(given).absolute()
    return path.name if path.is_dir() else f"{path.parent.name}_{path.name}"


def _check_view(ensemble: Ensemble) -> None:
    if ensemble.view != "single":
        raise FerError(
            f"{OPTION}: {ensemble.name} was chosen and calibrated on view {ensemble.view}, while soft labels are of single pictures: "
            "its calibration would not be theirs. Fuse the teachers again with evaluate.view=single"
        )


def open_source(given: str | None) -> Source:
    """Return what is exported, checked as far as that is possible without loading torch.

    A teacher of weight 0 is neither opened nor inferred.

    Raises:
        FerError: nothing was given, it is neither an ensemble nor a teacher, it was chosen on another view, or another
            checkpoint lies where a teacher lay.
    """
    if given is None:
        raise FerError(f"{OPTION}=<folder of an ensemble, run directory, checkpoint or ONNX file> is needed")
    if not is_ensemble(given):
        teachers = open_teachers([given], [], option=OPTION)
        return Source(given, _teacher_name(given), teachers, None, None, ())
    file = ensemble_file(Path(given))
    ensemble = read_ensemble(file, option=OPTION)
    _check_view(ensemble)
    teachers = open_recorded(ensemble, where=f"{OPTION}: {file}", option=OPTION)
    temperatures = tuple(teacher_temperatures(ensemble, file.parent))
    return Source(given, file.absolute().parent.name, teachers, ensemble, file.read_bytes(), temperatures)


def crop_views(run: ExportSoftlabelsRun) -> "list[CropView]":
    """Return the crops that are asked for."""
    from fer_lightning.data.batches.crop_views import CropView  # OpenCV and torch

    options = run.softlabels
    return [
        CropView(index, run.run.seed, options.crop_scale_min, options.crop_ratio_max) for index in range(options.crops)
    ]


def fused_split(run: ExportSoftlabelsRun, source: Source, split: str) -> FusedSplit:
    """Return the logits of a split, each teacher divided by the temperature that is deployed.

    On the val rows too, where a temperature has seen what it is applied to: a student learns from what is deployed.

    Raises:
        FerError: anything wrong with rows or teachers.
    """
    import torch

    from fer_lightning.training.fusion import fused_logits, fusion_of

    scores = teacher_scores(
        run, source.teachers, split, option=OPTION, mirror=run.softlabels.flip, crops=crop_views(run)
    )
    if source.ensemble is not None:
        check_recorded(source.ensemble, scores.single, where=f"{OPTION}: {source.given}")
    shares = source.shares(scores.single)
    fusion = fusion_of(shares, "logit" if source.ensemble is None else source.ensemble.space)
    views = [scores.single, *([scores.mirror] if scores.mirror is not None else []), *scores.crops]
    of_teachers = [[one.logits for one in view] for view in views]
    fused = [fused_logits(torch.stack(own).double(), fusion) for own in of_teachers]
    return FusedSplit(split, scores.single, fused, of_teachers)


def ensemble_content(source: Source, stored: "Sequence[StoredLogits]") -> bytes:
    """Return the `ensemble.json` of the export: the ensemble's own bytes, or those of a single teacher's."""
    from fer_lightning.runs.artifacts import to_json

    return source.content if source.content is not None else f"{to_json(source.as_ensemble(stored))}\n".encode()
