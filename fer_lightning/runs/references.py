"""Which runs refer to which: what has to stay where it is, because something else was made from it.

A reference protects when its run needs the other one to be made again, continued or checked: ensembles need their teachers
(and stored logits or foreign ones, where these were named), soft labels their ensemble, students their soft labels, second
stages what they started from, matrices of left-out sources their teachers, gates and leaderboards what they took differences
to. Stored logits, evaluations, calibrations, robustness reports and checks are made from a run and say something of it: their
references are listed, and protect nothing, but for the reference of an evaluation's gates. So are the places of runs in
leaderboards. What cannot be parsed protects everything it names in plain text; what cannot even be read leaves open what it
refers to. References of runs in an archive do not count.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pydantic_core

from fer_lightning.files import sha256_of
from fer_lightning.runs.referring_text import Named, is_digest, named_in_text, read_names, unrecorded_checkpoints
from fer_lightning.runs.run_folders import FoundRuns, RunFolder, find_runs
from fer_lightning.runs.run_index import RunIndex

_DERIVED = {"logits", "evaluations", "calibrations", "robustness", "checks"}
_COMPARED_WITH = "gates.reference"
_LEADERBOARD = "leaderboard"


@dataclass(frozen=True, order=True)
class Reference:
    """One run, or leaderboard, that names another run."""

    by: Path
    """Folder of the run that refers, or the leaderboard's file."""
    kind: str
    """One of `run_folders.KINDS`, or `leaderboard`."""
    how: str
    """File and field."""
    protects: bool
    """The run that is referred to has to stay."""


@dataclass(frozen=True)
class References:
    """Every reference among the runs that were found."""

    found: FoundRuns
    to: Mapping[str, tuple[Reference, ...]]
    """`RunFolder.real` -> who refers to it, each referrer once."""
    plain: tuple[tuple[Path, str], ...]
    """Files that could only be searched as plain text, and why."""
    unknown: tuple[tuple[Path, str], ...]
    """Files and folders that cannot be read: nobody knows what they refer to."""

    def of(self, run: RunFolder) -> tuple[Reference, ...]:
        """Return who refers to a run."""
        return self.to.get(run.real, ())

    def protecting(self, run: RunFolder, *, without: Collection[str] = ()) -> list[Reference]:
        """Return the references for which a run has to stay.

        Args:
            run: the run.
            without: real paths of runs that do not count, since they go too.
        """
        return [item for item in self.of(run) if item.protects and os.path.realpath(item.by) not in without]

    def unknown_besides(self, run: RunFolder) -> list[Path]:
        """Return what cannot be read and does not belong to the run itself: it might refer to it."""
        return [path for path, _ in self.unknown if not Path(os.path.realpath(path)).is_relative_to(run.real)]


def _protects(kind: str, place: str) -> bool:
    return kind not in _DERIVED or place.startswith(_COMPARED_WITH)


def _of_run(named: Named, index: RunIndex) -> Iterator[tuple[str, Reference]]:
    """Return what the parsed records of a run refer to: (real path of the other, reference)."""
    run = named.run
    for file, place, text in named.strings:
        if text in named.own_digests:
            continue
        for real in index.by_digest(text) if is_digest(text) else index.by_path(text, run.real):
            how = f"{file}: {place}" if place else file
            yield real, Reference(run.path, run.kind, how, _protects(run.kind, place))


def _of_leaderboard(path: Path, index: RunIndex) -> Iterator[tuple[str, Reference]]:
    """Return the runs that a leaderboard compares; that which differences are taken to is protected.

    Raises:
        OSError: it cannot be read.
        ValueError: it is broken.
        AttributeError: it is none.
    """
    folder = os.path.realpath(path.parent)
    for table in pydantic_core.from_json(path.read_bytes()).get("tables", []):
        for recipe in table.get("recipes", []):  # a leaderboard of evaluations has none
            is_baseline = table.get("baseline") is not None and recipe.get("name") == table.get("baseline")
            how = "takes differences to it" if is_baseline else "compares it"
            for text in recipe.get("runs", []):
                for real in index.by_path(str(text), folder):
                    yield real, Reference(path, _LEADERBOARD, how, protects=is_baseline)


