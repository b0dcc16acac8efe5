"""Batches for several models: the pixels of each alone, each file decoded once in a thread."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fer_lightning.data.batches import shared_decoding
from fer_lightning.data.batches.dataset import EvalRows
from fer_lightning.data.batches.loader import make_loader
from fer_lightning.data.batches.shared_decoding import DecodeOnce, RememberingStore, SharedKey, SharedRows
from fer_lightning.data.pictures.canonical import CanonicalSpec, decode_compact
from fer_lightning.data.pictures.store import DecodingStore
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError
from tests.data.conftest import Workshop, cycle_rows, make_box, make_row

SPECS = (CanonicalSpec(size=16), CanonicalSpec(size=20), CanonicalSpec(size=16, clahe=False))


@pytest.fixture
def manifest(workshop: Workshop) -> Manifest:
    faces = [{**make_row("photo.png"), **make_box(top, 0, 20, top + 8)} for top in (0, 4)]
    return workshop.read([*cycle_rows(9), *faces], draw=True)


def test_each_kind_is_what_it_is_alone(manifest: Manifest) -> None:
    rows, decoder = np.array([10, 3, 9, 4, 5]), DecodeOnce()
    stores = [RememberingStore(DecodingStore(manifest, spec, decoder=decoder), rows) for spec in SPECS]
    batch = SharedRows(rows, stores)[SharedKey(2, [1, 2, 0], [2, 0, 1], [5], is_last=True)]
    assert batch.key == SharedKey(2, [1, 2, 0], [2, 0, 1], [5], is_last=True)
    for kind, pictures in zip((2, 0, 1), batch.pictures, strict=True):
        alone = EvalRows(manifest, rows, DecodingStore(manifest, SPECS[kind]))[[1, 2, 0]].pictures
        assert torch.equal(pictures, alone)
        assert pictures.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_file_is_decoded_once_for_all_kinds(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    decodes: Counter[str] = Counter()

    def counted(path: Path) -> Any:
        decodes[path.name] += 1
        return decode_compact(path)

    monkeypatch.setattr(shared_decoding, "decode_compact", counted)
    rows, decoder = np.arange(11), DecodeOnce()
    stores = [DecodingStore(manifest, spec, decoder=decoder) for spec in SPECS]
    keys = [SharedKey(0, [start, start + 1], [0, 1, 2], [0], is_last=False) for start in range(0, 9, 2)]
    keys[-1] = SharedKey(0, [8, 9, 10], [0, 1, 2], [0], is_last=True)
    loader: Any = make_loader(SharedRows(rows, stores), keys, num_workers=num_workers, processes=False)
    assert [list(key.positions) for key, _ in loader] == [key.positions for key in keys]
    assert set(decodes.values()) == {1}
    assert len(decodes) == 10  # two faces of one photo


def test_a_picture_is_made_once_for_all_that_are_made_from_it(manifest: Manifest) -> None:
    asked: list[int] = []

    class Counting(DecodingStore):
        def pictures(self, rows: Any) -> Any:
            pictures = super().pictures(rows)

            def counted(position: int) -> Any:
                asked.append(position)
                return pictures(position)

            return counted

    rows = np.array([4, 2])
    store = RememberingStore(Counting(manifest, SPECS[0]), rows)
    shared = SharedRows(rows, [store, store])
    shared[SharedKey(0, [0, 1], [0, 1], [0, 1], is_last=True)]
    assert asked == [0, 1]


def test_a_broken_file_is_named_by_its_line(manifest: Manifest) -> None:
    (manifest.root / manifest.image_paths[2]).write_bytes(b"no picture")
    rows = np.arange(4)
    shared = SharedRows(rows, [DecodingStore(manifest, SPECS[0], decoder=DecodeOnce())])
    with pytest.raises(FerError, match=rf"manifest line 4, {manifest.image_paths[2]}: cannot decode"):
        shared[SharedKey(0, [0, 1, 2], [0], [0], is_last=False)]
