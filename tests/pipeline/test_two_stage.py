"""Stage A, then Stage B, from one command: two honest runs, continued where they were left."""

import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import pytest
from hydra import compose, initialize_config_dir

from fer_lightning.config import composition_message, conf_dir, register_schemas, to_run
from fer_lightning.data.config import DataConfig
from fer_lightning.errors import FerError, FinishedRunError
from fer_lightning.files import sha256_of
from fer_lightning.pipeline.config import TrainTeacherRun
from fer_lightning.pipeline.evaluate import evaluate
from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationTarget
from fer_lightning.pipeline.teachers.two_stage_config import SourceFilterBConfig, StageBConfig, TrainTwoStageRun
from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.pipeline.train_two_stage import train_two_stage
from fer_lightning.runs.artifacts import AlignmentReport, ReliabilityMetrics, read_artifact
from fer_lightning.runs.config import OnExisting
from fer_lightning.runs.evaluation import Evaluation
from fer_lightning.runs.history import History
from fer_lightning.runs.run_dir import plain_values, read_config
from fer_lightning.training.callbacks.step_seed import StepSeed
from tests.conftest import toy_run

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")

STAGE_A = "TOY_test_resnet_seed1337_toy_img32"
STAGE_B = "TOY_test_resnet_seed1337_toyB_img48"


class Finished(NamedTuple):
    """A finished pair."""

    stage_a: Path
    stage_b: Path
    said: str
    """The verb's own lines."""


def make_run(
    manifest: Path, root: Path, *, pair: Finished | None = None, on_existing: OnExisting = OnExisting.resume
) -> TrainTwoStageRun:
    """Two epochs at 32 px with every source, two at 48 px without FERPlus; with the pixel cache of a finished pair."""
    groups = {name: value for name, value in vars(toy_run(manifest, root)).items() if name != "task"}
    run = TrainTwoStageRun(
        **groups,
        stage_b=StageBConfig(name="toyB", image_size=48, epochs=2, batch_size=32, needs_init=True),
        source_filter_b=SourceFilterBConfig(name="stage_b", exclude=["ferplus"]),
    )
    run.optimizer.ema_decay = 0.9
    run.run.on_existing = on_existing
    if pair is not None:
        run.data.cache_dir = str(pair.stage_a.parents[1] / "cache")
    return run


def directories(run: TrainTwoStageRun) -> tuple[Path, Path]:
    stage_a = run.stage_a_run().directory
    return stage_a, run.stage_b_run(str(stage_a)).directory


def stop_at(monkeypatch: pytest.MonkeyPatch, size: int, epoch: int, batch: int, error: type[BaseException]) -> None:
    """Raise at a batch of the stage whose pictures have this size."""
    seed = StepSeed.on_train_batch_start

    def die(self: StepSeed, trainer: lightning.Trainer, module: Any, data: Any, batch_idx: int) -> None:
        place = (module.recipe.classifier.image_size, trainer.current_epoch, batch_idx)
        if place == (size, epoch, batch):
            raise error
        seed(self, trainer, module, data, batch_idx)

    monkeypatch.setattr(StepSeed, "on_train_batch_start", die)


