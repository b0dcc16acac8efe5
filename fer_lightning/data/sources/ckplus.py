"""CK+: image sequences from neutral to peak, of which some carry an emotion."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.data.sources.config import SourceConfig
from fer_lightning.data.sources.folder_files import (
    NO_SUCH_FILE,
    account_others,
    list_folder,
    refuse_empty,
    source_root,
    text_lines,
)
from fer_lightning.data.sources.rows import SourceReading, SourceRow
from fer_lightning.errors import FerError

_IMAGE_FOLDERS = ("cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")
_LABEL_FOLDERS = ("Emotion", "Emotion_labels", "Emotion_labels/Emotion")
_EMOTION_OF = ("Neutral", "Angry", None, "Disgust", "Fear", "Happy", "Sad", "Surprise")  # 2 is contempt
_SUBJECT = re.compile(r"S\d+")
_FRAME = re.compile(r"(S\d+)_(\d+)_(\d+)")


@dataclass(frozen=True, slots=True)
class _Sequence:
    """The frames of one sequence."""

    place: str
    """Folder relative to the data set."""
    subject: str
    number: str
    frames: tuple[str, ...]
    """File names in the order of time."""

    @property
    def name(self) -> str:
        return f"{self.subject}_{self.number}"


@dataclass(frozen=True, slots=True)
class _Label:
    """The emotion of a sequence."""

    place: str
    """File relative to the data set."""
    code: int
    frame: int
    """Number of the frame it belongs to: the last."""


def _find_folder(root: Path, folders: tuple[str, ...]) -> str:
    found = next((folder for folder in folders if (root / folder).is_dir()), None)
    if found is None:
        raise FerError(
            f"no folder {' or '.join(str(root / folder) for folder in folders)}; "
            "expected CK+ as published: cohn-kanade-images and Emotion side by side"
        )
    return found


def _frame_number(name: str) -> int | None:
    matched = _FRAME.match(name)
    return int(matched[3]) if matched else None


def _sequences(root: Path, base: str, reading: SourceReading) -> list[_Sequence]:
    """Return all sequences, and account for files that are no frames."""
    sequences = []
    subjects = list_folder(root / base)
    _account_strays(reading, base, subjects.pictures)
    for subject in subjects.folders:
        if not _SUBJECT.fullmatch(subject):
            raise FerError(f"{root / base / subject} is no subject folder such as S005; expected S005/001/<frame>.png")
        numbers = list_folder(root / base / subject)
        _account_strays(reading, f"{base}/{subject}", numbers.pictures)
        for number in numbers.folders:
            place = f"{base}/{subject}/{number}"
            files = list_folder(root / place)
            account_others(reading, place, files)
            frames = [name for name in files.pictures if name.startswith(f"{subject}_{number}_") and _FRAME.match(name)]
            _account_strays(reading, place, tuple(name for name in files.pictures if name not in frames))
            frames.sort(key=lambda name: (_frame_number(name), name))
            sequences.append(_Sequence(place, subject, number, tuple(frames)))
    return sequences


def _account_strays(reading: SourceReading, place: str, pictures: tuple[str, ...]) -> None:
    for name in pictures:
        reading.drop(f"{place}/{name}", "no frame of its sequence")


def _labels(root: Path, base: str, reading: SourceReading) -> dict[tuple[str, str], _Label]:
    """Return (subject, number of the sequence) -> its label."""
    labels: dict[tuple[str, str], _Label] = {}
    for subject in list_folder(root / base).folders:
        for number in list_folder(root / base / subject).folders:
            place = f"{base}/{subject}/{number}"
            files = list_folder(root / place)
            named = [name for name in files.others if name.endswith("_emotion.txt") and not name.startswith(".")]
            for name in (name for name in (*files.pictures, *files.others) if name not in named):
                reading.drop(f"{place}/{name}", "no emotion file")
            if len(named) > 1:
                raise FerError(f"{root / place} holds {len(named)} emotion files ({', '.join(named)}); expected one")
            if named:
                labels[subject, number] = _read_label(root, f"{place}/{named[0]}")
    if not labels:
        raise FerError(
            f"no emotion file in {root / base}; expected files such as S005/001/S005_001_00000011_emotion.txt"
        )
    return labels


def _read_label(root: Path, place: str) -> _Label:
    """Read a file that holds one number, such as 3.0000000e+00."""
    lines = text_lines(root / place)
    frame = _frame_number(place.rpartition("/")[2])
    try:
        value = float(lines[0][1]) if len(lines) == 1 else math.nan
    except ValueError:
        value = math.nan
    if frame is None or not value.is_integer() or not 0 <= value < len(_EMOTION_OF):
        shown = " ".join(text for _, text in lines)
        raise FerError(f"{root / place}:1 reads {shown!r:.80}; expected one number of 0 to 7, such as 3.0000000e+00")
    return _Label(place, int(value), frame)


def _read_sequence(
    root: Path, sequence: _Sequence, label: _Label, source: SourceConfig, reading: SourceReading
) -> None:
    """Label the frames of a sequence: the peak first, then what is left at the beginning."""
    peak_from = max(0, len(sequence.frames) - source.peak_frames)
    neutral_to = min(source.neutral_frames, peak_from)
    for position, name in enumerate(sequence.frames):
        place = f"{sequence.place}/{name}"
        emotion = "Neutral" if position < neutral_to else _EMOTION_OF[label.code]
        if neutral_to <= position < peak_from:
            reading.drop(place, "between neutral and peak")
        elif emotion is None:
            reading.drop(place, "contempt")
        else:
            columns = {"subject": sequence.subject, "sequence": sequence.name}
            reading.rows.append(
                SourceRow(path=f"{root.as_posix()}/{place}", label=emotion, split=None, columns=columns)
            )


def read_ckplus(source: SourceConfig) -> SourceReading:
    """Read CK+: Lucey et al. 2010, https://doi.org/10.1109/CVPRW.2010.5543262.

    A labelled sequence goes from neutral to the peak of its emotion: its last `peak_frames` frames carry the emotion, its
    first `neutral_frames` are Neutral, those of contempt too; where it is too short for both, the peak comes first.
    Sequences without an emotion file, or without the frame that it names, are accounted for as one item each. There is
    no official split; `subject` keeps a person together.

    Args:
        source: `path` holds `cohn-kanade-images` and `Emotion`.

    Raises:
        FerError: another layout, an emotion file that cannot be read, or no labelled sequence with its frames.
    """
    root = source_root(source, "cohn-kanade-images and Emotion")
    images, emotions = _find_folder(root, _IMAGE_FOLDERS), _find_folder(root, _LABEL_FOLDERS)
    reading = SourceReading()
    labels = _labels(root, emotions, reading)
    for sequence in _sequences(root, images, reading):
        label = labels.pop((sequence.subject, sequence.number), None)
        if label is None:
            reading.drop(sequence.place, "no emotion label", f"{len(sequence.frames)} frames")
        elif label.frame not in {_frame_number(name) for name in sequence.frames}:
            reading.drop(sequence.place, "labelled frame is missing", f"frame {label.frame} of {label.place}")
        else:
            _read_sequence(root, sequence, label, source, reading)
    for label in labels.values():
        reading.drop(label.place, NO_SUCH_FILE, "no folder of this sequence")
    refuse_empty(reading, f"no labelled sequence of {root / emotions} has its frames in {root / images}")
    return reading
