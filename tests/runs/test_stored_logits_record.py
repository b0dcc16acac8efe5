"""Where stored logits lie is told by a look at names alone."""

from pathlib import Path

import pytest

from fer_lightning.errors import FerError
from fer_lightning.runs.stored_logits import write_stored_logits
from fer_lightning.runs.stored_logits_record import (
    STORED_FILES,
    is_stored,
    read_stored_record,
    stored_folder,
    stored_folders,
)
from tests.runs.stored_examples import stored_logits


def test_folders_are_found_by_any_of_their_names(tmp_path: Path) -> None:
    for name in ("val_b", "test_a"):
        write_stored_logits(tmp_path / name, stored_logits())
    one = tmp_path / "val_b"
    for given in (one, *(one / name for name in STORED_FILES)):
        assert is_stored(str(given))
        assert stored_folder(given) == one
        assert stored_folders(given) == [one]
    assert stored_folders(tmp_path) == [tmp_path / "test_a", one]
    assert not is_stored(str(tmp_path))


def test_what_is_damaged_is_still_stored_logits_and_refused_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "logits.npy").write_bytes(b"")
    assert is_stored(str(tmp_path))
    assert stored_folders(tmp_path) == []
    with pytest.raises(FerError, match=rf"o: {tmp_path} holds no stored logits: there is no storedlogits\.json in it"):
        read_stored_record(tmp_path / "logits.npy", option="o")
