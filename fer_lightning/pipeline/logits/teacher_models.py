"""Teachers as an option names them: models, or logits that are stored already; checked without loading torch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.files import FileStamp, stamp_of
from fer_lightning.pipeline.logits.model_files import ModelFile, find_model, names_stored_logits, refuse_twins
from fer_lightning.runs.stored_logits_record import read_stored_record, stored_folder, stored_folders


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


_models: dict[Path, tuple[FileStamp | None, ModelFile]] = {}


def _model(given: str, *, option: str) -> ModelFile:
    """Find a model; its digest is computed once for a job and those that follow it in the same process."""
    path = Path(given).absolute()
    path = path / "best.pt" if path.is_dir() else path
    now = stamp_of(path)
    if path not in _models or _models[path][0] != now:
        _models[path] = (now, find_model(given, option=option))
    found = _models[path][1]
    return ModelFile(Path(given) / path.name if Path(given).is_dir() else Path(given), found.sha256)


def _first_part(run_dir: Path) -> str:
    return run_dir.absolute().name.partition("_")[0].replace("+", "-") or "model"


def _open(given: str, *, option: str) -> TeacherModel:
    if not names_stored_logits(given):
        model = _model(given, option=option)
        kind = "onnx" if model.path.suffix == ".onnx" else "checkpoint"
        return TeacherModel(_first_part(model.path.parent), given, kind, model, None)
    folder = stored_folder(Path(given))
    whole = next(iter(stored_folders(folder)), folder)
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
    places = [str(one.folder) if one.model is None else one.model.sha256 for one in teachers]
    refuse_twins(zip(places, given, strict=True), option=option)
    if names:
        return tuple(replace(teacher, name=name) for teacher, name in zip(teachers, names, strict=True))
    count: Counter[str] = Counter()
    numbered = []
    for teacher in teachers:
        count[teacher.name] += 1
        number = count[teacher.name]
        numbered.append(teacher if number == 1 else replace(teacher, name=f"{teacher.name}-{number}"))
    return tuple(numbered)
