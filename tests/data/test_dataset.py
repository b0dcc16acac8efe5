"""Rows to batches: the same pictures whoever loads them."""

import numpy as np
import pytest
import torch

from fer_lightning.data.augment import draw_jitter, make_geometry, sample_generator
from fer_lightning.data.canonical import CanonicalSpec, canonical_picture, decode
from fer_lightning.data.config import AugmentationConfig, AugmentationKind
from fer_lightning.data.dataset import EvalRows, TrainRows
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.sampling import SampleKey
from fer_lightning.errors import FerError
from tests.data.conftest import Workshop, cycle_rows, make_box, make_row

SPEC = CanonicalSpec(size=32)
ROWS = np.array([6, 1, 3, 0])


@pytest.fixture
def manifest(workshop: Workshop) -> Manifest:
    rows = cycle_rows(7)
    rows[3].update(make_box(2, 3, 20, 22))
    return workshop.read(rows, draw=True)


def test_eval_rows_are_canonical_pictures_with_labels_and_rows(manifest: Manifest) -> None:
    batch = EvalRows(manifest, ROWS, SPEC)[[2, 0]]
    assert batch.rows.tolist() == [3, 6]
    assert batch.labels.tolist() == [3, 6]
    assert batch.labels.dtype == torch.int64
    assert batch.jitters.shape == (2, 0)
    assert batch.pictures.shape == (2, 3, 32, 32)
    assert batch.pictures.dtype == torch.uint8
    assert batch.pictures.is_contiguous(memory_format=torch.channels_last)
    for picture, row, box in zip(batch.pictures, (3, 6), ((2, 3, 20, 22), None), strict=True):
        expected = canonical_picture(decode(manifest.root / manifest.image_paths[row]), box, SPEC)
        assert np.array_equal(picture.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("kind", [AugmentationKind.light, AugmentationKind.strong])
def test_augmentation_depends_on_seed_epoch_and_slot_alone(manifest: Manifest, kind: AugmentationKind) -> None:
    config = AugmentationConfig(kind=kind)
    keys = [SampleKey(position, 2, 40 + position) for position in (0, 1, 2, 3)]
    together = TrainRows(manifest, ROWS, SPEC, config, seed=5)[keys]
    backwards = TrainRows(manifest, ROWS, SPEC, config, seed=5)
    for index, key in reversed(list(enumerate(keys))):
        alone = backwards[[key]]
        assert torch.equal(alone.pictures[0], together.pictures[index])
        assert torch.equal(alone.jitters[0], together.jitters[index])
        assert alone.labels.item() == together.labels[index] == manifest.labels[ROWS[key.position]]
        random = sample_generator(5, 2, key.slot)
        canonical = canonical_picture(
            decode(manifest.root / manifest.image_paths[ROWS[key.position]]),
            (2, 3, 20, 22) if key.position == 2 else None,
            SPEC,
        )
        expected = make_geometry(config)(canonical, random)
        assert np.array_equal(alone.pictures[0].permute(1, 2, 0).numpy(), expected)
        np.testing.assert_allclose(alone.jitters[0].numpy(), draw_jitter(config, random), rtol=1e-6)


def test_another_seed_epoch_or_slot_gives_another_picture(manifest: Manifest) -> None:
    config = AugmentationConfig()
    draws = [(5, SampleKey(1, 2, 3)), (6, SampleKey(1, 2, 3)), (5, SampleKey(1, 3, 3)), (5, SampleKey(1, 2, 4))]
    batches = [TrainRows(manifest, ROWS, SPEC, config, seed=seed)[[key]] for seed, key in draws]
    assert len({batch.jitters.numpy().tobytes() for batch in batches}) == 4
    assert len({batch.pictures.numpy().tobytes() for batch in batches}) == 4


def test_without_augmentation_training_sees_evaluation_pictures(manifest: Manifest) -> None:
    config = AugmentationConfig(kind=AugmentationKind.none)
    train = TrainRows(manifest, ROWS, SPEC, config, seed=5)[[SampleKey(1, 0, 0), SampleKey(2, 0, 1)]]
    plain = EvalRows(manifest, ROWS, SPEC)[[1, 2]]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(train[:4], plain[:4], strict=True))
    assert train.jitters.shape == (2, 0)


def test_broken_picture_names_its_line(manifest: Manifest) -> None:
    (manifest.root / manifest.image_paths[3]).write_bytes(b"broken")
    with pytest.raises(FerError) as caught:
        EvalRows(manifest, ROWS, SPEC)[[2]]
    path = manifest.root / "pictures/train003.png"
    assert str(caught.value) == f"manifest line 5, pictures/train003.png: cannot decode {path} (6 bytes)"


def test_box_outside_its_picture_is_refused_in_the_loader_too(workshop: Workshop) -> None:
    manifest = workshop.read([make_row("a.png", **make_box(0, 0, 24, 25))], draw=True)
    with pytest.raises(FerError, match=r"manifest line 2, a.png: box \(0, 0, 24, 25\) .* outside an image of 24 x 24"):
        EvalRows(manifest, np.array([0]), SPEC)[[0]]
