"""Students of seconds, and soft labels for them from two toy teachers through the real verbs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_lightning.data.config import DataConfig
from fer_lightning.models.config import BackboneConfig
from fer_lightning.pipeline.ensembles.config import EnsembleConfig, FuseEnsembleRun
from fer_lightning.pipeline.evaluation.config import EvaluationTarget
from fer_lightning.pipeline.export_softlabels import export_softlabels
from fer_lightning.pipeline.fuse_ensemble import fuse_ensemble
from fer_lightning.pipeline.students.config import DistillStudentRun
from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.runs.config import RunConfig
from fer_lightning.training.config import StageConfig, TrainerConfig
from fer_lightning.training.distillation.config import DistillationConfig, DistillationObjective
from fer_lightning.training.recipe.config import HeadKind, LossConfig, OptimizerConfig
from tests.conftest import TOY_BACKBONE, toy_run
from tests.pipeline.exported_softlabels import export_run, only_export


@dataclass(frozen=True)
class Lesson:
    """What a student can be taught by."""

    root: Path
    manifest: Path
    teachers: tuple[Path, Path]
    ensemble: Path
    softlabels: Path

    @property
    def cache(self) -> str:
        """Folder of decoded pictures."""
        return str(self.root / "cache")


def make_lesson(manifest: Path, root: Path) -> Lesson:
    """Train two teachers for an epoch, fuse them, and export soft labels of train and val with two more views."""
    teachers = []
    for seed in (1, 2):
        run = toy_run(manifest, root, epochs=1)
        run.run.seed = seed
        train_teacher(run)
        teachers.append(run.directory)
    data = DataConfig(num_workers=0)
    fuse_ensemble(
        FuseEnsembleRun(
            run=RunConfig(root=str(root), tag="both"),
            evaluate=EvaluationTarget(num_resamples=100, accelerator="cpu"),
            data=data,
            ensemble=EnsembleConfig(
                teachers=[str(path) for path in teachers], weights=[0.6, 0.4], num_weight_resamples=100
            ),
        )
    )
    (ensemble,) = (path for path in (root / "ensembles").iterdir() if path.is_dir())
    export = export_run(
        str(ensemble), root=str(root), data=data, splits=["train", "val"], flip=True, crops=1, verify_rows=4
    )
    export_softlabels(export)
    return Lesson(root, manifest, (teachers[0], teachers[1]), ensemble, only_export(str(root)))


def student_run(lesson: Lesson, root: Path, *, epochs: int = 2, seed: int = 1337, **options: Any) -> DistillStudentRun:
    """Return a student of seconds: linear head, KD from the soft labels unless told otherwise.

    Args:
        lesson: rows, and soft labels.
        root: of its run.
        epochs: of training.
        seed: of its run.
        options: of distillation.
    """
    taught: dict[str, Any] = {"softlabels": str(lesson.softlabels), **options}
    if taught.get("objective") is DistillationObjective.none:
        taught |= {"softlabels": None, "name": "labels", "ce_weight": 1.0}
    return DistillStudentRun(
        run=RunConfig(root=str(root), seed=seed),
        data=DataConfig(manifest=str(lesson.manifest), num_workers=0, cache_dir=lesson.cache),
        backbone=BackboneConfig(name=TOY_BACKBONE, short="TOY", pretrained=False, embedding_dim=32),
        stage=StageConfig(name="toy", image_size=32, epochs=epochs, batch_size=32),
        loss=LossConfig(name="cross-entropy", head=HeadKind.linear, margin_rad=0.0),
        optimizer=OptimizerConfig(lr=2e-3, warmup_epochs=0.5),
        trainer=TrainerConfig(accelerator="cpu", onnx=False),
        distillation=DistillationConfig(**taught),
    )
