"""Writes what students leave, by hand: no training."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fer_lightning.files import sha256_of
from fer_lightning.pipeline.students.config import DistillStudentRun
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.distillation import DISTILLATION_FILE, DistillationRecord
from fer_lightning.runs.ensemble import EnsembleTeacher
from fer_lightning.training.distillation.config import DistillationConfig
from tests.runs.examples import example
from tests.runs.finished_runs import write_finished_run


def taught_by(models: Sequence[Path], **fields: Any) -> list[EnsembleTeacher]:
    """Return teachers with equal shares, as an ensemble records them.

    Args:
        models: checkpoints or ONNX files; they need not be there.
        fields: of each teacher, instead of those that follow from its file.
    """
    return [
        replace(
            example(EnsembleTeacher),
            **{
                "name": f"T{number}",
                "given": str(model),
                "kind": "onnx" if model.suffix == ".onnx" else "checkpoint",
                "checkpoint": model.name,
                "checkpoint_sha256": sha256_of(model) if model.is_file() else f"{number:064x}",
                "weight": 1 / len(models),
                **fields,
            },
        )
        for number, model in enumerate(models)
    ]


def write_lesson(run_dir: Path, teachers: Sequence[EnsembleTeacher] = (), **fields: Any) -> None:
    """Write the `distillation.json` of a student.

    Args:
        run_dir: of the student.
        teachers: none: it learned from labels alone.
        fields: of the record; nothing taught it unless they say so.
    """
    without: dict[str, Any] = {"source": None, "source_sha256": None, "ensemble": None, "ensemble_sha256": None}
    record = replace(example(DistillationRecord), teachers=list(teachers), **{**without, **fields})
    write_artifact(run_dir / DISTILLATION_FILE, record)


def student(seed: int = 1, tag: str | None = None, **options: Any) -> DistillStudentRun:
    """Return the default student under a seed.

    Args:
        seed: of the run.
        tag: of the run.
        options: of distillation; none: labels alone.
    """
    run = DistillStudentRun()
    if options:
        run.distillation = DistillationConfig(**options)
    run.run.seed, run.run.tag = seed, tag
    return run


def write_student(root: Path, run: DistillStudentRun, *args: Any, sha256: str | None = None, **kwargs: Any) -> Path:
    """Write what a student of two epochs leaves, and return its directory.

    Args:
        root: of all runs.
        run: the typed run.
        args: of `write_finished_run`.
        sha256: of what taught it.
        kwargs: of `write_finished_run`.
    """
    path = write_finished_run(root, run, *args, **kwargs)
    source = run.distillation.softlabels or run.distillation.ensemble
    write_lesson(path, source=source, source_sha256=sha256)
    return path
