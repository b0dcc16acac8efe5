"""Two processes from the command line: one run, every val row once, files written once, killed and stopped at will."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from fer_lightning.pipeline.evaluate import evaluate
from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationTarget
from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.runs.artifacts import AlignmentReport, ReliabilityMetrics, read_artifact
from fer_lightning.runs.evaluation import Evaluation
from fer_lightning.runs.history import History, Timings
from tests.conftest import toy_run

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")

REPOSITORY = Path(__file__).parents[2]
NAME = "TOY_test_resnet_seed1337_toy_img32"

# Python runs it at the start of every process: who opens which file below a run directory for writing.
WATCH = """
import os, sys
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
def _note(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and "/teachers/" in arguments[0] and arguments[2] & _WRITING:
        log = os.open(os.environ["WRITES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, (os.environ.get("LOCAL_RANK", "0") + " " + arguments[0] + "\\n").encode())
        os.close(log)
sys.addaudithook(_note)
"""


def options(manifest: Path, root: Path, *more: str) -> list[str]:
    toy = {
        "run.root": root,
        "data.manifest": manifest,
        "data.num_workers": 0,
        "data.cache_dir": root.parent / "cache",
        "backbone.name": "test_resnet",
        "backbone.short": "TOY",
        "backbone.pretrained": "false",
        "backbone.embedding_dim": 32,
        "stage.name": "toy",
        "stage.image_size": 32,
        "stage.batch_size": 16,
        "loss.ramp_start_epoch": 0,
        "loss.ramp_end_epoch": 2,
        "optimizer.lr": 2e-3,
        "optimizer.warmup_epochs": 0.5,
        "trainer": "ddp",
        "trainer.accelerator": "cpu",
        "trainer.onnx": "false",
    }
    return [*(f"{key}={value}" for key, value in toy.items()), *more]


def start(*arguments: str, folder: Path, **environment: str) -> "subprocess.Popen[str]":
    paths = os.pathsep.join([str(folder), str(REPOSITORY)])
    return subprocess.Popen(
        [sys.executable, "-m", "fer_lightning", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*arguments: str, folder: Path, **environment: str) -> tuple[int, str]:
    process = start(*arguments, folder=folder, **environment)
    _, said = process.communicate(timeout=240)
    return process.returncode, said


def test_two_processes_train_one_teacher(toy_manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    writes = tmp_path / "writes"
    arguments = options(toy_manifest, tmp_path / "two", "stage.epochs=2")
    code, said = finish(*arguments, folder=tmp_path, WRITES=str(writes))
    assert code == 0, said
    assert "Traceback" not in said
    assert said.count("everything is in") == 1
    run = tmp_path / "two" / "teachers" / NAME
    assert {line.split()[0] for line in writes.read_text().splitlines()} == {"0"}

    alignment = read_artifact(run / "alignmentreport.json", AlignmentReport)
    metrics = read_artifact(run / "reliabilitymetrics.json", ReliabilityMetrics)
    history = read_artifact(run / "history.json", History).epochs
    steps = -(-alignment.train_rows // (2 * 16))
    assert [record.optimizer_steps for record in history] == [steps, 2 * steps]
    assert [record.row_coverage for record in history] == [1.0, 1.0]
    last = torch.load(run / "checkpoint_last.pt", weights_only=True)
    assert last["lr_schedulers"][0]["last_epoch"] == 2 * steps
    assert history[-1].lr_head < 2e-3 * 0.1  # the schedule ends with the run
    assert read_artifact(run / "timings.json", Timings).epochs[-1].images_per_second > 0

    target = EvaluationTarget(checkpoint=str(run / "best.pt"), accelerator="cpu", output_dir=str(tmp_path / "out"))
    evaluate(EvaluateRun(evaluate=target))
    alone = read_artifact(tmp_path / "out" / "evaluation.json", Evaluation).result
    epoch = history[metrics.best.epoch].val_raw
    assert alone.n == metrics.best.n == alignment.val_rows == sum(alone.support.values())
    assert alone.row_set_fingerprint == metrics.best.row_set_fingerprint
    for figure in ("accuracy", "macro_f1", "minority_f1", "nll", "ece", "brier"):
        of_run, of_history = getattr(metrics.best.raw, figure), getattr(epoch, figure)
        assert getattr(alone.raw, figure) == pytest.approx(of_run, rel=1e-6)
        assert of_history == pytest.approx(of_run, rel=1e-6)

    one = toy_run(toy_manifest, tmp_path / "one")
    train_teacher(one)
    assert names(run) == names(tmp_path / "one" / "teachers" / NAME)


def names(run: Path) -> list[str]:
    """File names, without what tells one TensorBoard file from the other."""
    return sorted(item.name.partition(".tfevents")[0] for item in run.iterdir())


def test_a_sweep_over_several_devices_is_refused(tmp_path: Path) -> None:
    for more in (["trainer=ddp"], ["trainer.num_nodes=2"], ["trainer.strategy=ddp"]):
        code, said = finish("-m", *more, "run.seed=1,2", folder=tmp_path)
        assert code == 2
        assert said.count("--multirun does not work with several devices") == 1
        assert "Traceback" not in said


def test_one_process_too_many_is_refused(toy_manifest: Path, tmp_path: Path) -> None:
    elastic = {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    code, said = finish(*options(toy_manifest, tmp_path / "r", "trainer=cpu"), folder=tmp_path, **elastic)
    assert code == 2
    assert "torchrun started 2 processes, but trainer.devices=1" in said


def checkpoint_time(run: Path) -> float:
    file = run / "checkpoint_last.pt"
    return file.stat().st_mtime if file.exists() else 0.0


def wait_for_new_checkpoint(run: Path, process: "subprocess.Popen[str]", before: float) -> None:
    deadline = time.monotonic() + 120
    while checkpoint_time(run) == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def assert_same_run(run: Path, other: Path) -> None:
    assert (run / "history.json").read_bytes() == (other / "history.json").read_bytes()
    for name in ("best.pt", "checkpoint_last.pt"):
        left, right = (torch.load(folder / name, weights_only=True) for folder in (run, other))
        for key, value in left["state_dict"].items():
            assert torch.equal(value, right["state_dict"][key]), key
    assert left["lr_schedulers"] == right["lr_schedulers"]
    assert left["loops"] == right["loops"]


FULL = ("stage.epochs=4", "stage.accumulate=3", "imbalance=class_balanced", "optimizer.ema_decay=0.9", "mixing=both")


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit_whichever_process_is_killed(toy_manifest: Path, tmp_path: Path) -> None:
    never, often = ("trainer.checkpoint_every_minutes=null", "trainer.checkpoint_every_minutes=0.0001")
    assert finish(*options(toy_manifest, tmp_path / "plain", *FULL, never), folder=tmp_path)[0] == 0
    arguments = options(toy_manifest, tmp_path / "killed", *FULL, often, "run.on_existing=resume")
    run = tmp_path / "killed" / "teachers" / NAME
    for victim in (1, 0, 0, 1):
        before = checkpoint_time(run)
        process = start(*arguments, folder=tmp_path)
        wait_for_new_checkpoint(run, process, before)
        time.sleep(random.uniform(0, 0.5))  # noqa: S311
        (other,) = psutil.Process(process.pid).children()
        (process if victim == 0 else other).kill()
        _, said = process.communicate(timeout=60)
        assert process.returncode in {5, -signal.SIGKILL}, said  # told of it, or killed by Lightning's watch
        psutil.wait_procs([other], timeout=30)
        assert not other.is_running()
    assert finish(*arguments, folder=tmp_path)[0] == 0
    assert_same_run(run, tmp_path / "plain" / "teachers" / NAME)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both(toy_manifest: Path, tmp_path: Path) -> None:
    assert finish(*options(toy_manifest, tmp_path / "plain", *FULL), folder=tmp_path)[0] == 0
    arguments = options(toy_manifest, tmp_path / "stopped", *FULL, "run.on_existing=resume")
    run = tmp_path / "stopped" / "teachers" / NAME
    for number, to_first in ((signal.SIGTERM, True), (signal.SIGINT, False)):
        before = checkpoint_time(run)
        process = start(*arguments, folder=tmp_path)
        wait_for_new_checkpoint(run, process, before)
        (other,) = psutil.Process(process.pid).children()
        (process if to_first else other).send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 128 + number, said
        assert f"stopped by {number.name}" in said
        assert not (run / ".run.lock").exists()
        psutil.wait_procs([other], timeout=30)
        assert not other.is_running()
    assert finish(*arguments, folder=tmp_path)[0] == 0
    assert_same_run(run, tmp_path / "plain" / "teachers" / NAME)


@pytest.mark.slow
def test_slurm_requeues_a_run_that_goes_on_by_itself(toy_manifest: Path, tmp_path: Path) -> None:
    run = tmp_path / "requeued" / "teachers" / NAME
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\nls -a {run} > {tmp_path}/files\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    job = {"NTASKS": "2", "NTASKS_PER_NODE": "2", "NODEID": "0", "JOB_NAME": "train", "JOB_ID": "77"}
    slurm = {f"SLURM_{name}": value for name, value in job.items()}
    slurm["PATH"] = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    arguments = options(toy_manifest, tmp_path / "requeued", *FULL)

    def tasks(restarts: str) -> "list[subprocess.Popen[str]]":
        ranks = [{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(2)]
        return [start(*arguments, folder=tmp_path, SLURM_RESTART_COUNT=restarts, **slurm, **rank) for rank in ranks]

    first = tasks("0")
    wait_for_new_checkpoint(run, first[0], 0.0)
    for task in first:
        task.send_signal(signal.SIGUSR1)
    said = [task.communicate(timeout=60)[1] for task in first]
    assert [task.returncode for task in first] == [128 + signal.SIGUSR1, 0]
    assert "SLURM job 77 is put back into the queue" in said[0]
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    assert ".run.lock" not in (tmp_path / "files").read_text().split()
    assert json.loads((run / "history.json").read_text())["epochs"]
    second = tasks("1")
    for task in second:
        task.communicate(timeout=240)
    assert [task.returncode for task in second] == [0, 0]
    assert finish(*options(toy_manifest, tmp_path / "plain", *FULL), folder=tmp_path)[0] == 0
    assert_same_run(run, tmp_path / "plain" / "teachers" / NAME)
