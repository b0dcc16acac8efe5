"""Soft labels of synthetic logits, fused, written, read back and joined with their rows: the framework, or a plain script.

Command: python -m benchmarks.softlabel_files ours|plain --dtype float16 [--rows 209661]
One way a process, so that the peak of its memory is its own; `benchmarks.softlabel_export` runs and compares them.
Plain: what one would write: a loop over rows, `np.savez`, a line of JSON a row, and a dictionary of paths to join by;
nothing is checked. Ours also hashes every file, and proves rows, labels and class order when it reads. Linux only: the
peak is that of /proc/self/status.
"""

import argparse
import hashlib
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.data.rows.row_id import row_id
from fer_lightning.runs.ensemble import EnsembleTeacher
from fer_lightning.runs.softlabel_join import join_softlabels
from fer_lightning.runs.softlabel_proofs import examine_softlabels
from fer_lightning.runs.softlabels import HashManifest, SoftLabels, SoftLabelView
from fer_lightning.runs.softlabels_file import kept_logits, softlabels_of, write_softlabels
from fer_lightning.training.fusion import Fusion, fused_logits

ROWS = 209_661
_WEIGHTS = (0.4, 0.4, 0.2)
_MANIFEST_SHA256 = "0" * 64
_CANONICAL = CanonicalSpec(size=224)
_NOT_MADE_HERE = {"files", "ensemble.json", "ensemble_metrics.json"}
"""Proofs about the ensemble and its figures, of which there are none."""


@dataclass(frozen=True)
class Result:
    """What one way took."""

    fuse_seconds: float
    write_seconds: float
    read_seconds: float
    """Read back and joined with the rows of the manifest, which stand in another order."""
    peak_mib: float
    """Above what the process held when the logits were there."""
    sha256: str
    """Of the joined logits as float32."""


class _Clock:
    """Seconds of each of several steps."""

    def __init__(self) -> None:
        self.laps: list[float] = []
        self._last = time.perf_counter()

    def lap(self) -> None:
        """End a step."""
        now = time.perf_counter()
        self.laps.append(now - self._last)
        self._last = now


def _peak_mib() -> float:
    """Return the peak of this program's memory: `resource` would count that of the program that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _forget_peak() -> float:
    """Let the peak be what is held now, and return it."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak_mib()


def _synthetic(num_rows: int) -> tuple[list[NDArray[np.float32]], Manifest]:
    """Return three teachers' logits, and the manifest of their rows."""
    random = np.random.default_rng(0)
    teachers = [random.normal(0, 6, (num_rows, 7)).astype(np.float32) for _ in _WEIGHTS]
    paths = tuple(f"affectnet_full_balanced/train/{number:07d}.jpg" for number in range(num_rows))
    manifest = Manifest(
        path=Path("manifest.csv"),
        root=Path(),
        sha256=_MANIFEST_SHA256,
        image_paths=paths,
        labels=random.integers(0, 7, num_rows),
        splits=np.full(num_rows, "train"),
        sources=np.full(num_rows, "affectnet_full_balanced"),
        bboxes=np.full((num_rows, 4), -1),
        row_ids=tuple(row_id(path, None) for path in paths),
        lines=np.arange(num_rows) + 2,
        extras={},
        unknown_columns=(),
    )
    return teachers, manifest


def _result(clock: _Clock, before_mib: float, logits: NDArray[np.float32]) -> Result:
    fuse, write, read = clock.laps
    return Result(
        fuse_seconds=fuse,
        write_seconds=write,
        read_seconds=read,
        peak_mib=_peak_mib() - before_mib,
        sha256=hashlib.sha256(np.ascontiguousarray(logits).tobytes()).hexdigest(),
    )


