"""The command line as a user meets it: exit codes, one clear message, nothing slow before a refusal."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from fer_lightning.pipeline.config import TrainTeacherRun
from fer_lightning.pipeline.teachers.two_stage_config import TrainTwoStageRun
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.leaderboard import Leaderboard
from fer_lightning.runs.sweep_jobs import NOT_ENDED, read_jobs
from tests.runs.finished_runs import write_finished_run
from tests.training.hparams_view import hparams_view

REPOSITORY = Path(__file__).parents[1]

# Runs the entry point, then says on stderr which slow packages were imported.
_PROBE = """
import sys, atexit
slow = {"torch", "lightning", "timm", "cv2", "onnxruntime", "matplotlib"}
atexit.register(lambda: print("SLOW:", sorted(slow & set(sys.modules)), file=sys.stderr))
from fer_lightning.__main__ import main
sys.argv = ["fer_lightning", *sys.argv[1:]]
main()
"""


# Goes before: training makes its run directory and stops.
_STOPPED = """
from fer_lightning.pipeline import train_teacher as verb
def train_teacher(run):
    run.directory.mkdir(parents=True)
    raise {}
verb.train_teacher = train_teacher
"""

# Goes before: jobs of seed 2 end in an error that is no refusal, and that could not be sent to another process; others do nothing.
_BUG = """
from fer_lightning.pipeline import evaluate as verb
class Odd(Exception):
    def __init__(self, one, other):
        super().__init__(one)
def evaluate(run):
    if run.run.seed == 2:
        raise Odd("boom", 1)
verb.evaluate = evaluate
"""

# Goes before: as if the extra [sweep] were not installed.
_WITHOUT_EXTRA = """
import pkgutil
walk = pkgutil.walk_packages
pkgutil.walk_packages = lambda *a, **k: (m for m in walk(*a, **k) if not {"joblib", "optuna"} & {*m.name.split("_")})
"""

# Goes before: the second training kills its process, as a machine that goes down would.
_KILLED = """
import os, signal
from fer_lightning.pipeline import train_teacher as verb
train, done = verb.train_teacher, []
def train_teacher(run):
    if done:
        os.kill(os.getpid(), signal.SIGKILL)
    train(run)
    done.append(run)
