"""Makes directories of finished runs by hand: a tiny checkpoint, and what training leaves of its rows."""

from pathlib import Path

import torch
import yaml

from fer_lightning.data.config import SourceFilterConfig
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.selection import select_rows
from fer_lightning.files import write_text_atomically
from fer_lightning.models.classifier import Classifier, ClassifierSpec
from fer_lightning.runs.artifacts import StartingWeights, write_artifact
from fer_lightning.runs.checkpoint import checkpoint_record
from fer_lightning.runs.checkpoint_file import CHECKPOINT_KEY
from fer_lightning.runs.provenance import describe_alignment
from fer_lightning.runs.run_dir import plain_values
from tests.conftest import toy_run
from tests.data.conftest import Row, cycle_rows
from tests.runs.examples import example


def three_splits(train: int = 14, val: int = 21, test: int = 14) -> list[Row]:
    """Rows of three splits, from two sources."""
    rows = [*cycle_rows(train), *cycle_rows(val, split="val"), *cycle_rows(test, split="test")]
    for row in rows[::3]:
        row["source"] = "web"
    return rows


def write_teacher(run_dir: Path, *, seed: int = 0, size: int = 32, clahe: bool = True, scale: float = 30.0) -> Path:
    """Write a tiny `best.pt` whose weights depend on the seed, and return the folder."""
    canonical = CanonicalSpec(size=size, clahe=clahe)
    spec = ClassifierSpec(backbone="test_resnet", image_size=size, embedding_dim=8, dropout=0.0, scale=scale)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = Classifier(spec)
    run_dir.mkdir(parents=True, exist_ok=True)
    content = {
        "epoch": 3,
        "state_dict": {f"classifier.{name}": value for name, value in classifier.state_dict().items()},
        CHECKPOINT_KEY: checkpoint_record(spec, canonical, manifest_sha256="ab" * 32),
    }
    torch.save(content, run_dir / "best.pt")
    return run_dir


def record_rows(run_dir: Path, manifest: Path, **options: object) -> None:
    """Leave what training on a manifest leaves beside the weights."""
    run = toy_run(manifest, manifest.parent)
    run.source_filter = SourceFilterConfig()
    for name, value in options.items():
        setattr(run.data, name, value)
    selection = select_rows(run.data, run.source_filter, splits=("train", "val"), check_leaks=True)
    write_text_atomically(run_dir / "config.yaml", yaml.safe_dump(plain_values(run)))
    alignment = describe_alignment(
        run_dir.name, selection, CanonicalSpec(size=32), example(StartingWeights), num_parameters=9
    )
    write_artifact(run_dir / "alignmentreport.json", alignment)
