"""FER+: crowd votes joined row by row to the pixels of FER2013, or by name to the authors' extracted folders."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from fer_lightning.data.sources.config import LabelMode, SourceConfig
from fer_lightning.data.sources.ferplus_votes import VoteLine, account_votes, read_votes
from fer_lightning.data.sources.pixel_csv import (
    SPLIT_OF_USAGE,
    PixelLine,
    extract_pictures,
    find_pixel_csv,
    picture_name,
    read_pixel_csv,
)
from fer_lightning.data.sources.rows import SourceReading, SourceRow
from fer_lightning.errors import FerError

_VOTES = "fer2013new.csv"
_FOLDER_OF_USAGE = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}


class _Found:
    """Where the picture of each row is, or why it cannot be used."""

    def __init__(self) -> None:
        self.path_of: dict[int, str] = {}
        self.missing: dict[int, tuple[str, str]] = {}
        self.note = ""


def _by_pixels(votes_path: Path, votes: Sequence[VoteLine], csv_path: Path, images_dir: Path) -> _Found:
    """Join by row order, which is the authors' rule; nothing is written before the whole join is checked."""
    pixels = read_pixel_csv(csv_path)
    _check_join(votes_path, votes, csv_path, pixels)
    extract_pictures(pixels, images_dir)
    found = _Found()
    found.note = f"votes of {votes_path} joined to {csv_path} by row order; pictures are in {images_dir}"
    for face in pixels:
        if face.picture is None:
            found.missing[face.row] = ("unreadable pixels", f"{csv_path.name}:{face.line}: {face.fault}")
        else:
            found.path_of[face.row] = f"{images_dir.as_posix()}/{face.picture}"
    return found


def _check_join(votes_path: Path, votes: Sequence[VoteLine], csv_path: Path, pixels: Sequence[PixelLine]) -> None:
    for vote, face in zip(votes, pixels, strict=False):
        if vote.usage != face.usage:
            raise FerError(
                f"{votes_path}:{vote.line} is {vote.usage!r} but {csv_path}:{face.line} is {face.usage!r} (row {vote.row}): "
                "votes belong to pixels by row order, so one of the two files was sorted or cut; take both as published"
            )
    if len(votes) != len(pixels):
        raise FerError(
            f"{votes_path} has {len(votes)} rows but {csv_path} has {len(pixels)}: "
            "votes belong to pixels by row order; take both files as published"
        )


def _by_name(votes: Sequence[VoteLine], base: Path, folders: Mapping[str, frozenset[str]]) -> _Found:
    """Join by the column `Image name`, which the authors' script named its files by.

    Four names are given to two rows each, and the script wrote one picture over the other: rows with equal votes are
    copies and one stands for both, but with different votes nobody knows whose picture was kept.
    """
    found = _Found()
    found.note = f"pictures are in {base}, joined by the column 'Image name'"
    lines_of: dict[tuple[str, str], list[VoteLine]] = {}
    for vote in votes:
        lines_of.setdefault((vote.usage, vote.image), []).append(vote)
    for (usage, image), sharing in lines_of.items():
        folder = _FOLDER_OF_USAGE.get(usage, "")
        kept = sharing[0].row if len({vote.votes for vote in sharing}) == 1 else None
        for vote in sharing:
            where = f"{folder}/{image}"
            if not image:
                found.missing[vote.row] = ("no image name", "")
            elif image not in folders.get(folder, ()):
                found.missing[vote.row] = ("no such file", where)
            elif vote.row != kept:
                others = ", ".join(str(other.line) for other in sharing if other is not vote)
                found.missing[vote.row] = ("image name given twice", f"{where} is also line {others}")
            else:
                found.path_of[vote.row] = f"{base.as_posix()}/{where}"
    return found


def _by_extracted(votes_path: Path, votes: Sequence[VoteLine], images: Path) -> _Found:
    """Join to pictures that an earlier build extracted: named by row number, and there for every row."""
    folders = {split: _file_names(images / split) for split in SPLIT_OF_USAGE.values()}
    found = _Found()
    found.note = f"pictures are in {images}, extracted earlier and named by row number"
    for vote in votes:
        if vote.usage in SPLIT_OF_USAGE:
            name = picture_name(vote.row, vote.usage)
            folder, _, file_name = name.partition("/")
            if file_name not in folders[folder]:
                raise FerError(
                    f"{images / name} is absent (row {vote.row} of {votes_path}): pictures without fer2013.csv are taken "
                    "only from a complete extraction, named by row number; put fer2013.csv back to complete it"
                )
            found.path_of[vote.row] = f"{images.as_posix()}/{name}"
    return found


