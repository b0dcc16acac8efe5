"""What was found in a folder of soft labels, and each check of it, passed or not."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fer_lightning.errors import FerError
from fer_lightning.runs.softlabels import HashManifest


@dataclass(frozen=True)
class Proof:
    """One check: what was found, and what should have been."""

    name: str
    passed: bool
    found: str
    expected: str


@dataclass
class Examined:
    """What a folder of soft labels holds, as far as it can be read."""

    folder: Path
    proofs: list[Proof] = field(default_factory=list)
    record: HashManifest | None = None
    arrays: dict[str, NDArray[Any]] | None = None
    """By the names of `record.arrays`; only where types and shapes are right."""
    row_ids: tuple[str, ...] = ()
    index: dict[str, list[Any]] | None = None
    """By the names of `INDEX_COLUMNS`."""

    @property
    def failed(self) -> list[Proof]:
        """What does not hold."""
        return [proof for proof in self.proofs if not proof.passed]

    def hold(self, name: str, found: object, expected: object) -> bool:
        """Note whether two things are equal, and return it."""
        self.proofs.append(Proof(name, found == expected, str(found), str(expected)))
        return found == expected

    def read(self, name: str, read: Callable[[], Any], expected: str) -> Any:
        """Note whether something can be read, and return it, or None."""
        try:
            content = read()
        except FerError as error:
            self.proofs.append(Proof(name, False, str(error), expected))
            return None
        self.proofs.append(Proof(name, True, expected, expected))
        return content
