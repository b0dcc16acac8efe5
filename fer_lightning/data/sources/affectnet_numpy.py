"""AffectNet in the layout of its later release: cut-out faces, and one numpy file per face and annotation."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from fer_lightning.data.sources.affectnet_codes import NUM_CODES, judge_code
from fer_lightning.data.sources.config import SourceConfig
from fer_lightning.data.sources.folder_files import (
    NO_LABEL,
    NO_SUCH_FILE,
    account_others,
    list_folder,
    refuse_empty,
    source_root,
)
from fer_lightning.data.sources.npy_scalars import ScalarReader
from fer_lightning.data.sources.rows import SourceReading, SourceRow
from fer_lightning.errors import FerError

_SETS = {"train_set": "train", "val_set": "val"}
_EXPRESSION = "_exp.npy"
_AFFECT = {"valence": "_val.npy", "arousal": "_aro.npy"}
_ANNOTATIONS = (_EXPRESSION, *_AFFECT.values(), "_lnd.npy")
_WORTH_A_BAR = 5000


class _Set:
    """One of the two sets, its folders listed."""

    def __init__(self, root: Path, name: str, reading: SourceReading) -> None:
        self.prefix = f"{root.as_posix()}/"
        self.images, self.annotations = f"{name}/images", f"{name}/annotations"
        for folder in (self.images, self.annotations):
            if not (root / folder).is_dir():
                raise FerError(
                    f"no folder {root / folder}; expected {name}/images/0.jpg and {name}/annotations/0{_EXPRESSION}"
                )
        self.split = _SETS[name]
        pictures = list_folder(root / self.images)
        account_others(reading, self.images, pictures)
        for folder in pictures.folders:
            reading.drop(f"{self.images}/{folder}", "folder inside a folder")
        self.pictures = pictures.pictures
        annotations = list_folder(root / self.annotations)
        self.files = frozenset(annotations.others)
        for name_ in (*annotations.folders, *annotations.pictures, *annotations.dangling):
            reading.drop(f"{self.annotations}/{name_}", "no annotation file")
        for name_ in annotations.others:
            if name_.startswith(".") or not name_.endswith(_ANNOTATIONS):
                reading.drop(f"{self.annotations}/{name_}", "no annotation file")

    def unpictured(self) -> list[str]:
        """Return labels that belong to no picture."""
        stems = {name.rpartition(".")[0] for name in self.pictures}
        labels = (name for name in sorted(self.files) if name.endswith(_EXPRESSION) and not name.startswith("."))
        return [name for name in labels if name.removesuffix(_EXPRESSION) not in stems]


class _Reader:
    """Turns the pictures of a set into rows or drops."""

    def __init__(self, reading: SourceReading) -> None:
        self.reading = reading
        self.without_affect = 0
        self._scalars = ScalarReader()

    def read(self, part: _Set) -> None:
        bar = tqdm(part.pictures, desc=part.annotations, unit="face", disable=len(part.pictures) < _WORTH_A_BAR)
        for name in bar:
            row = self._row(part, name)
            if isinstance(row, SourceRow):
                self.reading.rows.append(row)
            else:
                self.reading.drop(f"{part.images}/{name}", *row)
        for name in part.unpictured():
            self.reading.drop(f"{part.annotations}/{name}", NO_SUCH_FILE, "no picture of this label")

    def _row(self, part: _Set, name: str) -> SourceRow | tuple[str, str]:
        """Return the row of a picture, or the reason why there is none, and a detail."""
        stem = name.rpartition(".")[0]
        if stem + _EXPRESSION not in part.files:
            return NO_LABEL, f"no {stem}{_EXPRESSION}"
        try:
            text = self._scalars.read(f"{part.prefix}{part.annotations}/{stem}{_EXPRESSION}")
            code = float(text)
        except (ValueError, FileNotFoundError) as error:
            return "unreadable label", f"{stem}{_EXPRESSION}: {error}"
        if not code.is_integer() or not 0 <= code < NUM_CODES:
            return "unreadable label", f"{stem}{_EXPRESSION} is {text!r:.40}; expected 0 to {NUM_CODES - 1}"
        label, reason = judge_code(int(code))
        if label is None:
            return reason, ""
        path = f"{part.prefix}{part.images}/{name}"
        return SourceRow(path=path, label=label, split=part.split, columns=self._affect(part, stem))

    def _affect(self, part: _Set, stem: str) -> dict[str, str]:
        """Return valence and arousal; they are extras, so a face without them is no lost row."""
        columns = {}
        for column, suffix in _AFFECT.items():
            try:
                columns[column] = self._scalars.read(f"{part.prefix}{part.annotations}/{stem}{suffix}")
            except (ValueError, FileNotFoundError):
                continue
        self.without_affect += len(columns) < len(_AFFECT)
        return columns


def _sets(root: Path) -> Sequence[str]:
    found = [name for name in _SETS if (root / name).is_dir()]
    if not found:
        raise FerError(f"no folder train_set or val_set in {root}; expected train_set/images and train_set/annotations")
    return found


def read_affectnet_numpy(source: SourceConfig) -> SourceReading:
    """Read `train_set` and `val_set`, each with `images/<id>.jpg` and `annotations/<id>_exp.npy`, `_val.npy`, `_aro.npy`.

    Labels are AffectNet's expression codes. Pictures are faces cut out already. `valence` and `arousal` are as written.
    The test set is not public: who tests on the validation set gives `as_split=test`.

    Args:
        source: `path` holds `train_set` or `val_set`, or both.

    Raises:
        FerError: another layout, or no picture has a label that can be read.
    """
    root = source_root(source, "train_set and val_set")
    reading = SourceReading()
    reader = _Reader(reading)
    names = _sets(root)
    for name in names:
        reader.read(_Set(root, name, reading))
    refuse_empty(reading, f"no picture in {root} has a label that can be used")
    absent = [name for name in _SETS if name not in names]
    reading.notes += [f"there is no {name}" for name in absent]
    if reader.without_affect:
        reading.notes.append(f"{reader.without_affect} faces are without a readable valence or arousal")
    return reading
