"""Rows whose picture cannot be used, from what is known about their files."""

from fer_lightning.data.pictures.image_facts import FileStatus, ImageFacts
from fer_lightning.data.rows.faults import Fault, FaultKind
from fer_lightning.data.rows.manifest import Manifest

UNUSABLE = {
    FileStatus.empty: (FaultKind.empty_file, "the file has no bytes"),
    FileStatus.unreadable: (FaultKind.unreadable, "not a picture that can be decoded"),
    FileStatus.truncated: (FaultKind.truncated, "the picture ends before its last pixel"),
}
"""What a file's status means; missing files and boxes outside are found from listings and headers, before decoding."""


def picture_faults(manifest: Manifest, facts: ImageFacts) -> list[Fault]:
    """Return the rows whose file is there but holds no whole picture, by status and row."""
    return [
        Fault(int(manifest.lines[row]), "image_path", manifest.image_paths[row], reason, kind)
        for status, (kind, reason) in UNUSABLE.items()
        for row in facts.rows[facts.status == status].tolist()
    ]
