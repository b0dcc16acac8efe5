"""What the records of a run name: paths and digests, read from its JSON and YAML, or from plain text where these are broken."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic_core
import yaml

from fer_lightning.runs.ensemble import ENSEMBLE_FILE
from fer_lightning.runs.run_folders import RunFolder
from fer_lightning.runs.softlabels import HASH_FILE

CONFIG_FILE = "config.yaml"
_SILENT = {"history.json", "timings.json", "environment.json", "curves.json", "classorder.json", "phases.json"}
"""Files of curves, versions and names: they can be large, and refer to nothing."""
_VOUCHING = {
    "ensembles": ENSEMBLE_FILE,
    "softlabels": HASH_FILE,
    "calibrations": "calibrator.json",
    "logits": "storedlogits.json",
}
"""Kind -> file by whose digest others refer to the run; soft labels hold a copy of an `ensemble.json` that is not theirs."""
_CHECKPOINTS = ("best.pt", "checkpoint_last.pt")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DIGEST_BYTES = re.compile(rb"[0-9a-f]{64}")
_LONGEST_NAME = 255
_LARGEST_JSON = 64 << 20
_CHUNK, _OVERLAP = 8 << 20, 1 << 12


@dataclass
class Named:
    """What one run names, and by which digests others can name it."""

    run: RunFolder
    strings: set[tuple[str, str, str]] = field(default_factory=set)
    """(file, field, value) of every string that may be a path, a folder's name or a digest."""
    own_digests: set[str] = field(default_factory=set)
    """Of its files."""
    plain: list[tuple[Path, str]] = field(default_factory=list)
    """Files that only plain text can be taken from, and why."""
    unread: list[tuple[Path, str]] = field(default_factory=list)
    """Files that cannot be read at all, and why."""


def is_digest(text: str) -> bool:
    """Return whether a string looks like a SHA-256."""
    return len(text) == 64 and _DIGEST.fullmatch(text) is not None


def _strings(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Return every string of a parsed file that may name a run, with its field."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(str(key), place)
            yield from _strings(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, place)
    elif isinstance(value, str) and value and ("/" in value or len(value) <= _LONGEST_NAME):
        yield place, value


def _parsed(file: Path, content: bytes) -> Any:
    """Return the content of a JSON or YAML file.

    Raises:
        ValueError: broken.
        yaml.YAMLError: broken.
    """
    if file.suffix == ".json":
        return pydantic_core.from_json(content)
    return yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  both are safe loaders


def _digests_of_final_files(name: str, content: Any) -> Iterator[str]:
    """Return the digests that a run's own record gives of the run's own files."""
    if not isinstance(content, dict):
        return
    items: list[Any] = []
    if name == "reliabilitymetrics.json":
        items = [content.get("best"), content.get("last")]
    elif name == "onnx.json" and isinstance(content.get("files"), list):
        items = content["files"]
    elif name in {HASH_FILE, "storedlogits.json"}:
        items = [content]
    keys = {
        "reliabilitymetrics.json": ("checkpoint_sha256",),
        "onnx.json": ("sha256",),
        HASH_FILE: ("softlabels_sha256", "index_sha256"),
        "storedlogits.json": ("arrays_sha256", "logits_sha256", "rows_sha256"),
    }.get(name, ())
    if content.get("kind") == "foreign":  # an imported file has no run of its own
        keys = (*keys, "checkpoint_sha256")
    yield from (item[key] for item in items if isinstance(item, dict) for key in keys if isinstance(item.get(key), str))


def _files(run: RunFolder) -> list[Path]:
    folders = [run.path]
    if run.kind == "foreign":
        folders += [child for child in run.path.iterdir() if child.is_dir()]
    files = [file for folder in folders for file in folder.iterdir()]
    named = [file for file in files if file.suffix == ".json" or file.name == CONFIG_FILE]
    return sorted(file for file in named if file.name not in _SILENT and not file.name.startswith((".", "_")))


def _read_into(found: Named, file: Path) -> None:
    try:
        if file.stat().st_size > _LARGEST_JSON:
            found.plain.append((file, "too large to be read as JSON"))
            return
        content = file.read_bytes()
    except OSError as error:
        found.unread.append((file, error.strerror or str(error)))
        return
    if file.name == _VOUCHING.get(found.run.kind):
        found.own_digests.add(hashlib.sha256(content).hexdigest())
    try:
        parsed = _parsed(file, content)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        found.plain.append((file, str(error).splitlines()[0]))
        return
    found.own_digests.update(_digests_of_final_files(file.name, parsed))
    found.strings.update((file.name, place, text) for place, text in _strings(parsed))


def unrecorded_checkpoints(run: RunFolder) -> list[Path]:
    """Return the checkpoints whose digest no record vouches for: those of unfinished runs, or written after the record."""
    record = run.path / "reliabilitymetrics.json"
    written = record.stat().st_mtime_ns if record.is_file() else -1
    files = [run.path / name for name in _CHECKPOINTS]
    return [file for file in files if file.is_file() and file.stat().st_mtime_ns > written]


def read_names(run: RunFolder) -> Named:
    """Return everything that the records of a run name."""
    found = Named(run)
    try:
        files = _files(run)
    except OSError as error:
        found.unread.append((run.path, error.strerror or str(error)))
        return found
    for file in files:
        _read_into(found, file)
    return found


def named_in_text(file: Path, names: dict[str, list[str]]) -> tuple[set[str], set[str]]:
    """Return the digests that stand in a file, and the runs whose folders' names do; read piece by piece.

    Args:
        file: any bytes.
        names: name of a folder -> its runs.

    Raises:
        OSError: the file cannot be read.
    """
    digests: set[str] = set()
    runs: set[str] = set()
    with file.open("rb") as stream:
        tail = b""
        while piece := stream.read(_CHUNK):
            text = tail + piece
            digests |= {match.decode() for match in _DIGEST_BYTES.findall(text)}
            for name, own in names.items():
                spelt = name.encode()
                if spelt in text and re.search(rb"(?<![\w-])" + re.escape(spelt) + rb"(?![\w-])", text):
                    runs.update(own)
            tail = text[-_OVERLAP:]
    return digests, runs
