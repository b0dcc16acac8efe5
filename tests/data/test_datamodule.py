"""Batches of the DataModule, with and without loader processes."""

import os
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from fer_lightning.data.batches.augment import jitter_colours
from fer_lightning.data.batches.crop_views import CropView, crop_draws
from fer_lightning.data.batches.dataset import Batch
from fer_lightning.data.batches.row_logits import RowLogits
from fer_lightning.data.batches.sampling import Sampling
from fer_lightning.data.config import AugmentationConfig, AugmentationKind, DataConfig, SourceFilterConfig
from fer_lightning.data.datamodule import FerDataModule, eval_loader, worker_count
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.pictures.store import DecodingStore
from fer_lightning.data.selection import Selection, select_rows
from fer_lightning.errors import FerError
from tests.data.conftest import Workshop, cycle_rows

SPEC = CanonicalSpec(size=16)

# Two workers on a machine of one core: slow, and meant so.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pytest.fixture
def selection(workshop: Workshop) -> Selection:
    train, val = cycle_rows(21), cycle_rows(11, split="val")
    rows = [*val[:4], *train, *val[4:]]
    return select_rows(DataConfig(manifest=str(workshop.write(rows, draw=True))), SourceFilterConfig())


def make_row_logits(selection: Selection) -> RowLogits:
    """Logits of three crops of each train row, all different; one row has none."""
    rows = selection.rows["train"]
    views = [CropView(index, 2, 0.5, 1.2) for index in range(3)]
    ids = [selection.manifest.row_ids[row] for row in rows]
    logits = np.random.default_rng(1).normal(size=(3, len(rows), 2, 7)).astype(np.float32)
    logits[:, 4] = np.nan
    return RowLogits(logits, views=views, draws=np.stack([crop_draws(view, ids) for view in views]))


def make_negatives(selection: Selection) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    return np.random.default_rng(2).random((len(selection.rows["train"]), 7)) < 0.3


def make_module(
    selection: Selection,
    *,
    kind: AugmentationKind = AugmentationKind.light,
    num_workers: int = 0,
    min_per_class: int = 0,
    batch_size: int = 8,
    distils: bool = False,
) -> FerDataModule:
    return FerDataModule(
        selection,
        DecodingStore(selection.manifest, SPEC),
        AugmentationConfig(kind=kind),
        batch_size=batch_size,
        row_logits=make_row_logits(selection) if distils else None,
        negatives=make_negatives(selection) if distils else None,
        sampling=Sampling(min_per_class=min_per_class),
        seed=9,
        num_workers=num_workers,
    )


def join(batches: Iterable[Batch]) -> list[Tensor]:
    return [torch.cat(parts) for parts in zip(*(batch[:4] for batch in batches), strict=True)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_val_is_every_row_once_in_manifest_order(selection: Selection, num_workers: int) -> None:
    batches = list(make_module(selection, num_workers=num_workers).val_dataloader())
    assert [len(batch.labels) for batch in batches] == [8, 3]
    rows = torch.cat([batch.rows for batch in batches])
    assert rows.tolist() == selection.rows["val"].tolist() == [0, 1, 2, 3, *range(25, 32)]
    assert torch.cat([batch.labels for batch in batches]).tolist() == selection.manifest.labels[rows.numpy()].tolist()


def test_training_batches_are_the_same_whatever_the_number_of_workers(selection: Selection) -> None:
    epochs = []
    for num_workers in (0, 2):
        loader = make_module(selection, num_workers=num_workers, min_per_class=1).train_dataloader()
        assert len(loader) == 3
        for epoch in (0, 1):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]  # ours, or Lightning would not call it
            epochs.append(join(loader))
    for first, second in zip(epochs[:2], epochs[2:], strict=True):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(first, second, strict=True))
    assert not torch.equal(epochs[0][0], epochs[1][0])
    assert set(epochs[0][2].tolist()) <= set(selection.rows["train"].tolist())


def test_training_shows_every_row_in_an_epoch(selection: Selection) -> None:
    module = make_module(selection)
    rows = join(module.train_dataloader())[2].tolist()
    assert set(rows) == set(selection.rows["train"].tolist())
    assert module.train_batches().coverage(0) == 1.0


def test_jitter_is_applied_once_by_the_loader_or_on_the_device(
    selection: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make_module(selection)
    here, val = next(iter(module.train_dataloader())), next(iter(module.val_dataloader()))
    monkeypatch.setattr(FerDataModule, "_device_type", lambda _: "mps")
    carried = next(iter(module.train_dataloader()))
    assert (here.jitters.shape, carried.jitters.shape) == ((8, 0), (8, 4))
    plain = carried.pictures.float() / 255
    on_device = module.on_after_batch_transfer(carried, 0)
    torch.testing.assert_close(on_device.pictures, jitter_colours(plain, carried.jitters), rtol=0, atol=1e-6)
    assert (on_device.pictures - plain).abs().max() > 0.02
    in_loader = module.on_after_batch_transfer(here, 0)
    torch.testing.assert_close(in_loader.pictures, on_device.pictures, rtol=0, atol=1 / 255)
    assert torch.equal(on_device.labels, here.labels)
    assert torch.equal(on_device.rows, here.rows)
    untouched = module.on_after_batch_transfer(val, 0)
    torch.testing.assert_close(untouched.pictures, val.pictures.float() / 255, rtol=0, atol=1e-6)
    assert untouched.pictures.dtype == torch.float32


def test_no_augmentation_leaves_training_pictures_alone(selection: Selection) -> None:
    module = make_module(selection, kind=AugmentationKind.none)
    batch = next(iter(module.train_dataloader()))
    changed = module.on_after_batch_transfer(batch, 0).pictures
    torch.testing.assert_close(changed, batch.pictures.float() / 255, rtol=0, atol=1e-6)


def test_strong_augmentation_survives_two_workers(selection: Selection) -> None:
    alone, shared = (
        join(make_module(selection, kind=AugmentationKind.strong, num_workers=number).train_dataloader())
        for number in (0, 2)
    )
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(alone[:4], shared[:4], strict=True))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_broken_picture_ends_in_one_clear_line(selection: Selection, num_workers: int) -> None:
    path = selection.manifest.root / selection.manifest.image_paths[2]
    path.write_bytes(b"broken")
    with pytest.raises(FerError) as caught:
        list(make_module(selection, num_workers=num_workers).val_dataloader())
    assert str(caught.value) == f"manifest line 4, pictures/val002.png: cannot decode {path} (6 bytes)"


