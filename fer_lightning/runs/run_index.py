"""Everything that runs can be named by: their paths, what is left of a path that leads nowhere any more, and digests."""

import itertools
import os
from collections.abc import Sequence

from fer_lightning.runs.referring_text import Named

_LONGEST_PATH = 4096


class RunIndex:
    """Finds the runs that a string names; a run is told by its real path."""

    def __init__(self, all_named: Sequence[Named]) -> None:
        self.names: dict[str, list[str]] = {}
        """Name of a folder -> runs."""
        self._paths: dict[str, str] = {}
        self._tails: dict[tuple[str, str], list[str]] = {}
        self._digests: dict[str, list[str]] = {}
        self._looked_at: dict[str, tuple[str | None, bool]] = {}
        self._here = os.getcwd()  # noqa: PTH109
        for named in all_named:
            self._add(named)

    def by_digest(self, digest: str) -> list[str]:
        """Return the runs that have a file of this SHA-256."""
        return self._digests.get(digest, [])

    def by_path(self, text: str, folder: str) -> list[str]:
        """Return the runs that a string is a path of, or into.

        Args:
            text: absolute, or relative to the working directory or to `folder`.
            folder: where the string stands.
        """
        is_path = "/" in text
        if not (is_path or text in self.names) or "\0" in text or len(text) > _LONGEST_PATH:
            return []
        looked = [self._look_at(os.path.normpath(os.path.join(base, text))) for base in (self._here, folder)]  # noqa: PTH118
        runs = [run for run, _ in looked if run is not None]
        if runs or not is_path or any(exists for _, exists in looked):
            return list(dict.fromkeys(runs))
        parts = text.split("/")
        return [run for tail in itertools.pairwise(parts) for run in self._tails.get(tail, ())]

    def _add(self, named: Named) -> None:
        run = named.run
        for spelt in {os.path.abspath(run.path), run.real}:  # noqa: PTH100  one of them keeps its symlinks
            self._paths[spelt] = run.real
            above, name = os.path.split(spelt)
            tail = self._tails.setdefault((os.path.basename(above), name), [])  # noqa: PTH119
            if run.real not in tail:
                tail.append(run.real)
        self.names.setdefault(run.path.absolute().name, []).append(run.real)
        for digest in named.own_digests:
            self._digests.setdefault(digest, []).append(run.real)

    def _look_at(self, path: str) -> tuple[str | None, bool]:
        """Return the run around a path, and whether there is anything at all."""
        if path not in self._looked_at:
            run, exists = self._run_around(path), True
            if run is None:
                run = self._run_around(os.path.realpath(path))
                exists = run is not None or os.path.lexists(path)
            self._looked_at[path] = run, exists
        return self._looked_at[path]

    def _run_around(self, path: str) -> str | None:
        while path not in self._paths:
            above = os.path.dirname(path)  # noqa: PTH120
            if above == path:
                return None
            path = above
        return self._paths[path]
