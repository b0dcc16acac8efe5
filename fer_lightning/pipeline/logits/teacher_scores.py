"""The logits of several teachers on the very same rows: models inferred in one pass where they have not been, files as they are."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.files import FileStamp, stamp_of
from fer_lightning.pipeline.evaluation.config import EvaluateRun
from fer_lightning.pipeline.logits.scores import MIRROR, Asked, all_scores, ask, folder_of
from fer_lightning.pipeline.logits.teacher_models import TeacherModel
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows
from fer_lightning.pipeline.rows.rows_of_models import rows_of_models, rows_without_models
from fer_lightning.runs.stored_logits_record import STORED_FILES

if TYPE_CHECKING:
    from fer_lightning.data.batches.crop_views import CropView
    from fer_lightning.pipeline.logits.given_logits import GivenLogits
    from fer_lightning.runs.stored_logits import StoredLogits

_RUN_FILES = ("config.yaml", "alignmentreport.json", "calibration.json")
_MOST_REMEMBERED = 8

Stamps = tuple[tuple[str, FileStamp | None], ...]


@dataclass(frozen=True)
class TeacherScores:
    """Logits of every teacher on the same rows in the same order."""

    single: "list[StoredLogits]"
    """Through the view of the run."""
    mirror: "list[StoredLogits] | None"
    """Of the mirror images alone."""
    crops: "list[list[StoredLogits]]"
    """crops[k][m]: crop k of teacher m."""


_scores: "OrderedDict[str, tuple[Stamps, TeacherScores]]" = OrderedDict()


def _stamps(paths: Iterable[Path]) -> Stamps:
    return tuple((str(path), stamp_of(path)) for path in paths)


def _requests(
    run: EvaluateRun,
    teachers: Sequence[TeacherModel],
    rows: Sequence[EvaluationRows],
    views: "Sequence[tuple[str, CropView | None]]",
) -> list[Asked]:
    """Return what is asked of the models: view by view, model by model."""
    models = [teacher.model for teacher in teachers if teacher.model is not None]
    first = ask(models[0], rows[0], run.evaluate.view.value)
    return [
        replace(first, model=model, rows=of_model, view=view, crop=crop)
        for view, crop in views
        for model, of_model in zip(models, rows, strict=True)
    ]


def _of_all(
    run: EvaluateRun,
    teachers: Sequence[TeacherModel],
    split: str,
    views: "Sequence[tuple[str, CropView | None]]",
    *,
    option: str,
) -> "tuple[list[list[StoredLogits]], list[Path]]":
    """Return the logits of each view and teacher, and the files that they depend on."""
    models = [teacher.model for teacher in teachers if teacher.model is not None]
    given: dict[int, GivenLogits] = {}
    if len(models) < len(teachers):
        from fer_lightning.pipeline.logits.given_logits import open_given_logits  # OpenCV and torch

        given = {
            number: open_given_logits(teacher.folder, option=option)
            for number, teacher in enumerate(teachers)
            if teacher.folder is not None
        }
    rows: Sequence[EvaluationRows | None] = (
        rows_of_models(run, [model.path for model in models], split, option=option)
        if models
        else [rows_without_models(run, split, option=option)]
    )
    files = [file for one in given.values() for folder in one.folders for file in _files_of(folder)]
    if rows[0] is None:
        return _of_given_alone(list(given.values()), split, [view for view, _ in views]), files
    # What is given as such is looked at first: it is refused in a moment, and models are inferred for hours.
    of_given = {number: _given_views(one, rows[0], views) for number, one in given.items()}
    of_models: list[StoredLogits] = []
    if models:
        asked = _requests(run, teachers, [one for one in rows if one is not None], views)
        of_models = all_scores(asked, run, option=option, any_type=True)
        files += [file for one in asked for file in _files_of_request(one, run)]
    files.append(Path(rows[0].manifest))
    inferred = iter(of_models)
    return [
        [of_given[number][place] if number in of_given else next(inferred) for number in range(len(teachers))]
        for place in range(len(views))
    ], files


def _files_of(folder: Path) -> list[Path]:
    return [folder / name for name in STORED_FILES]


def _files_of_request(asked: Asked, run: EvaluateRun) -> list[Path]:
    run_dir = asked.model.path.parent
    folders = (folder_of(asked, run), folder_of(replace(asked, dtype="float16"), run))
    stored = [file for folder in folders for file in _files_of(folder)]
    return [asked.model.path, *(run_dir / name for name in _RUN_FILES), *stored]


def _given_views(
    given: "GivenLogits", rows: EvaluationRows, views: "Sequence[tuple[str, CropView | None]]"
) -> "list[StoredLogits]":
    from fer_lightning.pipeline.logits.given_logits import on_rows

    return [on_rows(given, rows, view) for view, _ in views]


def _of_given_alone(given: "Sequence[GivenLogits]", split: str, views: Sequence[str]) -> "list[list[StoredLogits]]":
    from fer_lightning.pipeline.logits.given_logits import alike, common_rows

    fingerprint = common_rows(given, split, views[0])
    return [alike(given, fingerprint, split, view) for view in views]


def teacher_scores(
    run: EvaluateRun,
    teachers: Sequence[TeacherModel],
    split: str,
    *,
    option: str,
    mirror: bool = False,
    crops: "Sequence[CropView]" = (),
) -> TeacherScores:
    """Return the logits of teachers on the very same rows in the same order.

    Without `data.manifest` the rows are those that the first teacher with a run has recorded, and every other one must have
    the same. What is not stored yet is inferred in one pass over the pictures. A later call of the same process
    with the same options gets the same objects, as long as no file that they come from has changed (pictures are looked at by
    the first call); they are not to be written to.

    Args:
        run: rows, view, loader, device and folder.
        teachers: as opened by `open_teachers`.
        split: whose rows.
        option: the option that named the teachers, for messages.
        mirror: also the logits of the mirror images.
        crops: also the logits of these crops.

    Raises:
        FerError: teachers with different rows or labels, rows that one was trained on, another view, or damaged files.
    """
    single = run.evaluate.view.value
    views = [(single, None), *([(MIRROR, None)] if mirror else []), *((crop.name, crop) for crop in crops)]
    given = [(teacher.given, teacher.model, teacher.folder) for teacher in teachers]
    key = repr((Path.cwd(), run.run.root, run.evaluate, run.data, run.source_filter, given, split, option, views))
    known = _scores.get(key)
    if known is not None and run.evaluate.reuse_logits and known[0] == _stamps(Path(path) for path, _ in known[0]):
        _scores.move_to_end(key)
        return known[1]
    parts, files = _of_all(run, teachers, split, views, option=option)
    crops_from = 2 if mirror else 1
    found = TeacherScores(parts[0], parts[1] if mirror else None, parts[crops_from:])
    _scores[key] = (_stamps(dict.fromkeys(files)), found)
    while len(_scores) > _MOST_REMEMBERED:
        _scores.popitem(last=False)
    return found
