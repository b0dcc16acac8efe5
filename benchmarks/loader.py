"""Images a second of the loader: cached and uncached, bytes or floats out, against a plain Dataset with albumentations.

Command: python -m benchmarks.loader [--images 3000] [--size 224] [--workers 0 2]
Baseline (a): one picture at a time, cv2.imread, cvtColor, albumentations (Resize, CLAHE, RandomResizedCrop,
HorizontalFlip, ColorJitter, Normalize, ToTensorV2), default collate, in loader processes where there are any; ours has
threads. All arms: the same generated pictures (61 % 48 px grey, 7 % 100 px, 32 % 224 px), batches of 64, one thread per
process for the mathematics. They run in turn; figures are medians, ratios are of neighbours in time.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from fer_lightning.allocator import keep_freed_memory

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations
import albumentations.pytorch
import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fer_lightning.data.batches.augment import to_float
from fer_lightning.data.batches.dataset import TrainRows
from fer_lightning.data.batches.loader import make_loader
from fer_lightning.data.batches.sampling import TrainBatches
from fer_lightning.data.config import AugmentationConfig, PixelCache
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.pictures.pixel_cache import open_pictures
from fer_lightning.data.pictures.store import DecodingStore, PictureStore
from fer_lightning.data.rows.manifest import Manifest, read_manifest
from fer_lightning.data.sources.generated import GeneratedSetSpec, generate_set
from fer_lightning.models.classifier import standardise

_BATCH_SIZE = 64
SHARES = {"ferplus": 0.61, "rafdb_basic": 0.07, "affectnet_full_balanced": 0.32}
_MEAN, _STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


class PlainDataset(Dataset[tuple[Tensor, int]]):
    """What one would write without this framework."""

    def __init__(self, manifest: Manifest, size: int) -> None:
        self._paths = [str(manifest.root / path) for path in manifest.image_paths]
        self._labels = manifest.labels.tolist()
        self._change = albumentations.Compose(
            [
                albumentations.Resize(size, size),
                albumentations.CLAHE(clip_limit=(2.0, 2.0), tile_grid_size=(8, 8), p=1.0),
                albumentations.RandomResizedCrop((size, size), scale=(0.8, 1.0), ratio=(1 / 1.1, 1.1)),
                albumentations.HorizontalFlip(p=0.5),
                albumentations.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02, p=1.0),
                albumentations.Normalize(),
                albumentations.pytorch.ToTensorV2(),
            ]
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = cv2.cvtColor(cv2.imread(self._paths[index]), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]  # as one would
        return self._change(image=image)["image"], self._labels[index]


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def _plain(manifest: Manifest, size: int, workers: int) -> Callable[[], int]:
    loader = DataLoader(
        PlainDataset(manifest, size),
        batch_size=_BATCH_SIZE,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        worker_init_fn=_one_thread,
        persistent_workers=workers > 0,
    )
    return lambda: _drain(loader, lambda batch: len(batch[0]))


def _ours(manifest: Manifest, store: PictureStore, workers: int, *, floats: bool) -> Callable[[], int]:
    loader = make_loader(
        TrainRows(manifest, np.arange(len(manifest)), store, AugmentationConfig(), seed=1, jitter_here=floats),
        TrainBatches(manifest.labels, batch_size=_BATCH_SIZE, seed=1),
        num_workers=workers,
        processes=False,
    )

    def take(batch: object) -> int:
        pictures: Tensor = batch.pictures  # type: ignore[attr-defined]
        return len(standardise(to_float(pictures), _MEAN, _STD) if floats else pictures)

    return lambda: _drain(loader, take)


def _drain(loader: Iterable[object], take: Callable[..., int]) -> int:
    return sum(take(batch) for batch in loader)


def _images_per_second(epoch: Callable[[], int]) -> float:
    start = time.perf_counter()
    return epoch() / (time.perf_counter() - start)


def main() -> None:
    """Print images a second and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    keep_freed_memory()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        spec = GeneratedSetSpec(num_images=options.images, source_shares=SHARES)
        manifest = read_manifest(generate_set(Path(folder) / "set", spec).manifest)
        pictures = CanonicalSpec(size=options.size)
        start = time.perf_counter()
        rows, cache_dir = np.arange(len(manifest)), Path(folder) / "cache"
        cache = open_pictures(
            manifest, rows, pictures, mode=PixelCache.on, cache_dir=cache_dir, verify_rows=0, num_processes=1
        )
        built = time.perf_counter() - start
        for workers in options.workers:
            arms = {
                "(a) plain Dataset, albumentations": _plain(manifest, options.size, workers),
                "(b) cache, bytes out": _ours(manifest, cache, workers, floats=False),
                "(c) cache, colour and normalisation on CPU": _ours(manifest, cache, workers, floats=True),
                "(d) no cache, colour and normalisation on CPU": _ours(
                    manifest, DecodingStore(manifest, pictures), workers, floats=True
                ),
            }
            for epoch in arms.values():
                epoch()  # processes started, files in memory
            rounds = [[_images_per_second(epoch) for epoch in arms.values()] for _ in range(options.repeats)]
            print(
                f"{workers} loader processes or threads, {options.images} pictures, {options.size} px, median of {options.repeats}"
            )
            for name, speeds in zip(arms, zip(*rounds, strict=True), strict=True):
                ratio = statistics.median(speed / first[0] for speed, first in zip(speeds, rounds, strict=True))
                print(f"  {name:48s} {statistics.median(speeds):8.0f} images/s   {ratio:5.1f} x (a)")
        print(f"building the cache on one core: {1e3 * built / len(manifest):.2f} ms an image")


if __name__ == "__main__":
    main()
