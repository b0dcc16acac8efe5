"""Every experiment file runs once, with its own network, at toy size."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from fer_lightning.config import conf_dir, register_schemas, to_run
from fer_lightning.pipeline.config import TrainTeacherRun
from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.runs.artifacts import ReliabilityMetrics, read_artifact

EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
TINY = ["stage.image_size=48", "stage.epochs=1", "backbone.pretrained=false", "trainer=cpu", "trainer.onnx=false"]

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")]


def run_experiment(name: str, manifest: Path, root: Path, *overrides: str) -> Path:
    """Train an experiment on the toy set and return its directory."""
    register_schemas()
    options = [f"+experiment={name}", f"data.manifest={manifest}", "data.num_workers=0", f"run.root={root}", *TINY]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        run = to_run(compose("config", overrides=[*options, *overrides]))
    assert isinstance(run, TrainTeacherRun)
    train_teacher(run)
    return root / "teachers" / run.name


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if not name.startswith("stageB")])
def test_first_stage(name: str, toy_manifest: Path, tmp_path: Path) -> None:
    directory = run_experiment(name, toy_manifest, tmp_path)
    metrics = read_artifact(directory / "reliabilitymetrics.json", ReliabilityMetrics)
    assert metrics.last.epoch == 0
    assert 0 < metrics.last.raw.nll < 30


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.startswith("stageB")])
def test_second_stage_from_the_first(name: str, toy_manifest: Path, tmp_path: Path) -> None:
    first = run_experiment(name.replace("stageB", "stageA"), toy_manifest, tmp_path)
    second = run_experiment(name, toy_manifest, tmp_path, f"stage.init_from={first}")
    before = read_artifact(first / "reliabilitymetrics.json", ReliabilityMetrics).last
    after = read_artifact(second / "reliabilitymetrics.json", ReliabilityMetrics).last
    assert after.n < before.n  # FERPlus is left out
    assert after.row_set_fingerprint != before.row_set_fingerprint
