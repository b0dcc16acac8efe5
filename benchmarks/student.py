"""Time of a student's epoch: taught by stored soft labels, by a live ensemble of three teachers, and by labels alone.

Command: python -m benchmarks.student [--student mobilenetv3_large_100] [--teachers resnet18 resnet18 resnet18] [--size 64]
The live ensemble is what one would write without soft labels: every batch goes through all teachers. All three are the
framework's own command line on the same rows, batches and augmentation; seconds are those of the second epoch's training,
from timings.json. The three run in turn; ratios are medians of neighbours in time. The teachers have trained for one epoch
on a few rows: how good they are changes no second of this.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from fer_lightning.data.sources.generated import GeneratedSetSpec, generate_set

_BATCH_SIZE = 64
_TEACHER_ROWS = 140
_TRAIN_SHARE = 0.76  # of the generated set


def _run(*options: str, folder: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "fer_lightning", *options], cwd=folder, check=False, capture_output=True, text=True
    )
    if ended.returncode:
        raise SystemExit(f"{' '.join(options)}\n{ended.stderr[-2000:]}")


def _only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def _prepare(folder: Path, options: argparse.Namespace) -> tuple[Path, Path]:
    """Train teachers, fuse them, export their soft labels; return the folders of both."""
    common = ["data.manifest=set/manifest.csv", "data.cache_dir=cache", "source_filter=all", "trainer.onnx=false"]
    for number, backbone in enumerate(options.teachers):
        _run(
            *common,
            f"backbone.name={backbone}",
            "backbone.pretrained=false",
            f"run.seed={number}",
            f"run.tag=teacher{number}",
            f"stage.image_size={options.size}",
            f"data.limit_rows={_TEACHER_ROWS}",
            "stage.epochs=1",
            folder=folder,
        )
    teachers = ",".join(str(path) for path in sorted((folder / "experiments/teachers").iterdir()))
    places = ["data.manifest=set/manifest.csv", "data.cache_dir=cache"]
    fuse = [*places, f"ensemble.teachers=[{teachers}]", "evaluate.num_resamples=100"]
    _run("task=fuse_ensemble", *fuse, "data.allow_leaks=[image,content,near_content,subject]", folder=folder)
    ensemble = _only(folder, "experiments/ensembles/*")
    export = [*places, f"softlabels.ensemble={ensemble}", "softlabels.verify_rows=0"]
    _run("task=export_softlabels", *export, folder=folder)
    return _only(folder, "experiments/softlabels/*"), ensemble


def _epoch_seconds(folder: Path, options: argparse.Namespace, *taught: str) -> float:
    """Return the seconds of the second epoch's training of a student."""
    with tempfile.TemporaryDirectory() as root:
        _run(
            "task=distill_student",
            "data.manifest=set/manifest.csv",
            "data.cache_dir=cache",
            "data.allow_leaks=[image,content,near_content,subject]",
            f"backbone.name={options.student}",
            "backbone.pretrained=false",
            f"stage.image_size={options.size}",
            f"stage.batch_size={_BATCH_SIZE}",
            "stage.epochs=2",
            "trainer.onnx=false",
            f"run.root={root}",
            *taught,
            folder=folder,
        )
        timing = json.loads(_only(Path(root), "students/*/timings.json").read_text())["epochs"][-1]
    rows: float = options.images * _TRAIN_SHARE
    return rows / float(timing["images_per_second"])


def main() -> None:
    """Print seconds of an epoch of the three ways and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="mobilenetv3_large_100")
    parser.add_argument("--teachers", nargs="+", default=["resnet18", "resnet18", "resnet18"])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate_set(folder / "set", GeneratedSetSpec(num_images=options.images))
        softlabels, ensemble = _prepare(folder, options)
        ways = {
            "labels alone": ["distillation=none"],
            "stored soft labels": ["distillation=kd", f"distillation.softlabels={softlabels}"],
            "live ensemble": ["distillation=kd", f"distillation.ensemble={ensemble}"],
        }
        rounds = [
            [_epoch_seconds(folder, options, *taught) for taught in ways.values()] for _ in range(options.repeats)
        ]
    print(
        f"{options.student} taught by {len(options.teachers)} teachers ({', '.join(options.teachers)}) at {options.size} px"
    )
    for way, seconds in zip(ways, zip(*rounds, strict=True), strict=True):
        print(f"  {way}: {statistics.median(seconds):.1f} s an epoch of {options.images * _TRAIN_SHARE:.0f} rows")
    live, labels = (statistics.median(row[at] / row[1] for row in rounds) for at in (2, 0))
    print(f"  live / stored {live:.2f}, labels alone / stored {labels:.2f}")


if __name__ == "__main__":
    main()
