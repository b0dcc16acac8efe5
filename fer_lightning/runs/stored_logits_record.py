"""`storedlogits.json`: where stored logits lie, and what their record tells without a look at a number."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from fer_lightning.errors import FerError
from fer_lightning.runs.artifacts import STRICT, CalibrationRecord, read_artifact

LOGITS_FILE, ROWS_FILE, RECORD_FILE = "logits.npy", "rows.npz", "storedlogits.json"
STORED_FILES = (LOGITS_FILE, ROWS_FILE, RECORD_FILE)
KINDS = ("checkpoint", "onnx", "foreign", "ensemble")


@dataclass(frozen=True, kw_only=True)
class StoredLogitsRecord:
    """`storedlogits.json`: which weights, rows and pictures the logits beside it are of."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 2
    kind: str
    """`checkpoint`, `onnx`, `foreign` (another program's), or `ensemble` (fused from others')."""
    dtype: str
    """`float32` or `float16`: of the numbers in `logits.npy`."""
    run_dir: str
    """Folder of the model file, as it was named."""
    checkpoint: str
    """File name."""
    checkpoint_sha256: str
    epoch: int
    weights: str
    canonical: dict[str, int | float | bool]
    """Pictures that were scored."""
    canonical_digest: str
    view: str
    """`single`, `flip`, `ten_crop`, `mirror` (the mirror image alone), or a random crop's name."""
    corruption: str
    """`none`, or what was done to the pictures and how severely, e.g. `blur-3`."""
    manifest: str
    manifest_sha256: str
    split: str
    requested_rows: int
    rows_left_out: int
    rows_seen_in_training: int | None
    n: int
    row_set_fingerprint: str
    pictures_digest: str
    """SHA-256 of size and times of change of the picture files: tells whether the logits are of the files as they are."""
    group_columns: list[str]
    """Columns of the manifest that `groups` link rows by, beside files and near copies."""
    class_order: list[str]
    calibration: CalibrationRecord | None
    """Fitted on val by the model's run; None where there is none."""
    logits_sha256: str
    """Of `logits.npy`."""
    rows_sha256: str
    """Of `rows.npz`."""


def stored_folder(path: Path) -> Path:
    """Return the folder of stored logits that a path names: the folder itself, or one of its files."""
    return path.parent if path.name in STORED_FILES else path


def is_stored(given: str) -> bool:
    """Tell whether a path names stored logits, whole or damaged: their folder, or one of its files."""
    path = Path(given)
    return path.name in STORED_FILES or any((path / name).is_file() for name in STORED_FILES)


def stored_folders(path: Path) -> list[Path]:
    """Return the folders of stored logits that a path stands for: itself, or those right below it, by name."""
    folder = stored_folder(path)
    return (
        [folder]
        if (folder / RECORD_FILE).is_file()
        else [file.parent for file in sorted(folder.glob(f"*/{RECORD_FILE}"))]
    )


def read_stored_record(path: Path, *, option: str) -> StoredLogitsRecord:
    """Read `storedlogits.json` alone; what it vouches for is not looked at.

    Args:
        path: the folder, or one of its files.
        option: the option that named it, for messages.

    Raises:
        FerError: missing or damaged.
    """
    folder = stored_folder(path)
    if not (folder / RECORD_FILE).is_file():
        raise FerError(f"{option}: {folder} holds no stored logits: there is no {RECORD_FILE} in it")
    return read_artifact(folder / RECORD_FILE, StoredLogitsRecord)
