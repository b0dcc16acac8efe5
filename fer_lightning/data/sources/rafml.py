"""RAF-ML: a distribution over emotions per picture, reduced to its largest share, for evaluation."""

from pathlib import Path

from fer_lightning.data.sources.config import SourceConfig
from fer_lightning.data.sources.rafdb_files import LabelLine
from fer_lightning.data.sources.rafdb_rows import RafSet, Verdict, read_raf
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError

_ORDER = ("Surprise", "Fear", "Disgust", "Happy", "Sad", "Angry", "Neutral")
_EXPECTED = "0001.jpg 0.1 0 0 0.2 0.6 0.1"


def _judge(path: Path, line: LabelLine) -> Verdict:
    shares = [_share(path, line, text) for text in line.values]
    most = max(shares)
    if shares.count(most) > 1:
        return Verdict(reason="tie", detail=f"{line.name} {' '.join(line.values)}")
    columns = {f"share_{emotion}": text for emotion, text in zip(_ORDER, line.values, strict=False)}
    return Verdict(label=_ORDER[shares.index(most)], columns=columns)


def _share(path: Path, line: LabelLine, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < float("inf"):
        raise FerError(f"{path}:{line.line} has the share {text!r}; expected lines such as '{_EXPECTED}'")
    return share


_SET = RafSet(
    folder_names=("RAF-ML",),
    lists=("distribution.txt",),
    num_values=(6, 7),
    expected=_EXPECTED,
    judge=_judge,
)


def read_rafml(source: SourceConfig) -> SourceReading:
    """Read RAF-ML: Li and Deng 2019, https://doi.org/10.1007/s11263-018-1131-1.

    Shares are in the order Surprise, Fear, Disgust, Happy, Sad, Angry and, where there are seven, Neutral; rows carry
    them as written in `share_<Emotion>`. The label is the largest share; a tie for it makes no row. That choice makes it
    a source to evaluate on: every row is in the split test.

    Args:
        source: `path` is the folder that holds `EmoLabel/distribution.txt`, or the one above; `pictures` as for RAF-DB.

    Raises:
        FerError: another layout, or none of the pictures or boxes is there.
    """
    return read_raf(source, _SET)
