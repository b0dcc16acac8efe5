"""The logits of several teachers on the very same rows: models inferred in one pass where they have not been, files as they are."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.errors import FerError
from fer_lightning.pipeline.evaluation_config import EvaluateRun
from fer_lightning.pipeline.evaluation_rows import EvaluationRows
from fer_lightning.pipeline.scores import MIRROR, Asked, ModelFile, all_scores, ask, find_model, folder_of
from fer_lightning.pipeline.teacher_rows import rows_of_models, rows_without_models
from fer_lightning.runs.stored_logits import LOGITS_FILE, RECORD_FILE, ROWS_FILE, read_stored_record, stored_folder

if TYPE_CHECKING:
    from fer_lightning.data.batches.crop_views import CropView
    from fer_lightning.pipeline.kept_logits import Kept
    from fer_lightning.runs.stored_logits import StoredLogits

_FILES = (LOGITS_FILE, ROWS_FILE, RECORD_FILE)
_RUN_FILES = ("config.yaml", "alignmentreport.json", "calibration.json")
_MOST_REMEMBERED = 8

Stamps = tuple[tuple[str, tuple[int, int, int] | None], ...]


@dataclass(frozen=True)
class TeacherModel:
    """A teacher as an option names it."""

    name: str
    """Short, unique among the teachers."""
    given: str
    kind: str
    """`checkpoint`, `onnx` or `foreign`; of stored logits, that of the model they are of."""
    model: ModelFile | None
    """None: stored logits, of this program or another."""
    folder: Path | None
    """Of the stored logits, or of several folders of them."""


@dataclass(frozen=True)
class TeacherScores:
    """Logits of every teacher on the same rows in the same order."""

    single: "list[StoredLogits]"
    """Through the view of the run."""
    mirror: "list[StoredLogits] | None"
    """Of the mirror images alone."""
    crops: "list[list[StoredLogits]]"
    """crops[k][m]: crop k of teacher m."""


_models: dict[Path, tuple[Stamps, ModelFile]] = {}
_scores: "OrderedDict[str, tuple[Stamps, TeacherScores]]" = OrderedDict()


def _stamps(paths: Iterable[Path]) -> Stamps:
    """Return size, time of change and number of each file, by which another content is noticed."""
    return tuple((str(path), _stamp(path)) for path in paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _model(given: str, *, option: str) -> ModelFile:
    """Find a model; its digest is computed once for a job and those that follow it in the same process."""
    path = Path(given).absolute()
    path = path / "best.pt" if path.is_dir() else path
    now = _stamps([path])
    if path not in _models or _models[path][0] != now:
        _models[path] = (now, find_model(given, option=option))
    found = _models[path][1]
    return ModelFile(Path(given) / path.name if Path(given).is_dir() else Path(given), found.sha256)


def _is_kept(given: str) -> bool:
    folder = stored_folder(Path(given))
    if folder != Path(given) or (folder / RECORD_FILE).is_file():
        return True
    return folder.is_dir() and not (folder / "best.pt").is_file() and any(folder.glob(f"*/{RECORD_FILE}"))


def _first_part(run_dir: Path) -> str:
    return run_dir.absolute().name.partition("_")[0].replace("+", "-") or "model"


def _open(given: str, *, option: str) -> TeacherModel:
    if not _is_kept(given):
        model = _model(given, option=option)
        kind = "onnx" if model.path.suffix == ".onnx" else "checkpoint"
        return TeacherModel(_first_part(model.path.parent), given, kind, model, None)
    folder = stored_folder(Path(given))
    whole = folder if (folder / RECORD_FILE).is_file() else next(folder.glob(f"*/{RECORD_FILE}")).parent
    record = read_stored_record(whole, option=option)
    if record.kind == "foreign":
        name = (folder.parent if whole == folder else folder).absolute().name.replace("+", "-")
    else:
        name = _first_part(Path(record.run_dir))
    return TeacherModel(name, given, record.kind, None, folder)


def open_teachers(given: Sequence[str], names: Sequence[str], *, option: str) -> tuple[TeacherModel, ...]:
    """Return the teachers that an option names, checked as far as that is possible without loading torch.

    Args:
        given: checkpoints, ONNX files, run directories (their best.pt), folders of stored logits, or folders that hold such
            folders (a foreign model).
        names: short names in the same order; empty: the first part of each run's name, with a number where it is taken.
        option: for messages.

    Raises:
        FerError: none is given, one is neither, or two are the same file.
    """
    if not given:
        raise FerError(f"{option}=[<run directory, checkpoint, ONNX file or folder of stored logits>,...] is needed")
    teachers = [_open(one, option=option) for one in given]
    by_digest: dict[str, str] = {}
    for teacher in teachers:
        digest = teacher.model.sha256 if teacher.model is not None else str(teacher.folder)
        if digest in by_digest:
            raise FerError(f"{option} names the same model twice: {by_digest[digest]} and {teacher.given}")
        by_digest[digest] = teacher.given
    if names:
        return tuple(replace(teacher, name=name) for teacher, name in zip(teachers, names, strict=True))
    count: Counter[str] = Counter()
    numbered = []
    for teacher in teachers:
        count[teacher.name] += 1
        number = count[teacher.name]
        numbered.append(teacher if number == 1 else replace(teacher, name=f"{teacher.name}-{number}"))
    return tuple(numbered)


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
    kept: dict[int, Kept] = {}
    if len(models) < len(teachers):
        from fer_lightning.pipeline.kept_logits import open_kept  # OpenCV and torch

        kept = {
            number: open_kept(teacher.folder, option=option)
            for number, teacher in enumerate(teachers)
            if teacher.folder is not None
        }
    rows: Sequence[EvaluationRows | None] = (
        rows_of_models(run, [model.path for model in models], split, option=option)
        if models
        else [rows_without_models(run, split, option=option)]
    )
    files = [file for one in kept.values() for folder in one.folders for file in _files_of(folder)]
    if rows[0] is None:
        return _of_kept_alone(list(kept.values()), split, [view for view, _ in views]), files
    # What is given as such is looked at first: it is refused in a moment, and models are inferred for hours.
    of_kept = {number: _kept_views(one, rows[0], views) for number, one in kept.items()}
    of_models: list[StoredLogits] = []
    if models:
        asked = _requests(run, teachers, [one for one in rows if one is not None], views)
        of_models = all_scores(asked, run, option=option, any_type=True)
        files += [file for one in asked for file in _files_of_request(one, run)]
    files.append(Path(rows[0].manifest))
    inferred = iter(of_models)
    return [
        [of_kept[number][place] if number in of_kept else next(inferred) for number in range(len(teachers))]
        for place in range(len(views))
    ], files


def _files_of(folder: Path) -> list[Path]:
    return [folder / name for name in _FILES]


def _files_of_request(asked: Asked, run: EvaluateRun) -> list[Path]:
    run_dir = asked.model.path.parent
    folders = (folder_of(asked, run), folder_of(replace(asked, dtype="float16"), run))
    stored = [file for folder in folders for file in _files_of(folder)]
    return [asked.model.path, *(run_dir / name for name in _RUN_FILES), *stored]


def _kept_views(
    kept: "Kept", rows: EvaluationRows, views: "Sequence[tuple[str, CropView | None]]"
) -> "list[StoredLogits]":
    from fer_lightning.pipeline.kept_logits import kept_on_rows

    return [kept_on_rows(kept, rows, view) for view, _ in views]


def _of_kept_alone(kept: "Sequence[Kept]", split: str, views: Sequence[str]) -> "list[list[StoredLogits]]":
    from fer_lightning.pipeline.kept_logits import common_rows, kept_alike

    fingerprint = common_rows(kept, split, views[0])
    return [kept_alike(kept, fingerprint, split, view) for view in views]


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