def _file_names(folder: Path) -> frozenset[str]:
    if not folder.is_dir():
        return frozenset()
    with os.scandir(folder) as entries:
        return frozenset(entry.name for entry in entries)


def _find_pictures(
    root: Path, images_dir: Path, votes_path: Path, votes: Sequence[VoteLine], mode: LabelMode
) -> _Found:
    csv_path = find_pixel_csv(root)
    if csv_path is not None:
        return _by_pixels(votes_path, votes, csv_path, images_dir)
    bases = (root, root / "data", root / "images", images_dir)
    for base in bases:
        folders = {name: _file_names(base / name) for name in _FOLDER_OF_USAGE.values()}
        if any(folders.values()):
            found = _by_name(votes, base, folders)
            if not found.path_of:
                raise FerError(f"none of the pictures that {votes_path} names is in {', '.join(folders)} of {base}")
            return found
    if any(_file_names(images_dir / split) for split in SPLIT_OF_USAGE.values()):
        return _by_extracted(votes_path, votes, images_dir)
    raise FerError(
        f"{votes_path} holds votes only, and there are no pictures to them: put fer2013.csv or icml_face_data.csv (FER2013) "
        f"into {root}, or FER2013Train, FER2013Valid and FER2013Test into one of {', '.join(map(str, bases))}. "
        f"{_account_in_words(votes, mode)}"
    )


def _account_in_words(votes: Sequence[VoteLine], mode: LabelMode) -> str:
    """Say what the votes alone come to."""
    verdicts = account_votes(votes, mode)
    reasons = Counter(verdict.reason for verdict in verdicts if verdict.label is None)
    dropped = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    rows = len(verdicts) - reasons.total()
    return f"By its votes (labels={mode.value}) its {len(verdicts)} lines would be {rows} rows; no rows: {dropped or 'none'}"


def _votes_path(source: SourceConfig, root: Path) -> Path:
    if source.votes is not None:
        return Path(source.votes)
    places = [root / _VOTES, root / "data" / _VOTES]
    for place in places:
        if place.is_file():
            return place
    raise FerError(f"no {_VOTES} at {' or '.join(map(str, places))}; give votes=<file> where it lies elsewhere")


def read_ferplus(source: SourceConfig, *, images_dir: Path) -> SourceReading:
    """Read FER+: Barsoum et al. 2016, https://arxiv.org/abs/1608.01041.

    Every line of the vote file is a row or is accounted for, first by its usage, then by its votes, then by its picture.
    Rows carry `vote_<Emotion>`, `votes_contempt`, `votes_unknown`, `votes_not_a_face`, and their number `fer2013_row`.

    Args:
        source: `path` holds `fer2013new.csv` (or `votes` names it) and `fer2013.csv`, `icml_face_data.csv` or the
            authors' folders; `labels` says how votes become a label.
        images_dir: folder that is filled with the pictures of the pixel CSV, or that holds pictures already.

    Raises:
        FerError: no votes, no pictures, or pixels whose rows are not those of the votes.
    """
    if source.path is None:
        raise FerError("kind=ferplus needs path=<folder of fer2013new.csv>")
    root = Path(source.path)
    votes_path = _votes_path(source, root)
    votes = read_votes(votes_path)
    found = _find_pictures(root, images_dir, votes_path, votes, source.labels)
    reading = SourceReading(notes=[found.note])
    for vote, verdict in zip(votes, account_votes(votes, source.labels), strict=True):
        item = f"{votes_path.name}:{vote.line}"
        if vote.usage not in SPLIT_OF_USAGE:
            reading.drop(item, "unknown usage", f"{vote.usage!r}; {vote.shown}")
        elif verdict.label is None:
            reading.drop(item, verdict.reason, vote.shown)
        elif vote.row in found.missing:
            reason, detail = found.missing[vote.row]
            reading.drop(item, reason, f"{detail}; {vote.shown}" if detail else vote.shown)
        else:
            columns = {"fer2013_row": str(vote.row), **vote.columns()}
            split = SPLIT_OF_USAGE[vote.usage]
            reading.rows.append(
                SourceRow(path=found.path_of[vote.row], label=verdict.label, split=split, columns=columns)
            )
    return reading
