"""RAF-DB compound: eleven compound expressions mapped to their primary emotion, for evaluation."""

from collections.abc import Sequence
from pathlib import Path

from fer_lightning.data.sources.config import SourceConfig
from fer_lightning.data.sources.rafdb import LABEL_LISTS
from fer_lightning.data.sources.rafdb_files import LabelLine
from fer_lightning.data.sources.rafdb_rows import RafSet, Verdict, read_raf
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError

_COMPOUND_OF_CODE = {
    "1": ("Happily Surprised", "Happy"),
    "2": ("Happily Disgusted", "Happy"),
    "3": ("Sadly Fearful", "Sad"),
    "4": ("Sadly Angry", "Sad"),
    "5": ("Sadly Surprised", "Sad"),
    "6": ("Sadly Disgusted", "Sad"),
    "7": ("Fearfully Angry", "Fear"),
    "8": ("Fearfully Surprised", "Fear"),
    "9": ("Angrily Surprised", "Angry"),
    "10": ("Angrily Disgusted", "Angry"),
    "11": ("Disgustedly Surprised", "Disgust"),
}
_BASIC_CODES = {"1", "2", "3", "4", "5", "6", "7"}
_ENOUGH_LINES = (
    100  # the published list has all eleven codes; among so many lines the upper four are not absent by chance
)


def _judge(_path: Path, line: LabelLine) -> Verdict:
    code = line.values[0]
    if code not in _COMPOUND_OF_CODE:
        return Verdict(reason="unknown code", detail=f"{line.name} {code}; expected 1 to 11")
    compound, primary = _COMPOUND_OF_CODE[code]
    return Verdict(label=primary, columns={"compound": compound})


def _refuse_basic(path: Path, lines: Sequence[LabelLine]) -> None:
    codes = {line.values[0] for line in lines}
    if path.parent.parent.name == "basic" or (len(lines) >= _ENOUGH_LINES and codes <= _BASIC_CODES):
        raise FerError(
            f"{path} is the list of RAF-DB basic, whose codes mean other emotions; give the folder 'compound'"
        )


_SET = RafSet(
    folder_names=("compound",),
    lists=LABEL_LISTS,
    num_values=(1,),
    expected="train_0001.jpg 5",
    judge=_judge,
    check=_refuse_basic,
)


def read_rafdb_compound(source: SourceConfig) -> SourceReading:
    """Read RAF-DB compound: Li et al. 2017, https://doi.org/10.1109/CVPR.2017.277.

    A compound expression counts as the emotion it is named first by (Sadly Fearful: Sad) and keeps its full name in the
    column `compound`. The mapping makes it a source to evaluate on: every row is in the split test.

    Args:
        source: `path` is the folder `compound` or the one above; `pictures` as for RAF-DB basic.

    Raises:
        FerError: another layout, the list of RAF-DB basic, or none of the pictures or boxes is there.
    """
    return read_raf(source, _SET)
