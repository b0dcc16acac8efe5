"""Which files lie in which folder, each folder listed once; and where a missing file may be instead."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path


class FolderListings:
    """File names per folder below a root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, frozenset[str]] = {}
        self._spellings: dict[str, dict[str, str]] = {}

    def names(self, folder: str) -> frozenset[str]:
        """Return the names in a folder; none where it is absent, no folder, or unreadable."""
        if folder not in self._names:
            try:
                with os.scandir(self._root / folder) as entries:
                    self._names[folder] = frozenset(entry.name for entry in entries)
            except (OSError, ValueError):  # ValueError: a name the system cannot have
                self._names[folder] = frozenset()
        return self._names[folder]

    def hint(self, path: str) -> str:
        """Return where a missing file is instead; empty where that is not known.

        It may lie in a folder inside its folder of the same name (archives unpacked into a folder of their own name),
        or be spelt in another Unicode form or case.

        Args:
            path: relative to the root, `/` separated.
        """
        folder, _, name = path.rpartition("/")
        for other in _doubled(folder):
            if name in self.names(other):
                return f"it is in {other}"
        if self.in_another_form(path):
            return "a file there has this name in another Unicode form"
        found = self._spelt(folder).get(_form(name).casefold())
        return "" if found is None else f"a file there is called {found}"

    def in_another_form(self, path: str) -> bool:
        """Whether a missing file is there but for the Unicode normal form of its name."""
        folder, _, name = path.rpartition("/")
        found = self._spelt(folder).get(_form(name).casefold())
        return found is not None and found != name and _form(found) == _form(name)

    def _spelt(self, folder: str) -> dict[str, str]:
        """Return form- and caseless name -> name of a folder."""
        if folder not in self._spellings:
            self._spellings[folder] = {_form(found).casefold(): found for found in sorted(self.names(folder))}
        return self._spellings[folder]


def _doubled(folder: str) -> Iterator[str]:
    """Yield the folder with one of its parts doubled, or one doubled part made single."""
    parts = folder.split("/") if folder else []
    for place, part in enumerate(parts):
        yield "/".join([*parts[: place + 1], part, *parts[place + 1 :]])
    for place in range(1, len(parts)):
        if parts[place] == parts[place - 1]:
            yield "/".join([*parts[:place], *parts[place + 1 :]])


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name)
