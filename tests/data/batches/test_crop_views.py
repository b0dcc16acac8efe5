"""Crops that belong to a row: drawn from its id alone, and seen again from the recorded draws."""

import hashlib
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_lightning.data.batches.augment import make_geometry
from fer_lightning.data.batches.crop_views import CropView, crop_draws, cropped_store, view_picture
from fer_lightning.data.config import AugmentationConfig
from fer_lightning.data.pictures.canonical import CanonicalSpec, Picture
from fer_lightning.data.pictures.store import DecodingStore
from fer_lightning.data.rows.manifest import read_manifest

VIEW = CropView(index=0, seed=1337, crop_scale_min=0.5, crop_ratio_max=1.3)
IDS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(500)]


def make_picture(size: int = 40, *, grey: bool = False) -> Picture:
    random = np.random.default_rng(3)
    return random.integers(0, 256, (size, size) if grey else (size, size, 3), dtype=np.uint8)


def test_draws_are_those_of_the_row_whatever_stands_beside_it() -> None:
    draws = crop_draws(VIEW, IDS)
    backwards = crop_draws(VIEW, IDS[::-1])
    np.testing.assert_array_equal(draws, backwards[::-1])
    np.testing.assert_array_equal(crop_draws(VIEW, IDS[7:8]), draws[7:8])


@pytest.mark.parametrize("other", [CropView(1, 1337, 0.5, 1.3), CropView(0, 1338, 0.5, 1.3)])
def test_draws_depend_on_index_and_seed(other: CropView) -> None:
    assert not np.isclose(crop_draws(VIEW, IDS), crop_draws(other, IDS)).any()


def test_draws_do_not_depend_on_the_strength() -> None:
    np.testing.assert_array_equal(crop_draws(VIEW, IDS), crop_draws(CropView(0, 1337, 0.9, 1.0), IDS))


def test_draws_are_uniform() -> None:
    draws = crop_draws(VIEW, IDS)
    assert draws.shape == (500, 5)
    assert draws.min() >= 0
    assert draws.max() < 1
    five_sigma = 5 / math.sqrt(12 * len(IDS))
    assert np.abs(draws.mean(axis=0) - 0.5).max() < five_sigma
    assert np.abs(np.corrcoef(draws.T) - np.eye(5)).max() < 5 / math.sqrt(len(IDS))


@pytest.mark.parametrize("grey", [False, True])
def test_view_is_the_light_augmentation_of_the_same_draws(grey: bool) -> None:
    picture = make_picture(grey=grey)
    geometry = make_geometry(AugmentationConfig(crop_scale_min=0.5, crop_ratio_max=1.3, flip_probability=0.5))
    for draws in crop_draws(VIEW, IDS[:20]):
        np.testing.assert_array_equal(
            view_picture(picture, draws, VIEW), geometry(picture, np.append(draws, [0.5] * 7))
        )


def test_view_is_the_crop_worked_by_hand() -> None:
    picture = make_picture(40)
    draws = np.array([0.0, 0.5, 0.999, 0.0, 0.2])  # half the area, square: 28 pixels a side; bottom left; mirrored
    expected = cv2.flip(cv2.resize(picture[12:40, 0:28], (40, 40), interpolation=cv2.INTER_LINEAR), 1)
    np.testing.assert_array_equal(view_picture(picture, draws, VIEW), expected)


def test_store_shows_each_row_through_its_own_crop(toy_manifest: Path) -> None:
    manifest, spec = read_manifest(toy_manifest), CanonicalSpec(size=32)
    store = DecodingStore(manifest, spec)
    rows = np.array([30, 4, 17])
    shown, whole = cropped_store(store, manifest, VIEW).pictures(rows), store.pictures(rows)
    draws = crop_draws(VIEW, [manifest.row_ids[row] for row in rows])
    for position in range(3):
        np.testing.assert_array_equal(shown(position), view_picture(whole(position), draws[position], VIEW))
    assert cropped_store(store, manifest, VIEW).spec == spec


def test_names_tell_views_apart() -> None:
    assert VIEW.name == "crop-0_s0.5_r1.3_seed1337"
    others = [
        CropView(1, 1337, 0.5, 1.3),
        CropView(0, 1, 0.5, 1.3),
        CropView(0, 1337, 0.6, 1.3),
        CropView(0, 1337, 0.5, 1.2),
    ]
    assert len({view.name for view in [VIEW, *others]}) == 5
