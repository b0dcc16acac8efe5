"""One epoch of a small teacher, fed by the pixel cache and by a plain Dataset with albumentations.

Command: python -m benchmarks.teacher_epoch [--images 2000] [--size 64]
Baseline: the loader (a) of `benchmarks.loader`, standardised pictures straight into the backbone. Both arms train the
same ResNet-18 with ArcFace in the same bare loop, with one loader process, or thread, beside it. They run in turn; the figure is the
median ratio of neighbours in time.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.loader import SHARES, PlainDataset
from fer_lightning.allocator import keep_freed_memory
from fer_lightning.data.batches.augment import to_float
from fer_lightning.data.batches.dataset import TrainRows
from fer_lightning.data.batches.loader import make_loader
from fer_lightning.data.batches.sampling import TrainBatches
from fer_lightning.data.config import AugmentationConfig, PixelCache
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.pictures.pixel_cache import open_pictures
from fer_lightning.data.rows.manifest import Manifest, read_manifest
from fer_lightning.data.sources.generated import GeneratedSetSpec, generate_set
from fer_lightning.functional.arcface import arcface_logits
from fer_lightning.models.classifier import Classifier, ClassifierSpec, standardise

_BATCH_SIZE, _WORKERS = 64, 1


def _plain(manifest: Manifest, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    dataset = PlainDataset(manifest, size)
    for pictures, labels in DataLoader(
        dataset, batch_size=_BATCH_SIZE, shuffle=True, drop_last=True, num_workers=_WORKERS
    ):
        yield pictures.contiguous(memory_format=torch.channels_last), labels


def _cached(manifest: Manifest, size: int, cache_dir: Path, classifier: Classifier) -> Iterator[tuple[Tensor, Tensor]]:
    rows = np.arange(len(manifest))
    spec = CanonicalSpec(size=size)
    store = open_pictures(manifest, rows, spec, mode=PixelCache.on, cache_dir=cache_dir, verify_rows=0)
    loader = make_loader(
        TrainRows(manifest, rows, store, AugmentationConfig(), seed=1, jitter_here=True),
        TrainBatches(manifest.labels[: len(rows) // _BATCH_SIZE * _BATCH_SIZE], batch_size=_BATCH_SIZE, seed=1),
        num_workers=_WORKERS,
        processes=False,
    )
    for batch in loader:
        yield standardise(to_float(batch.pictures), classifier.mean, classifier.std), batch.labels


def _train(classifier: Classifier, batches: Iterator[tuple[Tensor, Tensor]]) -> float:
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=3e-4)
    start, images = time.perf_counter(), 0
    for pictures, labels in batches:
        optimizer.zero_grad()
        cosines = classifier.head(classifier.neck(classifier.backbone(pictures)))
        logits = arcface_logits(cosines, labels, scale=30.0, margin_rad=0.2)
        functional.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        images += len(labels)
    return images / (time.perf_counter() - start)


def main() -> None:
    """Print images a second and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    keep_freed_memory()
    spec = ClassifierSpec(backbone="resnet18", image_size=options.size, embedding_dim=512, dropout=0.2, scale=30.0)
    classifier = Classifier(spec).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with tempfile.TemporaryDirectory() as folder:
        generated = generate_set(
            Path(folder) / "set", GeneratedSetSpec(num_images=options.images, source_shares=SHARES)
        )
        manifest, cache_dir = read_manifest(generated.manifest), Path(folder) / "cache"
        _train(classifier, _cached(manifest, options.size, cache_dir, classifier))  # warm: files and cache in memory
        rounds = [
            (
                _train(classifier, _plain(manifest, options.size)),
                _train(classifier, _cached(manifest, options.size, cache_dir, classifier)),
            )
            for _ in range(options.repeats)
        ]
    plain, cached = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(second / first for first, second in rounds)
    print(
        f"resnet18 at {options.size} px, {options.images} pictures, one loader process or thread, median of {options.repeats}"
    )
    print(f"plain Dataset {plain:.0f} images/s, pixel cache {cached:.0f} images/s: {ratio:.2f} x")


if __name__ == "__main__":
    main()