def test_empty_splits_are_refused(selection: Selection) -> None:
    with pytest.raises(FerError, match=r"split 'test' of .* has no rows after source_filter=all"):
        make_module(selection).test_dataloader()
    selection.rows["train"] = selection.rows["test"]
    with pytest.raises(FerError, match=r"has no train rows"):
        make_module(selection).train_dataloader()


def distilled(batches: Iterable[Batch]) -> list[Tensor]:
    """Everything that distillation looks at, one row after another; a row without logits is zeros."""
    parts = [(*batch[:4], batch.teacher_logits.nan_to_num(0.0), batch.negatives) for batch in batches]
    return [torch.cat(column) for column in zip(*parts, strict=True)]


def test_distilled_batches_are_the_same_whatever_the_number_of_workers(selection: Selection) -> None:
    epochs = []
    for num_workers in (0, 1, 3):
        loader = make_module(selection, num_workers=num_workers, distils=True).train_dataloader()
        for epoch in (0, 1):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]  # ours
            epochs.append(distilled(loader))
    for other in (epochs[2:4], epochs[4:]):
        for expected, found in zip(epochs[:2], other, strict=True):
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(expected, found, strict=True))
    by_row = [dict(zip(rows.tolist(), logits, strict=True)) for _, _, rows, _, logits, _ in epochs[:2]]
    changed = sum(not torch.equal(by_row[0][row], by_row[1][row]) for row in by_row[0])
    assert 0 < changed < len(by_row[0])  # views are drawn anew in each epoch


def test_two_ranks_together_have_the_distilled_batches_of_one(
    selection: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = list(make_module(selection, distils=True).train_dataloader())
    halves = []
    for rank in (0, 1):
        monkeypatch.setattr(FerDataModule, "_place", lambda _, rank=rank: (rank, 2))
        halves.append(list(make_module(selection, batch_size=4, distils=True).train_dataloader()))
    assert len(alone) == len(halves[0]) == len(halves[1]) == 3
    for whole, first, second in zip(alone, *halves, strict=True):
        parts = zip(distilled([whole]), distilled([first, second]), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in parts)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_epoch_goes_on_with_the_same_distilled_batches(selection: Selection, num_workers: int) -> None:
    whole = make_module(selection, distils=True).train_dataloader()
    whole.sampler.set_epoch(3)  # type: ignore[attr-defined]  # ours
    resumed = make_module(selection, num_workers=num_workers, distils=True).train_dataloader()
    resumed.sampler.set_epoch(3, batches_done=1)  # type: ignore[attr-defined]  # ours
    parts = zip(distilled(list(whole)[1:]), distilled(resumed), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in parts)


def test_teacher_logits_and_negatives_travel_with_their_batch(selection: Selection) -> None:
    module = make_module(selection, distils=True)
    batch = next(iter(module.train_dataloader()))
    moved = move_data_to_device(batch, torch.device("meta"))
    assert isinstance(moved, Batch)
    assert {part.device.type for part in moved if isinstance(part, Tensor)} == {"meta"}
    assert (moved.teacher_logits.shape, moved.teacher_logits.dtype) == ((8, 2, 7), torch.float32)
    assert (moved.negatives.shape, moved.negatives.dtype) == ((8, 7), torch.bool)
    after = module.on_after_batch_transfer(batch, 0)
    torch.testing.assert_close(after.teacher_logits, batch.teacher_logits, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(after.negatives, batch.negatives)
    positions = np.searchsorted(selection.rows["train"], batch.rows.numpy())
    assert batch.negatives.tolist() == make_negatives(selection)[positions].tolist()
    val = next(iter(module.val_dataloader()))
    assert (val.teacher_logits.shape, val.negatives.shape) == ((0, 0, 0), (0, 0))


def test_views_and_another_geometry_are_refused(selection: Selection) -> None:
    module = make_module(selection, kind=AugmentationKind.strong, distils=True)
    with pytest.raises(FerError, match="needs augmentation=light or none, not augmentation=strong"):
        module.train_dataloader()


def test_eval_loader_takes_any_batch_size(selection: Selection) -> None:
    for batch_size in (1, 11, 100):
        loader = eval_loader(
            selection, "val", DecodingStore(selection.manifest, SPEC), batch_size=batch_size, num_workers=0
        )
        assert join(loader)[2].tolist() == selection.rows["val"].tolist()
        assert len(loader) == -(-11 // batch_size)


def test_worker_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (worker_count(0), worker_count(5), worker_count(20)) == (0, 5, 20)
    for processors, expected in ((None, 0), (1, 0), (2, 1), (9, 8), (64, 8)):
        monkeypatch.setattr(os, "cpu_count", lambda processors=processors: processors)
        assert worker_count(None) == expected