def plain(folder: Path, num_rows: int, dtype: str) -> Result:
    """Return what the plain script takes."""
    teachers, manifest = _synthetic(num_rows)
    labels, sources = manifest.labels.tolist(), manifest.sources.tolist()
    wanted = np.random.default_rng(1).permutation(num_rows)
    before, clock = _forget_peak(), _Clock()
    fused = []
    for row in range(num_rows):
        fused.append(sum(weight * one[row].astype(np.float64) for weight, one in zip(_WEIGHTS, teachers, strict=True)))  # noqa: PERF401  as one would
    clock.lap()
    own = np.stack(teachers).astype(dtype)
    np.savez(
        folder / "softlabels.npz",
        logits=np.array(fused, dtype=dtype),
        y=np.array(labels, dtype=np.uint8),
        teacher_logits=own,
    )
    with (folder / "index.jsonl").open("w") as file:
        for row, path in enumerate(manifest.image_paths):
            line = {"i": row, "image_path": path, "source": sources[row], "y": labels[row]}
            file.write(json.dumps(line) + "\n")
    clock.lap()
    with np.load(folder / "softlabels.npz") as arrays:
        logits = arrays["logits"]
    place = {}
    with (folder / "index.jsonl").open() as file:
        for text in file:
            entry = json.loads(text)
            place[entry["image_path"]] = entry["i"]
    joined = np.array([logits[place[manifest.image_paths[row]]] for row in wanted]).astype(np.float32)
    clock.lap()
    return _result(clock, before, joined)


def _record(dtype: str) -> HashManifest:
    teachers = [
        EnsembleTeacher(
            name=f"T{number}",
            given=f"T{number}",
            kind="checkpoint",
            checkpoint="best.pt",
            checkpoint_sha256=f"{number}" * 64,
            canonical_digest=_CANONICAL.digest(),
            weight=weight,
            calibration_temperature=1.0,
            temperature_at_bound=False,
        )
        for number, weight in enumerate(_WEIGHTS)
    ]
    return HashManifest(
        manifest="manifest.csv",
        manifest_sha256=_MANIFEST_SHA256,
        root=None,
        splits=["train"],
        row_set_fingerprints={},
        row_digest="",
        n=0,
        softlabels_sha256="",
        index_sha256="",
        class_order=[],
        dtype=dtype,
        views=[SoftLabelView(name="single", crop_scale_min=1.0, crop_ratio_max=1.0, flip_probability=0.0)],
        ensemble="ensemble.json",
        ensemble_sha256="",
        space="logit",
        ensemble_temperature=None,
        teachers=teachers,
        teacher_temperatures=[None] * len(teachers),
        canonicals=[dict(vars(_CANONICAL))] * len(teachers),
        canonical_digests=[_CANONICAL.digest()],
        arrays=[],
    )


def ours(folder: Path, num_rows: int, dtype: str) -> Result:
    """Return what the framework takes."""
    teachers, manifest = _synthetic(num_rows)
    splits, sources = tuple(manifest.splits.tolist()), tuple(manifest.sources.tolist())
    wanted = np.random.default_rng(1).permutation(num_rows)
    before, clock = _forget_peak(), _Clock()
    stacked = torch.stack([torch.from_numpy(one) for one in teachers]).double()
    fused = fused_logits(stacked, Fusion("logit", _WEIGHTS, (1.0, 1.0, 1.0)))
    kept = kept_logits(fused, dtype, image_paths=manifest.image_paths, where="benchmark")
    own = [kept_logits(one, dtype, image_paths=manifest.image_paths, where="benchmark") for one in stacked]
    clock.lap()
    softlabels = SoftLabels(
        record=_record(dtype),
        logits=kept,
        labels=torch.from_numpy(manifest.labels),
        row_ids=manifest.row_ids,
        sources=sources,
        splits=splits,
        image_paths=manifest.image_paths,
        view_logits=None,
        view_draws=None,
        teacher_logits=torch.stack(own)[None],
    )
    write_softlabels(folder, softlabels, ensemble=b"{}")
    clock.lap()
    examined = examine_softlabels(folder, finished=False)
    read = softlabels_of(examined)
    if read is None or {proof.name for proof in examined.failed} - _NOT_MADE_HERE:
        raise SystemExit(f"what was written does not read back: {examined.failed}")
    joined = join_softlabels(
        read, manifest, wanted, manifest_sha256=_MANIFEST_SHA256, canonical=_CANONICAL, option="benchmark"
    )
    clock.lap()
    return _result(clock, before, joined.logits.numpy())


def main() -> None:
    """Print the result of one way as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=["ours", "plain"])
    parser.add_argument("--dtype", choices=["float16", "float32"], default="float16")
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args()
    way = ours if options.way == "ours" else plain
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(vars(way(Path(folder), options.rows, options.dtype))))


if __name__ == "__main__":
    main()
