"""FER+ votes: reads the vote file and says of each line which emotion it gives, or why none."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.data.sources.config import LabelMode
from fer_lightning.data.sources.pixel_csv import table_records
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS

VOTE_NAMES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")

_HEADER = ("Usage", "Image name", *VOTE_NAMES)
_EMOTION_OF = ("Neutral", "Happy", "Surprise", "Sad", "Angry", "Disgust", "Fear")
_NO_EMOTION = ("contempt", "unknown", "not a face")  # of the last three columns
_COLUMN_OF = tuple(_EMOTION_OF.index(emotion) for emotion in EMOTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteLine:
    """One line of the vote file."""

    row: int
    """0-based number of the face: row i belongs to row i of the pixel CSV."""
    line: int
    """1-based line of the file."""
    usage: str
    image: str
    """File name in the authors' folders; empty for some, and not the row number."""
    votes: tuple[int, ...]
    """Ten counts in the order of `VOTE_NAMES`."""

    @property
    def shown(self) -> str:
        """The votes for a person's eye."""
        return " ".join(f"{name}={count}" for name, count in zip(VOTE_NAMES, self.votes, strict=True))

    def columns(self) -> dict[str, str]:
        """Return the manifest columns of the votes: `vote_<Emotion>` of the seven, and what else was voted for."""
        seven = {f"vote_{name}": str(self.votes[at]) for name, at in zip(EMOTIONS, _COLUMN_OF, strict=True)}
        others = zip(("votes_contempt", "votes_unknown", "votes_not_a_face"), self.votes[7:], strict=True)
        return seven | {name: str(count) for name, count in others}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a line's votes come to: a label, or the reason why there is none."""

    label: str | None
    reason: str = ""


def read_votes(path: Path) -> list[VoteLine]:
    """Read `fer2013new.csv`.

    Raises:
        FerError: other columns, or a line that does not hold ten counts.
    """
    records = table_records(path)
    _, header = next(records, (0, []))
    if [name.lower() for name in header] != [name.lower() for name in _HEADER]:
        raise FerError(f"{path} has the columns {','.join(header) or '(none)'}; expected {','.join(_HEADER)}")
    lines: list[VoteLine] = []
    for line, fields in records:
        counts = fields[2:]
        if len(counts) != len(VOTE_NAMES) or not all(count.isascii() and count.isdigit() for count in counts):
            raise FerError(
                f"{path}:{line} reads {','.join(fields)!r:.120}; expected {','.join(_HEADER)} with ten counts"
            )
        votes = tuple(int(count) for count in counts)
        lines.append(VoteLine(row=len(lines), line=line, usage=fields[0], image=fields[1], votes=votes))
    if not lines:
        raise FerError(f"{path} has a header but no votes")
    return lines


def label_votes(votes: Sequence[int], mode: LabelMode) -> Verdict:
    """Return the label of ten votes, or why they give none.

    Votes are counted over all ten columns, single ones included. In `unique_maximum` the column with strictly the most
    votes decides; `majority` asks moreover that it has more than half of them; `probability` takes the largest of the
    seven emotions, the first in class order among equals, unless another column is the strict maximum of the ten.

    Args:
        votes: ten counts in the order of `VOTE_NAMES`.
        mode: how votes become a label.
    """
    most = max(votes)
    if most == 0:
        return Verdict(None, "no votes")
    winners = [at for at, count in enumerate(votes) if count == most]
    unique = len(winners) == 1
    if unique and winners[0] >= len(EMOTIONS):
        return Verdict(None, _NO_EMOTION[winners[0] - len(EMOTIONS)])
    if mode is LabelMode.probability:
        seven = [votes[at] for at in _COLUMN_OF]
        return Verdict(EMOTIONS[seven.index(max(seven))]) if any(seven) else Verdict(None, "no emotion")
    if not unique:
        return Verdict(None, "tie")
    if mode is LabelMode.majority and 2 * most <= sum(votes):
        return Verdict(None, "no majority")
    return Verdict(_EMOTION_OF[winners[0]])


def account_votes(lines: Sequence[VoteLine], mode: LabelMode) -> list[Verdict]:
    """Return the verdict on each line, in order."""
    return [label_votes(line.votes, mode) for line in lines]
