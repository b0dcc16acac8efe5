"""Teacher logits beside the rows they are of, and the views that both models see."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fer_lightning.data.batches.augment import colour_matrices, jitter_bytes, sample_uniforms
from fer_lightning.data.batches.crop_views import CropView, crop_draws, cropped_store
from fer_lightning.data.batches.dataset import TrainRows
from fer_lightning.data.batches.loader import make_loader
from fer_lightning.data.batches.row_logits import NO_VIEW, RowLogits
from fer_lightning.data.batches.sampling import SampleKey
from fer_lightning.data.config import AugmentationConfig, AugmentationKind
from fer_lightning.data.pictures.canonical import CanonicalSpec, expand
from fer_lightning.data.pictures.store import DecodingStore
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError
from tests.data.conftest import Workshop, cycle_rows

SPEC = CanonicalSpec(size=32)
ROWS = np.array([6, 1, 3, 0, 5])
CROPS = [CropView(index, 77, 0.4, 1.3) for index in range(2)]
KEYS = [SampleKey(place % 5, 3, 40 + place) for place in range(40)]
SEED = 5
AS_TEACHERS_SAW = AugmentationConfig(brightness=0, contrast=0, saturation=0, hue=0)


@dataclass(frozen=True)
class View:
    """A way of seeing pictures, as soft labels record it."""

    crop_scale_min: float
    crop_ratio_max: float
    flip_probability: float


VIEWS = [View(1.0, 1.0, 0.0), View(1.0, 1.0, 1.0), *(View(0.4, 1.3, 0.5) for _ in CROPS)]


def make_logits(num_views: int = 1, num_rows: int = 5, num_teachers: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(size=(num_views, num_rows, num_teachers, 7)).astype(np.float32)


def make_draws(manifest: Manifest) -> NDArray[np.float64]:
    ids = [manifest.row_ids[row] for row in ROWS]
    return np.stack([np.zeros((5, 5)), np.zeros((5, 5)), *(crop_draws(crop, ids) for crop in CROPS)])


def view_of(slot: int, num_views: int = 4) -> int:
    """The view of a sample, from its own random numbers."""
    return int(sample_uniforms(SEED, 3, slot, 1)[0, 11] * num_views)


@pytest.fixture
def manifest(workshop: Workshop) -> Manifest:
    return workshop.read(cycle_rows(7), draw=True)


def train_rows(
    manifest: Manifest,
    row_logits: RowLogits | None,
    config: AugmentationConfig,
    *,
    jitter_here: bool = False,
    negatives: NDArray[np.bool_] | None = None,
) -> TrainRows:
    return TrainRows(
        manifest,
        ROWS,
        DecodingStore(manifest, SPEC),
        config,
        seed=SEED,
        jitter_here=jitter_here,
        row_logits=row_logits,
        negatives=negatives,
    )


def teachers_pictures(manifest: Manifest) -> list[list[NDArray[np.uint8]]]:
    """(view)(position) -> what the teacher got: its own stores of crops, the whole picture and its mirror image."""
    store = DecodingStore(manifest, SPEC)
    whole = [expand(store.pictures(ROWS)(position)) for position in range(5)]
    crops = [cropped_store(store, manifest, crop).pictures(ROWS) for crop in CROPS]
    shown = [[expand(crop(position)) for position in range(5)] for crop in crops]
    return [whole, [np.ascontiguousarray(picture[:, ::-1]) for picture in whole], *shown]


@pytest.mark.parametrize("config", [AS_TEACHERS_SAW, AugmentationConfig(kind=AugmentationKind.none)])
def test_each_sample_shows_what_its_teacher_saw_and_carries_those_logits(
    manifest: Manifest, config: AugmentationConfig
) -> None:
    logits = make_logits(4)
    rows = train_rows(manifest, RowLogits(logits, views=VIEWS, draws=make_draws(manifest)), config)
    batch, seen = rows[KEYS], teachers_pictures(manifest)
    assert batch.teacher_logits.shape == (40, 2, 7)
    assert batch.teacher_logits.dtype == torch.float32
    assert batch.jitters.shape == (40, 0)
    for place, key in enumerate(KEYS):
        view = view_of(key.slot)
        assert np.array_equal(batch.pictures[place].permute(1, 2, 0).numpy(), seen[view][key.position])
        assert np.array_equal(batch.teacher_logits[place].numpy(), logits[view, key.position])
        alone = rows[[key]]
        assert torch.equal(alone.pictures[0], batch.pictures[place])
        assert torch.equal(alone.teacher_logits[0], batch.teacher_logits[place])
    assert {view_of(key.slot) for key in KEYS if key.position == 2} == {0, 1, 2, 3}


def test_colours_still_change_after_the_view(manifest: Manifest) -> None:
    row_logits = RowLogits(make_logits(4), views=VIEWS, draws=make_draws(manifest))
    carried, changed = (
        train_rows(manifest, row_logits, AugmentationConfig(), jitter_here=here)[KEYS] for here in (False, True)
    )
    plain = train_rows(manifest, None, AugmentationConfig())[KEYS]
    assert torch.equal(carried.jitters, plain.jitters)
    seen, matrices = teachers_pictures(manifest), colour_matrices(carried.jitters).numpy()
    for place, key in enumerate(KEYS):
        teachers = seen[view_of(key.slot)][key.position]
        assert np.array_equal(carried.pictures[place].permute(1, 2, 0).numpy(), teachers)
        expected = np.empty_like(teachers)
        jitter_bytes(teachers, carried.jitters[place].numpy(), matrices[place], expected)
        assert np.array_equal(changed.pictures[place].permute(1, 2, 0).numpy(), expected)
    assert torch.equal(changed.teacher_logits, carried.teacher_logits)


@pytest.mark.parametrize("kind", [AugmentationKind.light, AugmentationKind.strong])
def test_without_views_pictures_are_augmented_as_always(manifest: Manifest, kind: AugmentationKind) -> None:
    logits, config = make_logits(1, num_teachers=3), AugmentationConfig(kind=kind)
    negatives = np.random.default_rng(1).random((5, 7)) < 0.3
    plain = train_rows(manifest, None, config)[KEYS]
    batch = train_rows(manifest, RowLogits(logits), config, negatives=negatives)[KEYS]
    for name in ("pictures", "labels", "rows", "jitters", "targets", "weights"):
        assert torch.equal(getattr(batch, name), getattr(plain, name))
    assert (plain.teacher_logits.shape, plain.negatives.shape) == ((0, 0, 0), (0, 0))
    assert batch.negatives.dtype == torch.bool
    for place, key in enumerate(KEYS):  # positions come up eight times each
        assert np.array_equal(batch.teacher_logits[place].numpy(), logits[0, key.position])
        assert batch.negatives[place].tolist() == negatives[key.position].tolist()


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_loader_processes_carry_the_same_logits(manifest: Manifest) -> None:
    negatives = np.random.default_rng(1).random((5, 7)) < 0.3
    config = AugmentationConfig(kind=AugmentationKind.strong)
    rows = train_rows(manifest, RowLogits(make_logits()), config, negatives=negatives)
    keys = [KEYS[:3], KEYS[3:7], KEYS[7:8]]
    expected = [rows[of_batch] for of_batch in keys]
    for batch, alone in zip(make_loader(rows, keys, num_workers=2, processes=True), expected, strict=True):
        assert torch.equal(batch.teacher_logits, alone.teacher_logits)
        assert torch.equal(batch.negatives, alone.negatives)
        assert torch.equal(batch.pictures, alone.pictures)


def test_rows_without_logits_are_augmented_and_carry_nan(manifest: Manifest) -> None:
    logits, draws = make_logits(4), make_draws(manifest)
    logits[:, [1, 4]], draws[:, [1, 4]] = np.nan, np.nan
    row_logits = RowLogits(logits, views=VIEWS, draws=draws)
    batch = train_rows(manifest, row_logits, AS_TEACHERS_SAW)[KEYS]
    plain = train_rows(manifest, None, AS_TEACHERS_SAW)[KEYS]
    seen = teachers_pictures(manifest)
    for place, key in enumerate(KEYS):
        teachers = torch.from_numpy(seen[view_of(key.slot)][key.position]).permute(2, 0, 1)
        taught = key.position not in {1, 4}
        assert torch.equal(batch.pictures[place], teachers if taught else plain.pictures[place])
        assert batch.teacher_logits[place].isnan().all() == (not taught)
        assert batch.teacher_logits[place].isnan().any() == (not taught)


def test_every_view_has_an_equal_share_of_the_draws() -> None:
    for num_views in (1, 2, 3, 4, 5, 7, 10):
        logits, draws = make_logits(num_views, 1), np.zeros((num_views, 1, 5))
        row_logits = RowLogits(logits, views=[VIEWS[0]] * num_views, draws=draws)
        drawn = row_logits.drawn_views(np.zeros(8400, dtype=np.int64), (np.arange(8400) + 0.5) / 8400)
        assert np.bincount(drawn).tolist() == [8400 // num_views] * num_views
        ends = row_logits.drawn_views(np.zeros(2, dtype=np.int64), np.array([0.0, np.nextafter(1, 0)]))
        assert ends.tolist() == [0, num_views - 1]
    assert RowLogits(make_logits()).drawn_views(np.arange(5), np.full(5, 0.9)).tolist() == [NO_VIEW] * 5


def test_logits_may_stay_on_disk(tmp_path: Path) -> None:
    expected = make_logits(2, 9)
    np.save(tmp_path / "logits.npy", expected)
    stored = np.load(tmp_path / "logits.npy", mmap_mode="r")
    row_logits = RowLogits(stored, views=VIEWS[:2], draws=np.zeros((2, 9, 5)))
    positions, views = np.array([8, 0, 8]), np.array([1, 1, 0])
    chosen = row_logits.logits(positions, views)
    assert np.array_equal(chosen, np.stack([expected[1, 8], expected[1, 0], expected[0, 8]]))
    assert type(chosen) is np.ndarray
    assert len(row_logits) == 9


def test_logits_are_not_copied() -> None:
    logits = make_logits()
    row_logits = RowLogits(logits)
    logits[0, 2, 1, 4] = 99
    assert row_logits.logits(np.array([2]), np.array([NO_VIEW]))[0, 1, 4] == 99


@pytest.mark.parametrize(
    ("logits", "num_views", "draws", "message"),
    [
        (
            np.zeros((1, 5, 7), np.float32),
            0,
            None,
            r"float32 of \(views, rows, teachers, 7\), got float32 of \(1, 5, 7\)",
        ),
        (np.zeros((1, 5, 2, 8), np.float32), 0, None, r"got float32 of \(1, 5, 2, 8\)"),
        (np.zeros((1, 5, 0, 7), np.float32), 0, None, r"got float32 of \(1, 5, 0, 7\)"),
        (np.zeros((1, 5, 2, 7)), 0, None, r"got float64 of \(1, 5, 2, 7\)"),
        (make_logits(3), 0, None, "are of 3 views, and 0 are described"),
        (make_logits(3), 2, np.zeros((2, 5, 5)), "are of 3 views, and 2 are described"),
        (make_logits(2), 2, None, r"the draws of each, shape \(2, 5, 5\), got None; export the soft labels again with"),
        (make_logits(2), 2, np.zeros((2, 4, 5)), r"shape \(2, 5, 5\), got \(2, 4, 5\)"),
        (make_logits(1), 0, np.zeros((1, 5, 5)), r"0 described views need .* None, got \(1, 5, 5\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    logits: NDArray[np.float32], num_views: int, draws: NDArray[np.float64] | None, message: str
) -> None:
    with pytest.raises(FerError, match=message):
        RowLogits(logits, views=VIEWS[:num_views], draws=draws)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [(1, 3, 0, 6), (0, 3, 1, 0), (1, 3), (0, 3, 1)])
def test_infinite_or_partly_missing_logits_are_refused(value: float, place: tuple[int, ...]) -> None:
    logits, draws = make_logits(2), np.zeros((2, 5, 5))
    logits[:, 1] = np.nan  # a row without any: allowed
    logits[place] = value
    message = "^1 of 5 rows have some of their teacher logits infinite or missing, the first at position 3 of its split"
    with pytest.raises(FerError, match=message):
        RowLogits(logits, views=VIEWS[:2], draws=draws)


@pytest.mark.parametrize("value", [1.0, -0.1, np.nan])
def test_draws_outside_their_range_are_refused(value: float) -> None:
    draws = np.zeros((2, 5, 5))
    draws[1, 2:, 3] = value
    with pytest.raises(
        FerError, match=r"^3 of 5 rows have draws of their views outside \[0, 1\), the first at position 2"
    ):
        RowLogits(make_logits(2), views=VIEWS[:2], draws=draws)


@pytest.mark.parametrize("kind", [AugmentationKind.strong, AugmentationKind.custom])
def test_views_refuse_an_augmentation_they_cannot_replace(manifest: Manifest, kind: AugmentationKind) -> None:
    config = AugmentationConfig(kind=kind, pipeline="own.yaml" if kind is AugmentationKind.custom else None)
    row_logits = RowLogits(make_logits(4), views=VIEWS, draws=make_draws(manifest))
    message = f"distillation.views=true .* needs augmentation=light or none, not augmentation={kind.value}"
    with pytest.raises(FerError, match=message):
        train_rows(manifest, row_logits, config)


def test_logits_and_negatives_of_other_rows_are_refused(manifest: Manifest) -> None:
    with pytest.raises(FerError, match="teacher logits are of 4 rows, and the train split has 5"):
        train_rows(manifest, RowLogits(make_logits(1, 4)), AugmentationConfig())
    with pytest.raises(FerError, match=r"negatives must be bool of \(5, 7\), got bool of \(4, 7\)"):
        train_rows(manifest, None, AugmentationConfig(), negatives=np.zeros((4, 7), np.bool_))
    with pytest.raises(FerError, match=r"negatives must be bool of \(5, 7\), got int64"):
        train_rows(manifest, None, AugmentationConfig(), negatives=np.zeros((5, 7), np.int64))