verb.train_teacher = train_teacher
"""


def command(*arguments: str, folder: Path, before: str = "") -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", before + _PROBE, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def photo_manifest(folder: Path, *rows: str) -> str:
    """Write two 40 x 50 photos and a manifest with these rows beside them."""
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), np.full((40, 50, 3), 90, np.uint8))
    header = "image_path,label,split,source,bbox_top,bbox_left,bbox_right,bbox_bottom"
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join([header, *rows]) + "\n")
    return f"data.manifest={manifest}"


GOOD = ("a.png,Happy,train,lab,,,,", "b.png,Sad,val,lab,,,,")


def assert_refused(answer: "subprocess.CompletedProcess[str]", *parts: str) -> None:
    """Exit code 2, every part in the message, no traceback, nothing slow imported."""
    assert answer.returncode == 2, answer.stderr
    for part in parts:
        assert part in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "SLOW: []" in answer.stderr


def test_help_lists_groups_verbs_and_options(tmp_path: Path) -> None:
    answer = command("--help", folder=tmp_path)
    assert answer.returncode == 0
    for part in ("backbone: ", "build_manifest", "stageA_rn18", "image_size: 224", "task=VERB"):
        assert part in answer.stdout
    assert "SLOW: []" in answer.stderr


def test_help_of_another_verb_shows_its_options(tmp_path: Path) -> None:
    answer = command("task=evaluate", "--help", folder=tmp_path)
    assert "checkpoint: null" in answer.stdout
    assert "margin_rad" not in answer.stdout


def test_help_of_a_misspelt_option_is_refused(tmp_path: Path) -> None:
    assert_refused(command("stage.epoch=3", "--help", folder=tmp_path), "stage.epoch")


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("stage.epcohs=2", "unknown option stage.epcohs; did you mean stage.epochs?"),
        (
            "evaluate.split=val",
            (
                "evaluate.split is no option of this task; it belongs to task=evaluate or task=calibrate or task=robustness or "
                "task=store_logits or task=import_logits or task=fuse_ensemble or task=export_softlabels or task=diagnose_alignment"
            ),
        ),
        ("stage.epochs=two", "stage.epochs=two Value 'two' of type 'str' could not be converted to Integer"),
        ("data.allow_leaks=content", "data.allow_leaks takes a list: 'data.allow_leaks=[content]'"),
        ("xyzzy=1", "unknown option xyzzy; --help lists the options"),
        (
            "ensemble.teachers=[,,]",
            "ensemble.teachers=[,,] cannot be read; a value with spaces or signs takes quotes of its own: \"key='value'\"",
        ),
    ],
)
def test_what_does_not_compose_is_one_line(tmp_path: Path, argument: str, line: str) -> None:
    answer = command(argument, folder=tmp_path)
    assert answer.returncode == 2
    assert answer.stderr.splitlines() == [line, "SLOW: []"]


def test_no_data_says_what_is_missing_and_how_to_go_on(tmp_path: Path) -> None:
    answer = command("+experiment=stageA_rn18", folder=tmp_path)
    assert_refused(answer, "data.manifest is not set", "build=folder", "task=build_manifest", "data=generated")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["stage.epoch=3"], "stage.epoch"),
        (["+experiment=stageA_rn19"], "stageA_rn19"),
        (["stage.epochs=many"], "stage.epochs"),
        (["stage.epochs=0"], "stage.epochs must be at least 1"),
        (["task=train_everything"], "train_everything"),
        (["loss.scale=nan"], "loss.scale must be a finite number"),
        (["trainer.accelerator=foo"], "trainer.accelerator must be one of auto, cpu"),
        (["trainer.precision=foo"], "trainer.precision must be one of 32-true"),
        (["loss.margin_rad=2"], "loss.margin_rad must lie in"),
        (["stage=b"], "stage.init_from"),
        (["task=evaluate"], "evaluate.checkpoint"),
        (["task=export_onnx"], "export.run_dir"),
        (["data=generated"], "the generated set is not drawn yet"),
        (["data.manifest=nowhere.csv"], "no manifest at nowhere.csv"),
    ],
)
def test_refused_options(tmp_path: Path, arguments: list[str], part: str) -> None:
    assert_refused(command(*arguments, folder=tmp_path), part)


def test_box_outside_its_image(tmp_path: Path) -> None:
    manifest = photo_manifest(tmp_path, *GOOD, "a.png,Fear,train,lab,10,10,51,30")
    answer = command(manifest, folder=tmp_path)
    assert_refused(answer, "line 4", "box is outside its image of 40 x 50", ".faults.csv")


def test_unknown_label(tmp_path: Path) -> None:
    manifest = photo_manifest(tmp_path, *GOOD, "a.png,Contempt,train,lab,0,0,9,9")
    assert_refused(
        command(manifest, folder=tmp_path), "line 4", "unknown label", "'Contempt'", "expected one of Angry, Disgust"
    )


def test_included_source_without_rows(tmp_path: Path) -> None:
    manifest = photo_manifest(tmp_path, *GOOD)
    answer = command(manifest, "+experiment=stageA_rn18", folder=tmp_path)
    assert_refused(answer, "includes ferplus", "no row", "its sources: lab")


def test_missing_file(tmp_path: Path) -> None:
    manifest = photo_manifest(tmp_path, *GOOD, "c.png,Fear,train,lab,,,,")
    assert_refused(command(manifest, folder=tmp_path), "line 4", "no such file", "c.png")


@pytest.mark.parametrize("option", ["stage.init_from", "evaluate.checkpoint"])
def test_a_checkpoint_that_is_not_one(tmp_path: Path, option: str) -> None:
    manifest = photo_manifest(tmp_path, *GOOD)
    fake = tmp_path / "fake.pt"
    fake.write_bytes(b"not a checkpoint")
    verb = ["task=evaluate"] if option.startswith("evaluate") else ["backbone.pretrained=false"]
    assert_refused(command(*verb, manifest, f"{option}={fake}", folder=tmp_path), option, "is not a checkpoint")


def test_a_backbone_checkpoint_that_is_missing(tmp_path: Path) -> None:
    manifest = photo_manifest(tmp_path, *GOOD)
    answer = command(manifest, "backbone.pretrained=false", "backbone.checkpoint=none.pt", folder=tmp_path)
    assert_refused(answer, "backbone.checkpoint: no file none.pt")


def test_two_sources_of_weights_at_once(tmp_path: Path) -> None:
    answer = command("backbone.checkpoint=x.pt", folder=tmp_path)
    assert_refused(answer, "backbone.checkpoint and backbone.pretrained=true both name starting weights")


def test_a_double_imbalance_correction_must_be_asked_for(tmp_path: Path) -> None:
    answer = command("imbalance=sampler", "imbalance.class_weights=inverse_frequency", folder=tmp_path)
    assert_refused(answer, "imbalance.allow_both=true")


def test_a_sweep_goes_on_after_a_refused_job_and_says_so_at_the_end(tmp_path: Path) -> None:
    answer = command("-m", "stage.epochs=0,3", folder=tmp_path)
    assert answer.returncode == 2
    assert "stage.epochs must be at least 1" in answer.stderr
    assert "data.manifest is not set" in answer.stderr


@pytest.mark.parametrize(("stop", "code"), [("KeyboardInterrupt", 130), ("SystemExit(143)", 143)])
def test_a_stopped_sweep_says_how_it_goes_on(tmp_path: Path, stop: str, code: int) -> None:
    answer = command("run.seed=1,2", "-m", "hydra.sweep.dir=sw", folder=tmp_path, before=_STOPPED.format(stop))
    assert answer.returncode == code
    assert (
        "go on with the sweep: the same command with hydra.sweep.dir=sw run.on_existing=resume; "
        "a table of what is finished: task=compare_runs 'compare.runs=[sw]'\n"
    ) in answer.stderr
    assert len(list((tmp_path / "sw" / "teachers").iterdir())) == 1
    answer = command("run.seed=1", f"run.root={tmp_path}", folder=tmp_path, before=_STOPPED.format(stop))
    assert (answer.returncode, "go on with the sweep" in answer.stderr) == (code, False)


def test_a_job_with_a_bug_does_not_hide_and_the_others_still_run(tmp_path: Path) -> None:
    sweep = ["-m", "task=evaluate", "run.seed=1,2,3", "hydra.sweep.dir=sw"]
    answer = command(*sweep, folder=tmp_path, before=_BUG)
    assert answer.returncode == 1
    assert "job 1 (run.seed=2) failed" in answer.stderr
    assert "Odd: boom" in answer.stderr
    jobs = read_jobs(tmp_path / "sw")
    assert [job.outcome for job in jobs] == ["finished", "failed", "finished"]
    assert jobs[1].message == "a bug: Odd: boom"


@pytest.mark.parametrize("option", ["hydra/launcher=joblib", "hydra/sweeper=optuna"])
def test_a_missing_extra_is_named_in_one_line(tmp_path: Path, option: str) -> None:
    answer = command("-m", option, "run.seed=1,2", folder=tmp_path, before=_WITHOUT_EXTRA)
    assert answer.returncode == 2
    assert answer.stderr.splitlines() == [f"{option} is not installed: pip install 'fer_lightning[sweep]'", "SLOW: []"]


def test_jobs_of_other_processes_tell_how_they_ended(tmp_path: Path) -> None:
    sweep = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=sw", "trainer.devices=1,2"]
    answer = command(*sweep, "task=train_teacher", folder=tmp_path)
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    assert "job 0: " in answer.stderr
    assert "job 1: --multirun does not work with several devices" in answer.stderr
    first, second = read_jobs(tmp_path / "sw")
    assert (first.outcome, first.name) == ("refused", "job 0 (trainer.devices=1)")
    assert "data.manifest is not set" in first.message
    assert second.message.startswith("--multirun does not work with several devices (trainer.devices=2")


def test_a_search_survives_refused_jobs(tmp_path: Path) -> None:
    search = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweep.dir=sw"]
    answer = command(*search, "optimizer.lr=interval(1e-4,1e-2)", folder=tmp_path)
    assert_refused(answer, "a search is for the highest val macro-F1: set hydra.sweeper.direction=maximize")
    answer = command(*search, "hydra.sweeper.direction=maximize", "optimizer.lr=interval(1e-4,1e-2)", folder=tmp_path)
    assert answer.returncode == 2
    assert answer.stderr.count("data.manifest is not set") == 3
    assert "Traceback" not in answer.stderr
    assert [job.outcome for job in read_jobs(tmp_path / "sw")] == ["refused"] * 3


def test_a_sweep_over_several_devices_is_refused_and_leaves_no_folder(tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "notes.txt"
    kept.parent.mkdir()
    kept.touch()
    for folder in ("new", "kept"):
        answer = command("-m", "trainer.devices=2", "run.seed=1,2", f"hydra.sweep.dir={folder}", folder=tmp_path)
        assert answer.returncode == 2
        assert "--multirun does not work with several devices" in answer.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert kept.is_file()


@pytest.mark.parametrize("task", ["train_teacher", "train_two_stage"])
def test_a_refused_job_is_left_out_once(tmp_path: Path, task: str) -> None:
    pair = TrainTwoStageRun()
    pair.run.tag, pair.stage_b.image_size = "job1", 384
    runs = {"train_teacher": pair.stage_a_run(), "train_two_stage": pair.stage_b_run("Stage A")}
    sweep = tmp_path / "sweep"
    write_finished_run(sweep, TrainTeacherRun())
    (write_finished_run(sweep, runs[task]) / "best.pt").unlink()
    answer = command("-m", f"task={task}", "stage.epochs=3,4", f"hydra.sweep.dir={sweep}", folder=tmp_path)
    assert answer.returncode == 2
    left_out = read_artifact(sweep / "leaderboard.json", Leaderboard).left_out
    assert [item.run for item in left_out] == ["job 0 (stage.epochs=3)", "job 1 (stage.epochs=4)"], answer.stderr


def test_comparing_no_runs_is_refused_at_once(tmp_path: Path) -> None:
    assert_refused(
        command("task=compare_runs", folder=tmp_path), "compare.runs: experiments/teachers names no directory"
    )


def test_a_sweep_of_seeds_needs_no_flag_and_takes_other_seeds(tmp_path: Path) -> None:
    answer = command("+sweep=seeds", folder=tmp_path)
    assert answer.returncode == 2
    assert [line.rpartition(" : ")[2].split()[0] for line in answer.stdout.splitlines() if "#" in line] == [
        f"run.seed={seed}" for seed in range(1337, 1342)
    ]
    answer = command("+sweep=seeds", "run.seed=7,8", folder=tmp_path)
    assert "Launching 2 jobs" in answer.stdout
    assert "SLOW: []" in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["+sweep=seeds", "run.seed=1,2", "run.tag=x"], ["seed1_stageA_img224_x", "seed2_stageA_img224_x"]),
        (["-m", "stage.epochs=3,4"], ["seed1337_stageA_img224_job0", "seed1337_stageA_img224_job1"]),
        (
            ["+sweep=seeds", "run.seed=1", "loss=focal,arcface", "run.tag=x"],
            ["seed1_stageA_img224_focal_x_job0", "seed1_stageA_img224_x_job1"],
        ),
    ],
)
def test_jobs_are_numbered_where_more_than_the_seed_varies(
    tmp_path: Path, arguments: list[str], names: list[str]
) -> None:
    for name in names:
        foreign = tmp_path / "sweep" / "teachers" / f"RN18_resnet18_{name}" / "foreign.txt"
        foreign.parent.mkdir(parents=True)
        foreign.touch()
    manifest = photo_manifest(tmp_path, *GOOD)
    options = [manifest, "data.allow_leaks=[content,near_content]", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    answer = command(*arguments, *options, folder=tmp_path)
    assert answer.returncode == 2
    assert answer.stderr.count("holds files but no run") == len(names), answer.stderr
    assert "holds no finished run: nothing to compare" in answer.stderr
    assert not (tmp_path / "sweep" / "leaderboard.json").exists()


def toy_sweep(manifest: Path, sweep: Path) -> list[str]:
    """Return the options of a sweep whose jobs take seconds."""
    toy = ["backbone.name=test_resnet", "backbone.short=TOY", "backbone.pretrained=false", "backbone.embedding_dim=32"]
    toy += ["stage.image_size=32", "stage.epochs=1", "trainer=cpu", "trainer.onnx=false", "data.num_workers=0"]
    return ["-m", f"data.manifest={manifest}", f"hydra.sweep.dir={sweep}", *toy]


@pytest.mark.slow
def test_a_sweep_of_seeds_is_compared_and_goes_on_where_it_was(tmp_path: Path, toy_manifest: Path) -> None:
    sweep = ["+sweep=seeds", *toy_sweep(toy_manifest, tmp_path / "sweep")]
    answer = command(*sweep, "run.seed=1,-2", folder=tmp_path)
    assert answer.returncode == 2
    assert "job 1 (run.seed=-2): run.seed must lie in" in answer.stderr
    assert "1 recipe in 1 run, " in answer.stderr
    answer = command(*sweep, "run.seed=1,2", "run.on_existing=resume", folder=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "job 0 (run.seed=1): " in answer.stderr
    assert "1 recipe in 2 runs, " in answer.stderr
    board = read_artifact(tmp_path / "sweep" / "leaderboard.json", Leaderboard)
    (recipe,) = board.tables[0].recipes
    assert (recipe.name, recipe.seeds, board.left_out) == ("TOY_test_resnet_stageA_img32", [1, 2], [])
    assert recipe.runs == [f"teachers/TOY_test_resnet_seed{seed}_stageA_img32" for seed in (1, 2)]
    answer = command("task=compare_runs", f"compare.runs=[{tmp_path}/sweep]", folder=tmp_path)
    assert answer.returncode == 0
    assert "SLOW: []" in answer.stderr
    again = read_artifact(tmp_path / "sweep" / "teachers" / "leaderboard.json", Leaderboard)
    assert again.tables[0].recipes[0].figures == recipe.figures


@pytest.mark.slow
def test_a_sweep_side_by_side_is_compared_and_goes_on(tmp_path: Path, toy_manifest: Path) -> None:
    sweep = [*toy_sweep(toy_manifest, tmp_path / "sweep"), "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    sweep += ["optimizer.lr=1e-3,1e-2", "run.on_existing=resume"]
    answer = command(*sweep, folder=tmp_path)
    assert answer.returncode == 0, answer.stderr
    first = read_artifact(tmp_path / "sweep" / "leaderboard.json", Leaderboard)
    assert len(first.tables[0].recipes) == 2
    assert (tmp_path / "sweep" / "response.png").is_file()
    view = hparams_view(tmp_path / "sweep")
    assert view.differing == {"optimizer.lr", "run.tag"}
    assert sorted(row["optimizer.lr"] for row in view.rows.values()) == [0.001, 0.01]
    objectives = {job.directories[0]: job.objective for job in read_jobs(tmp_path / "sweep")}
    assert {name: row["final/macro_f1"] for name, row in view.rows.items()} == pytest.approx(objectives)
    shutil.rmtree(tmp_path / "sweep" / "teachers" / "TOY_test_resnet_seed1337_stageA_img32_job0")
    answer = command(*sweep, folder=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.count("nothing to resume") == 1
    again = read_artifact(tmp_path / "sweep" / "leaderboard.json", Leaderboard)
    assert [recipe.runs for recipe in again.tables[0].recipes] == [recipe.runs for recipe in first.tables[0].recipes]


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "whole_group"), [(signal.SIGINT, True), (signal.SIGKILL, False)])
def test_a_stopped_sweep_leaves_no_worker_behind(
    tmp_path: Path, toy_manifest: Path, stop: signal.Signals, whole_group: bool
) -> None:
    sweep = [*toy_sweep(toy_manifest, tmp_path / "sweep"), "stage.epochs=5000", "run.seed=1,2"]
    sweep += ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    with subprocess.Popen(
        [sys.executable, "-m", "fer_lightning", *sweep], cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 100
        while len(list(tmp_path.glob("sweep/teachers/*/checkpoint_last.pt"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        workers = psutil.Process(process.pid).children(recursive=True)
        if whole_group:  # what Ctrl-C does
            os.killpg(process.pid, stop)
        else:
            process.send_signal(stop)
        told = process.communicate(timeout=60)[1].decode()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert (len(workers) >= 2, alive) == (True, [])
    assert process.returncode == (130 if whole_group else -stop)
    assert ("go on with the sweep: " in told) == whole_group
    assert len(list(tmp_path.glob("sweep/teachers/*/checkpoint_last.pt"))) == 2
    assert {job.outcome for job in read_jobs(tmp_path / "sweep")} == {"failed"}


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite:///${hydra.sweep.dir}/study.db", "null"])
def test_a_killed_search_goes_on_to_its_number_of_trials(tmp_path: Path, toy_manifest: Path, storage: str) -> None:
    sweep = [*toy_sweep(toy_manifest, tmp_path / "sweep"), "hydra/sweeper=optuna", "hydra.sweeper.direction=maximize"]
    sweep += [f"hydra.sweeper.storage={storage}", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1"]
    sweep += ["hydra.sweeper.sampler.seed=1", "optimizer.lr=tag(log,interval(1e-4,1e-2))", "run.on_existing=resume"]
    answer = command(*sweep, folder=tmp_path, before=_KILLED)
    assert answer.returncode == -9
    killed = read_jobs(tmp_path / "sweep")
    assert [(job.outcome, job.message) for job in killed] == [("finished", ""), ("failed", NOT_ENDED)]
    answer = command(*sweep, folder=tmp_path)
    assert answer.returncode == 0, answer.stderr
    jobs = read_jobs(tmp_path / "sweep")
    assert [job.outcome for job in jobs] == ["finished"] * 3
    assert [job.values for job in jobs[:2]] == [job.values for job in killed]
    assert jobs[0].objective == killed[0].objective
    assert len(list((tmp_path / "sweep" / "teachers").iterdir())) == 3
