"""Three teachers in one pass over the pictures against three passes, and writing soft labels against a plain script.

Command: python -m benchmarks.softlabel_export [--images 800] [--rows 209661] [--repeats 3]
Pass: the engine of `task=store_logits` is given three checkpoints at once, or one after the other, on generated faces (61 %
48 px grey, 7 % 100 px, 32 % 224 px, as their sources store them) at 224 px, without a pixel cache; networks of random
weights, the same logits to the last bit. Input work alone: the same engine with models that do nothing, which are shown the
same pictures, or pictures of three sizes.
Files: see `benchmarks.softlabel_files`; every way in a process of its own.
Arms run in turn; figures are medians, ratios are of neighbours in time.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.loader import SHARES
from benchmarks.softlabel_files import ROWS, Result
from fer_lightning.data.batches.shared_decoding import DecodeOnce, RememberingStore
from fer_lightning.data.config import DataConfig, PixelCache, SourceFilterConfig
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.pictures.store import DecodingStore
from fer_lightning.data.selection import select_rows
from fer_lightning.data.sources.generated import GeneratedSetSpec, generate_set
from fer_lightning.files import sha256_of
from fer_lightning.models.classifier import Classifier, ClassifierSpec
from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationTarget
from fer_lightning.pipeline.logits.model_files import ModelFile
from fer_lightning.pipeline.logits.scores import all_scores, ask
from fer_lightning.pipeline.logits.shared_pass import ShardJob, SharedPass, score_shards
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows
from fer_lightning.runs.checkpoint import checkpoint_record
from fer_lightning.runs.checkpoint_file import CHECKPOINT_KEY
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.logit_shards import LogitShards
from fer_lightning.runs.stored_logits import StoredLogits

_BACKBONES = ("lcnet_050", "mobilenetv3_small_050", "mobilenetv3_small_100")
_SIZE, _BATCH_SIZE, _SHARD_ROWS = 224, 64, 4096
_THREE_SIZES = (192, 224, 260)


def _teacher(folder: Path, backbone: str) -> ModelFile:
    """Write a checkpoint of random weights."""
    torch.manual_seed(0)
    spec = ClassifierSpec(backbone=backbone, image_size=_SIZE, embedding_dim=512, dropout=0.2, scale=30.0)
    path = folder / backbone / "best.pt"
    path.parent.mkdir(parents=True)
    content = {
        "epoch": 0,
        "state_dict": {f"classifier.{name}": value for name, value in Classifier(spec).state_dict().items()},
        CHECKPOINT_KEY: checkpoint_record(spec, CanonicalSpec(size=_SIZE), manifest_sha256="0" * 64),
    }
    torch.save(content, path)
    return ModelFile(path, sha256_of(path))


def _rows(folder: Path, num_images: int, workers: int) -> EvaluationRows:
    spec = GeneratedSetSpec(num_images=num_images, source_shares=SHARES)
    manifest = str(generate_set(folder / "set", spec).manifest)
    data = DataConfig(manifest=manifest, cache=PixelCache.off, cache_dir=str(folder / "cache"), num_workers=workers)
    selection = select_rows(data, SourceFilterConfig(), splits=("train",))
    selection.groups("train")  # every picture is looked at once, which is kept
    run = EvaluateRun()
    return EvaluationRows(selection, "train", manifest, run.calibration.settled(None), None, 0)


def _inferred(folder: Path, rows: EvaluationRows, models: Sequence[ModelFile]) -> list[StoredLogits]:
    """Infer and store the logits of some models in one pass."""
    target = EvaluationTarget(reuse_logits=False, batch_size=_BATCH_SIZE, accelerator="cpu")
    run = EvaluateRun(run=RunConfig(root=str(folder / "runs")), evaluate=target, data=rows.selection.data)
    return all_scores([ask(model, rows, "single") for model in models], run, option="benchmark")


def _pass_of_nothing(folder: Path, rows: EvaluationRows, sizes: Sequence[int], workers: int) -> None:
    """Make pictures of some sizes in one pass; equal sizes are made once, different ones from one decoded file."""
    manifest, numbers, decoder = rows.selection.manifest, rows.selection.rows["train"], DecodeOnce()
    kinds = list(dict.fromkeys(sizes))
    with tempfile.TemporaryDirectory(dir=folder) as shards:
        jobs = [
            ShardJob(
                what="nothing",
                logits_of=lambda pictures: torch.ones(len(pictures), 7),
                kind=kinds.index(size),
                dtype="float32",
                shards=LogitShards(Path(shards) / f"{number}", "0" * 64, "float32"),
                settled=lambda: None,
            )
            for number, size in enumerate(sizes)
        ]
        shared = SharedPass(
            rows=numbers,
            row_ids=np.array([manifest.row_ids[row].encode() for row in numbers]),
            image_paths=[manifest.image_paths[row] for row in numbers],
            stores=[
                RememberingStore(DecodingStore(manifest, CanonicalSpec(size=size), decoder=decoder), numbers)
                for size in kinds
            ],
            shard_rows=_SHARD_ROWS,
            batch_size=_BATCH_SIZE,
            num_workers=workers,
            what="nothing",
        )
        score_shards(jobs, shared)


def _passes_of_nothing(folder: Path, rows: EvaluationRows, passes: Sequence[Sequence[int]], workers: int) -> None:
    for sizes in passes:
        _pass_of_nothing(folder, rows, sizes, workers)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _compare(what: str, num_rows: int, one: Callable[[], object], three: Callable[[], object], repeats: int) -> None:
    """Print rows a second of one pass, and how many times as long three passes take."""
    rounds = [(_seconds(one), _seconds(three)) for _ in range(repeats)]
    seconds = statistics.median(first for first, _ in rounds)
    ratio = statistics.median(second / first for first, second in rounds)
    print(f"  {what:42s} {num_rows / seconds:7.0f} rows/s in one pass; three passes take {ratio:.2f} x the time")


def _compare_passes(num_images: int, repeats: int, workers: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = _rows(folder, num_images, workers)
        num_rows = len(rows.selection.rows["train"])
        models = [_teacher(folder / "teachers", backbone) for backbone in _BACKBONES]
        together = _inferred(folder, rows, models)  # files in memory, and what the ways have to agree in
        apart = [_inferred(folder, rows, [model])[0] for model in models]
        same = all(torch.equal(one.logits, other.logits) for one, other in zip(together, apart, strict=True))
        print(
            f"three teachers, {num_rows} pictures, {workers} loader threads, median of {repeats}; equal logits: {same}"
        )
        _compare(
            ", ".join(_BACKBONES),
            num_rows,
            lambda: _inferred(folder, rows, models),
            lambda: [_inferred(folder, rows, [model]) for model in models],
            repeats,
        )
        for what, sizes in (
            ("input work alone, 224 px each", (_SIZE,) * 3),
            ("input work alone, 192, 224, 260 px", _THREE_SIZES),
        ):
            together_again = partial(_passes_of_nothing, folder, rows, [sizes], workers)
            one_by_one = partial(_passes_of_nothing, folder, rows, [(size,) for size in sizes], workers)
            _compare(what, num_rows, together_again, one_by_one, repeats)


def _in_a_process(way: str, dtype: str, num_rows: int) -> Result:
    command = [sys.executable, "-m", "benchmarks.softlabel_files", way, "--dtype", dtype, "--rows", str(num_rows)]
    return Result(**json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def _compare_files(num_rows: int, repeats: int) -> None:
    print(f"\nsoft labels of three teachers, {num_rows} rows: fused, written, read and joined; median of {repeats}")
    for dtype in ("float16", "float32"):
        rounds = [[_in_a_process(way, dtype, num_rows) for way in ("ours", "plain")] for _ in range(repeats)]
        same = len({result.sha256 for pair in rounds for result in pair}) == 1
        for way, results in zip(("ours", "plain"), zip(*rounds, strict=True), strict=True):
            fuse, write, read, peak = (
                statistics.median(getattr(result, name) for result in results)
                for name in ("fuse_seconds", "write_seconds", "read_seconds", "peak_mib")
            )
            print(
                f"  {dtype} {way:6s} fuse {fuse:5.2f} s, write {write:5.2f} s, read and join {read:5.2f} s: "
                f"{num_rows / (fuse + write + read):8.0f} rows/s, peak {peak:4.0f} MiB"
            )
        ratio = statistics.median(
            sum(getattr(pair[1], f"{step}_seconds") for step in ("fuse", "write", "read"))
            / sum(getattr(pair[0], f"{step}_seconds") for step in ("fuse", "write", "read"))
            for pair in rounds
        )
        print(f"  {dtype} plain takes {ratio:.2f} x the time; equal results: {same}")


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=max((os.cpu_count() or 1) - 1, 0))
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    _compare_passes(options.images, options.repeats, options.workers)
    _compare_files(options.rows, options.repeats)


if __name__ == "__main__":
    main()
