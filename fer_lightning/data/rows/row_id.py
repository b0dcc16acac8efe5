"""What makes two rows the same row, and two row sets the same set."""

import hashlib
import posixpath
import unicodedata
from collections.abc import Iterable, Sequence


def normalise_path(path: str) -> str:
    r"""Return the one spelling of an image path that row ids are made from.

    Args:
        path: as written in a manifest; `/` or `\` separated.

    Returns:
        `/` separated, without `.` and empty parts, in Unicode NFC.
    """
    return unicodedata.normalize("NFC", posixpath.normpath(path.replace("\\", "/")))


def row_id(path: str, bbox: Sequence[int] | None) -> str:
    """Return the id of a manifest row: SHA-256 of its normalised path and box.

    Args:
        path: image path relative to the manifest's root.
        bbox: `(top, left, right, bottom)` in pixels, or None for the whole image.

    Returns:
        64 hexadecimal digits; equal for two rows exactly when they show the same face.
    """
    box = "" if bbox is None else ",".join(str(int(value)) for value in bbox)
    return hashlib.sha256(f"{normalise_path(path)}\n{box}".encode()).hexdigest()


def row_set_fingerprint(row_ids: Iterable[str], labels: Iterable[str]) -> str:
    """Return the SHA-256 of a set of labelled rows; the order of the rows does not matter.

    Args:
        row_ids: one id per row.
        labels: one emotion name per row.
    """
    digest = hashlib.sha256()
    for line in sorted(f"{identity} {label}\n" for identity, label in zip(row_ids, labels, strict=True)):
        digest.update(line.encode())
    return digest.hexdigest()
