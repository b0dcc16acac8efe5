"""`diagnosis.json`: what of soft labels holds today, check by check."""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from fer_lightning.runs.artifacts import STRICT

DIAGNOSIS_FILE = "diagnosis.json"


@dataclass(frozen=True, kw_only=True)
class DiagnosisCheck:
    """One check."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    passed: bool
    possible: bool
    """False: what it needs is gone; it has not passed."""
    found: str
    expected: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """`diagnosis.json`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    softlabels: str
    """Folder, as named."""
    manifest: str | None
    """That they were held against; None where none is recorded."""
    checks: list[DiagnosisCheck]

    @property
    def failed(self) -> list[DiagnosisCheck]:
        """What did not pass, that which was not possible included."""
        return [check for check in self.checks if not check.passed]