@pytest.fixture(scope="module")
def finished(toy_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Both directories of a finished pair, and what was said."""
    run = make_run(toy_manifest, tmp_path_factory.mktemp("pair"), on_existing=OnExisting.fail)
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("fer_lightning.pipeline.train_two_stage")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        train_two_stage(run)
    finally:
        logger.removeHandler(handler)
    return Finished(*directories(run), "\n".join(said))


def test_each_stage_is_the_run_it_would_be_by_itself(finished: Finished, toy_manifest: Path, tmp_path: Path) -> None:
    stage_a, stage_b = finished.stage_a, finished.stage_b
    assert (stage_a.name, stage_b.name) == (STAGE_A, STAGE_B)
    alone = toy_run(toy_manifest, tmp_path)
    alone.optimizer.ema_decay = 0.9
    alone.stage.name, alone.stage.image_size, alone.stage.needs_init = "toyB", 48, True
    alone.stage.init_from = str(stage_a)
    alone.source_filter.name, alone.source_filter.exclude = "stage_b", ["ferplus"]
    train_teacher(alone)
    assert (alone.directory / "history.json").read_bytes() == (stage_b / "history.json").read_bytes()
    recorded: dict[str, Any] = read_config(stage_b)
    expected: dict[str, Any] = plain_values(alone)
    assert {**recorded, "run": None, "data": None} == {**expected, "run": None, "data": None}  # which name places
    assert read_config(stage_a)["task"] == "train_teacher"


def test_stage_b_starts_from_the_averaged_best_of_stage_a(finished: Finished) -> None:
    stage_a, stage_b = finished.stage_a, finished.stage_b
    start = read_artifact(stage_b / "alignmentreport.json", AlignmentReport).starting_weights
    assert (start.kind, start.source) == ("init_from", (stage_a / "best.pt").as_posix())
    assert start.source_sha256 == sha256_of(stage_a / "best.pt")
    assert start.weights == "averaged (decay 0.9)"
    assert start.loaded_share == 1.0
    assert read_artifact(stage_b / "history.json", History).epochs[0].margin_rad == 0.0  # its own ramp


def test_val_rows_are_accounted_for_and_never_compared_silently(finished: Finished) -> None:
    stage_a, stage_b, said = finished
    first, second = (read_artifact(path / "alignmentreport.json", AlignmentReport) for path in (stage_a, stage_b))
    best_a, best_b = (
        read_artifact(path / "reliabilitymetrics.json", ReliabilityMetrics).best for path in (stage_a, stage_b)
    )
    ferplus = first.source_counts_after_filter["ferplus"]["val"]
    assert ferplus > 0
    assert "ferplus" not in second.source_counts_after_filter
    assert best_b.n == best_a.n - ferplus == second.val_rows
    for best, stage in ((best_a, "Stage A"), (best_b, "Stage B")):
        line = next(line for line in said.splitlines() if line.startswith(stage) and str(best.n) in line.split())
        assert best.row_set_fingerprint[:12] in line
        assert f"{best.raw.macro_f1:.4f}" in line
    assert best_a.row_set_fingerprint != best_b.row_set_fingerprint
    assert f"NOT comparable. source_filter all and stage_b: val rows of ferplus {ferplus} and 0." in said


def test_equal_rows_are_comparable(
    finished: Finished, toy_manifest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(toy_manifest, tmp_path, pair=finished)
    run.source_filter_b.exclude = []
    run.stage.epochs = run.stage_b.epochs = 1
    with caplog.at_level(logging.INFO):
        train_two_stage(run)
    assert "Both stages were judged on the same val rows: their figures are comparable." in caplog.text


def test_a_complete_pair_is_not_resumed_silently(
    finished: Finished, toy_manifest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(toy_manifest, finished[0].parents[1])
    with caplog.at_level(logging.INFO), pytest.raises(FinishedRunError, match="both stages are complete"):
        train_two_stage(run)
    assert "Stage A is finished and used as it is" in caplog.text
    assert "NOT comparable" in caplog.text
    run.run.on_existing = OnExisting.fail
    with pytest.raises(FerError, match=f"{STAGE_A} already holds a run of this configuration"):
        train_two_stage(run)


@pytest.mark.parametrize(("epoch", "batch"), [(0, 0), (1, 2)])
def test_a_stage_b_that_was_killed_goes_on_as_if_it_had_not_been(
    finished: Finished, toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, batch: int
) -> None:
    run = make_run(toy_manifest, tmp_path, pair=finished)
    shutil.copytree(finished.stage_a, directories(run)[0])
    with monkeypatch.context() as patch:
        stop_at(patch, 48, epoch, batch, RuntimeError)
        with pytest.raises(RuntimeError):
            train_two_stage(run)
    assert (directories(run)[1] / "checkpoint_last.pt").exists() == (epoch > 0)
    train_two_stage(run)
    assert (directories(run)[1] / "history.json").read_bytes() == (finished.stage_b / "history.json").read_bytes()


def test_an_interrupted_stage_a_starts_no_stage_b_and_goes_on(
    finished: Finished, toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(toy_manifest, tmp_path, pair=finished)
    stage_a, stage_b = directories(run)
    with monkeypatch.context() as patch:
        stop_at(patch, 32, 1, 0, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            train_two_stage(run)
    assert (stage_a / "checkpoint_last.pt").exists()
    assert not stage_b.exists()
    train_two_stage(run)
    assert (stage_a / "history.json").read_bytes() == (finished.stage_a / "history.json").read_bytes()
    assert (stage_b / "history.json").read_bytes() == (finished.stage_b / "history.json").read_bytes()


def test_stage_b_is_looked_at_before_stage_a_is_trained(finished: Finished, toy_manifest: Path, tmp_path: Path) -> None:
    run = make_run(toy_manifest, tmp_path, on_existing=OnExisting.fail)
    stage_a, stage_b = directories(run)
    run.source_filter_b.include = ["nosuch"]
    with pytest.raises(FerError, match="nosuch"):
        train_two_stage(run)
    run.source_filter_b.include = []
    shutil.copytree(finished[1], stage_b)
    with pytest.raises(FerError, match=r"(?s)Stage B, whose options are stage_b\.\*.*stage\.init_from: recorded"):
        train_two_stage(run)
    assert not stage_a.exists()


def test_a_stage_b_that_has_begun_must_come_from_stage_a_as_it_is(
    finished: Finished, toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished[0].parent, Path("runs/teachers"))
    run = make_run(toy_manifest, Path("runs"), pair=finished)
    stage_a, stage_b = directories(run)
    config = (stage_b / "config.yaml").read_text("utf-8")
    (stage_b / "config.yaml").write_text(config.replace(str(finished[0]), stage_a.as_posix()), encoding="utf-8")
    run.stage_b.epochs = 3
    train_two_stage(run)
    assert [record.phase for record in read_artifact(stage_b / "history.json", History).epochs] == [
        "all",
        "all",
        "polish",
    ]
    run.stage.epochs = 3
    with pytest.raises(FerError, match=r"Stage B has begun .* Stage A .* is not finished with stage\.epochs=3"):
        train_two_stage(run)
    run.stage.epochs = 2
    for name in ("best.pt", "reliabilitymetrics.json", "calibration.json", "checkpoint_last.pt"):
        shutil.copy(stage_b / name, stage_a / name)
    with pytest.raises(FerError, match=r"was started from .*toy_img32/best\.pt, which has changed since"):
        train_two_stage(run)


def with_rows(manifest: Path, folder: Path, split: str, source: str) -> Path:
    """Copy a set and add to it copies of three FERPlus train pictures under another split and source."""
    shutil.copytree(manifest.parent, folder)
    header, *lines = (folder / manifest.name).read_text("utf-8").splitlines()
    columns = header.split(",")
    rows = [dict(zip(columns, line.split(","), strict=True)) for line in lines]
    seen = [row for row in rows if (row["split"], row["source"]) == ("train", "ferplus")][:3]
    added = []
    for number, row in enumerate(seen):
        shutil.copy(folder / row["image_path"], folder / f"copy{number}.png")
        copied = {**row, "image_path": f"copy{number}.png", "split": split, "source": source}
        added.append(",".join(copied[column] for column in columns))
    (folder / manifest.name).write_text("\n".join([header, *lines, *added]) + "\n", encoding="utf-8")
    return folder / manifest.name


def test_val_rows_of_stage_b_that_stage_a_trains_on_are_refused(toy_manifest: Path, tmp_path: Path) -> None:
    run = make_run(with_rows(toy_manifest, tmp_path / "set", "val", "expw_full"), tmp_path)
    run.source_filter.exclude = ["expw_full"]
    with pytest.raises(
        FerError, match=r"(?s)Stage B would be judged on rows that Stage A trains on.*on 3 of these \d+ val"
    ):
        train_two_stage(run)
    assert not (tmp_path / "teachers").exists()


def test_rows_that_stage_a_was_trained_on_are_no_test_of_stage_b(
    finished: Finished, toy_manifest: Path, tmp_path: Path
) -> None:
    manifest = with_rows(toy_manifest, tmp_path / "set", "test", "rafdb_basic")
    target = EvaluationTarget(checkpoint=str(finished.stage_b), split="test", output_dir=str(tmp_path / "out"))
    data = DataConfig(manifest=str(manifest), num_workers=0, cache_dir=str(tmp_path / "cache"))
    with pytest.raises(FerError, match=r"trained on 3 of these \d+ test rows"):
        evaluate(EvaluateRun(evaluate=target, data=data))
    data.allow_leaks = ["content"]
    evaluate(EvaluateRun(evaluate=target, data=data))
    assert read_artifact(tmp_path / "out" / "evaluation.json", Evaluation).rows_seen_in_training == 3


def test_a_second_stage_by_itself_is_not_judged_on_what_the_first_was_trained_on(
    finished: Finished, toy_manifest: Path, tmp_path: Path
) -> None:
    run = toy_run(with_rows(toy_manifest, tmp_path / "set", "val", "expw_full"), tmp_path, epochs=1)
    run.source_filter.include = ["expw_full", "rafdb_basic"]
    for start in (finished.stage_a, finished.stage_b):  # itself, and the run it was started from
        run.stage.init_from = str(start)
        with pytest.raises(FerError, match=r"trained on 3 of these \d+ val rows"):
            train_teacher(run)
    run.stage.init_from, run.backbone.checkpoint = None, str(finished.stage_a / "best.pt")
    with pytest.raises(FerError, match=r"trained on 3 of these \d+ val rows"):
        train_teacher(run)


def composed(*overrides: str) -> TrainTwoStageRun:
    register_schemas()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        run = to_run(compose("config", overrides=list(overrides)))
    assert isinstance(run, TrainTwoStageRun)
    return run


@pytest.mark.parametrize(("name", "start"), [("rn18", "RN18_resnet18"), ("b3", "B3_tf_efficientnet_b3")])
def test_the_experiments_are_the_documents_pair(name: str, start: str) -> None:
    pair = composed(f"+experiment=two_stage_{name}")
    first, second = pair.stage_a_run(), pair.stage_b_run("experiments/teachers/A")
    assert type(first) is type(second) is TrainTeacherRun
    assert (first.name, second.name) == (f"{start}_seed1337_stageA_img224", f"{start}_seed1337_stageB_img384")
    for stage, run in (("A", first), ("B", second)):
        options = [f"stage.init_from={'experiments/teachers/A' if stage == 'B' else 'null'}"]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            alone = to_run(compose("config", overrides=[f"+experiment=stage{stage}_{name}", *options]))
        assert plain_values(run) == plain_values(alone)


@pytest.mark.parametrize("size", [320, 352])
def test_stage_b_at_other_sizes(size: int) -> None:
    run = composed("+experiment=two_stage_rn18", f"stage@stage_b=b{size}", "run.tag=x").stage_b_run("A")
    assert run.name == f"RN18_resnet18_seed1337_stageB_img{size}_x"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("stage_b.init_from=x",), "stage_b.init_from has no place here"),
        (("stage_b.epochs=0",), "stage_b.epochs must be at least 1, got 0"),
        (("stage_b.batch_size=8", "imbalance.min_per_class=2"), "in batches of stage_b.batch_size=8"),
        (("source_filter_b.include=[ferplus]",), "source_filter_b includes and excludes ferplus"),
        (("stage@stage_b=a",), "both stages would be the run RN18_resnet18_seed1337_stageA_img224"),
        (("stage=b",), "stage stageB continues another run: stage.init_from="),
        (("+stage_b.epcohs=3",), "unknown option stage_b.epcohs; did you mean stage_b.epochs"),
    ],
)
def test_refusals_name_the_options_of_this_command(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(FerError, match=message):
        composed("task=train_two_stage", *overrides)


def test_a_misspelt_option_is_answered_with_the_one_meant() -> None:
    register_schemas()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"), pytest.raises(Exception, match="epcohs") as caught:
        compose("config", overrides=["task=train_two_stage", "stage_b.epcohs=3"])
    assert composition_message(caught.value) == "unknown option stage_b.epcohs; did you mean stage_b.epochs?"  # type: ignore[arg-type]