def _in_plain_text(
    file: Path, by: Path, kind: str, index: RunIndex, own_digests: Collection[str]
) -> Iterator[tuple[str, Reference]]:
    """Return everything that a broken file names.

    Raises:
        OSError: it cannot be read.
    """
    digests, in_text = named_in_text(file, index.names)
    by_digest = {real for digest in digests.difference(own_digests) for real in index.by_digest(digest)}
    for real in in_text | by_digest:
        yield real, Reference(by, kind, f"{file.name}, which cannot be parsed, names it", protects=True)


def _once_each(references: Sequence[Reference]) -> tuple[Reference, ...]:
    """Keep one reference of each referrer: one that protects, if there is one."""
    best: dict[Path, Reference] = {}
    for item in sorted(references, key=lambda item: (item.by, not item.protects, item.how)):
        best.setdefault(item.by, item)
    return tuple(best.values())


def _hash_unrecorded(all_named: Sequence[Named]) -> None:
    """Add the digests of checkpoints that no record vouches for."""
    pairs = [(named, file) for named in all_named for file in unrecorded_checkpoints(named.run)]

    def digest(pair: tuple[Named, Path]) -> str | OSError:
        try:
            return sha256_of(pair[1])
        except OSError as error:
            return error

    with ThreadPoolExecutor() as threads:
        for (named, file), result in zip(pairs, threads.map(digest, pairs), strict=True):
            if isinstance(result, OSError):
                named.unread.append((file, result.strerror or str(result)))
            else:
                named.own_digests.add(result)


@dataclass
class _Collected:
    """References while they are being read."""

    index: RunIndex
    to: dict[str, list[Reference]] = field(default_factory=dict)
    plain: list[tuple[Path, str]] = field(default_factory=list)
    unknown: list[tuple[Path, str]] = field(default_factory=list)

    def add_run(self, named: Named) -> None:
        """Take in what a run refers to."""
        run = named.run
        self.unknown += named.unread
        self._take(_of_run(named, self.index), own=run.real)
        for file, reason in named.plain:
            self._add_plain(file, reason, run.path, run.kind, named)

    def add_leaderboard(self, path: Path) -> None:
        """Take in what a leaderboard compares."""
        try:
            self._take(list(_of_leaderboard(path, self.index)), own="")
        except OSError as error:
            self.unknown.append((path, error.strerror or str(error)))
        except (ValueError, AttributeError, TypeError) as error:
            self._add_plain(path, str(error).splitlines()[0], path, _LEADERBOARD, None)

    def _add_plain(self, file: Path, reason: str, by: Path, kind: str, named: Named | None) -> None:
        self.plain.append((file, reason))
        own_digests, own = (set(), "") if named is None else (named.own_digests, named.run.real)
        try:
            self._take(_in_plain_text(file, by, kind, self.index, own_digests), own=own)
        except OSError as error:
            self.unknown.append((file, error.strerror or str(error)))

    def _take(self, found: Iterable[tuple[str, Reference]], *, own: str) -> None:
        for real, reference in found:
            if real != own:
                self.to.setdefault(real, []).append(reference)


def references(root: Path, *, also: Sequence[Path] = ()) -> References:
    """Find every run below a folder, and which of them refer to which.

    A run is referred to by a path into its folder (absolute, from the working directory, from the folder of the referring run,
    or, where that leads nowhere any more, by its last two parts), or by the SHA-256 of its checkpoints, of its ONNX files, or
    of the file that vouches for it (`ensemble.json`, `hash_manifest.json`, `storedlogits.json`, `calibrator.json`).

    Args:
        root: folder of runs.
        also: further folders of runs, whose references count as well.
    """
    found = FoundRuns.joined([find_runs(folder) for folder in (root, *also)])
    all_named = [read_names(run) for run in found.runs]
    _hash_unrecorded(all_named)
    collected = _Collected(RunIndex(all_named))
    for named in all_named:
        collected.add_run(named)
    for path in found.leaderboards:
        collected.add_leaderboard(path)
    joined = {real: _once_each(items) for real, items in collected.to.items()}
    unknown = sorted({*found.unreadable, *collected.unknown})
    return References(found, joined, tuple(sorted(collected.plain)), tuple(unknown))
