"""Finds the model file that an option names, and refuses what is none: an ensemble's folder, stored logits, a file from elsewhere."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.runs.checkpoint_file import check_checkpoint_file
from fer_lightning.runs.ensemble_file import ENSEMBLE_ONNX_FILE, ensemble_file, is_ensemble
from fer_lightning.runs.stored_logits_record import is_stored, stored_folders


@dataclass(frozen=True)
class ModelFile:
    """A checkpoint or an ONNX file."""

    path: Path
    sha256: str


def names_stored_logits(given: str) -> bool:
    """Tell whether a path names stored logits, or a folder that holds several (those of a foreign model); no run directory does."""
    path = Path(given)
    return is_stored(given) or (not (path / "best.pt").is_file() and bool(stored_folders(path)))


def refuse_twins(named: Iterable[tuple[str, str]], *, option: str) -> None:
    """Refuse one model under two names.

    Args:
        named: digest, and the name that was given.
        option: that named them, for messages.

    Raises:
        FerError: a digest that two names share.
    """
    known: dict[str, str] = {}
    for digest, given in named:
        if digest in known:
            raise FerError(f"{option} names the same model twice: {known[digest]} and {given}")
        known[digest] = given


def _refuse_what_is_no_model(path: Path, *, option: str) -> None:
    """Refuse folders and files of this project that are judged or fused, but see no pictures."""
    if is_ensemble(str(path)):
        folder = ensemble_file(path).parent
        raise FerError(
            f"{option}: {path} is an ensemble; export it with task=export_onnx export.run_dir={folder} and name its "
            f"{ENSEMBLE_ONNX_FILE}"
        )
    if names_stored_logits(str(path)):
        raise FerError(
            f"{option}: {path} holds stored logits, which see no pictures; name the checkpoint or ONNX file itself"
        )


def find_model(given: str | None, *, option: str) -> ModelFile:
    """Return the model file that a path names, checked as far as that is possible without loading torch.

    Args:
        given: a checkpoint, an ONNX file, or a run directory, which stands for its `best.pt`.
        option: the option that named it, for messages.

    Raises:
        FerError: nothing was given, there is no such file, or it is no model of this project: an ensemble's folder, stored logits,
            or a file from elsewhere.
    """
    if given is None:
        raise FerError(f"{option}=<best.pt, checkpoint_last.pt, an .onnx file or a run directory> is needed")
    path = Path(given)
    _refuse_what_is_no_model(path, option=option)
    path = path / "best.pt" if path.is_dir() else path
    if path.suffix != ".onnx":
        check_checkpoint_file(path, option=option)
    elif not path.is_file():
        raise FerError(f"{option}: no file {path}")
    return ModelFile(path, sha256_of(path))
