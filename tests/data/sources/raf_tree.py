"""Plants folders of the RAF layout."""

from collections.abc import Iterable
from pathlib import Path

LANDMARKS = "100.1\t110.2\n130\t112\n115\t130\n103\t140\n128\t141\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def plant_raf(
    base: Path,
    lines: Iterable[str],
    *,
    folder: str = "Image/aligned",
    suffix: str = "_aligned",
    list_name: str = "list_patition_label.txt",
) -> Path:
    """Write the label list and one picture per line."""
    lines = list(lines)
    write(base / "EmoLabel" / list_name, "".join(f"{line}\n" for line in lines))
    for line in lines:
        stem, _, kind = line.split()[0].rpartition(".")
        write(base / folder / f"{stem}{suffix}.{kind}", "picture")
    return base


def plant_boxes(base: Path, boxes: dict[str, str], folder: str = "Annotation/boundingbox") -> None:
    """Write one box file per picture stem."""
    for stem, text in boxes.items():
        write(base / folder / f"{stem}_boundingbox.txt", text)


def plant_attributes(base: Path, codes: dict[str, str]) -> None:
    """Write one attribute file per picture stem: gender, race and age below the landmarks."""
    for stem, text in codes.items():
        write(base / "Annotation/manual" / f"{stem}_manu_attri.txt", LANDMARKS + text)
