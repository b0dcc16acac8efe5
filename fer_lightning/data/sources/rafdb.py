"""RAF-DB basic: `list_patition_label.txt` with aligned pictures, or originals with boxes."""

from collections.abc import Sequence
from pathlib import Path

from fer_lightning.data.sources.config import SourceConfig
from fer_lightning.data.sources.rafdb_files import LabelLine
from fer_lightning.data.sources.rafdb_rows import RafSet, Verdict, read_raf
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError

LABEL_LISTS = ("list_patition_label.txt", "list_partition_label.txt")  # the first is how it is published

_EMOTION_OF_CODE = {
    "1": "Surprise",
    "2": "Fear",
    "3": "Disgust",
    "4": "Happy",
    "5": "Sad",
    "6": "Angry",
    "7": "Neutral",
}
_COMPOUND_ONLY = {"8", "9", "10", "11"}


def _judge(_path: Path, line: LabelLine) -> Verdict:
    code = line.values[0]
    shown = f"{line.name} {code}"
    label = _EMOTION_OF_CODE.get(code)
    if label is None:
        return Verdict(reason="unknown code", detail=f"{shown}; expected 1 to 7")
    split, mark, _ = line.name.partition("_")
    if not mark or split not in {"train", "test"}:
        return Verdict(reason="unknown split", detail=f"{shown}; expected a name that begins with train_ or test_")
    return Verdict(label=label, split=split)


def _refuse_compound(path: Path, lines: Sequence[LabelLine]) -> None:
    if {line.values[0] for line in lines} >= _COMPOUND_ONLY:
        raise FerError(f"{path} has the codes 8 to 11: it is RAF-DB compound; read it with kind=rafdb_compound")


_SET = RafSet(
    folder_names=("basic",),
    lists=LABEL_LISTS,
    num_values=(1,),
    expected="train_00001.jpg 5",
    judge=_judge,
    check=_refuse_compound,
)


def read_rafdb_basic(source: SourceConfig) -> SourceReading:
    """Read RAF-DB basic: Li et al. 2017, https://doi.org/10.1109/CVPR.2017.277.

    Codes are 1 Surprise, 2 Fear, 3 Disgust, 4 Happy, 5 Sad, 6 Angry, 7 Neutral; the split is how the name begins. Where
    `Annotation/manual` is there, rows carry `gender`, `race` and `age_group`.

    Args:
        source: `path` is the folder `basic` or the one above; `pictures` is `aligned` (`Image/aligned`, or
            `Image/aligned/aligned`) or `boxes` (`Image/original` with `Annotation/boundingbox`).

    Raises:
        FerError: another layout, or none of the pictures or boxes is there.
    """
    return read_raf(source, _SET)
