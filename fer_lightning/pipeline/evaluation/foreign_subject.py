"""A foreign model as something to judge: the stored logits of each split in its folder."""

from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.runs.stored_logits_record import is_stored, read_stored_record, stored_folders


def foreign_splits(given: str, *, option: str) -> dict[Path, str]:
    """Return the stored logits in a folder of a foreign model, and the split of each; none for any other folder."""
    path = Path(given)
    if is_stored(given) or not path.is_dir():
        return {}
    records = {folder: read_stored_record(folder, option=option) for folder in stored_folders(path)}
    return {folder: record.split for folder, record in records.items() if record.kind == "foreign"}


def foreign_folder(given: str, split: str, *, option: str) -> str:
    """Return the stored logits of a split in a folder of a foreign model.

    Args:
        given: folder that `foreign_splits` finds some in.
        split: train, val or test.
        option: the option that named it, for messages.

    Raises:
        FerError: none or several of that split.
    """
    splits = foreign_splits(given, option=option)
    found = [folder for folder, own in splits.items() if own == split]
    if len(found) != 1:
        names = ", ".join(str(folder) for folder in found or splits)
        raise FerError(f"{option}: {given} holds logits of {len(found)} sets of {split} rows; name one of {names}")
    return str(found[0])
