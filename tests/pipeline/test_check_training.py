"""A recipe checked before training: it passes, each fault fails, nothing of the teacher is touched."""

import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from fer_lightning.config import conf_dir, register_schemas, to_run
from fer_lightning.data import datamodule
from fer_lightning.data.batches.dataset import Batch
from fer_lightning.errors import CheckFailedError, FerError, RunLockedError
from fer_lightning.models import classifier as classifier_module
from fer_lightning.models.classifier import Classifier
from fer_lightning.pipeline.check_training import check_training
from fer_lightning.pipeline.config import CheckConfig, CheckTrainingRun, TrainTeacherRun
from fer_lightning.pipeline.evaluate import evaluate
from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationTarget
from fer_lightning.pipeline.learning import fitting
from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.runs.artifacts import AlignmentReport, ReliabilityMetrics, read_artifact
from fer_lightning.runs.check_report import TrainingCheck
from fer_lightning.runs.evaluation import Evaluation
from fer_lightning.runs.lock import RunLock
from fer_lightning.training.config import TrainerConfig
from fer_lightning.training.recipe.config import ImbalanceConfig, MixingConfig, Sampler
from fer_lightning.training.recipe.freezing import Freezing
from fer_lightning.training.teacher import TeacherModule
from tests.conftest import TOY_BACKBONE, toy_run

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")


def toy_check(manifest: Path, root: Path) -> CheckTrainingRun:
    run = toy_run(manifest, root)
    shared = {field.name: getattr(run, field.name) for field in fields(run) if field.name != "task"}
    return CheckTrainingRun(**shared, check=CheckConfig(rows=16, steps=40))


def output_of(run: CheckTrainingRun) -> Path:
    return Path(run.run.root) / "checks" / run.name


def report_of(run: CheckTrainingRun) -> TrainingCheck:
    return read_artifact(output_of(run) / "check.json", TrainingCheck)


def verdicts_of(run: CheckTrainingRun) -> dict[str, str]:
    return {finding.check: finding.verdict for finding in report_of(run).findings}


@pytest.fixture(scope="module")
def passed(toy_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> CheckTrainingRun:
    run = toy_check(toy_manifest, tmp_path_factory.mktemp("checks"))
    check_training(run)
    return run


def test_a_sound_recipe_passes_and_leaves_one_file(passed: CheckTrainingRun) -> None:
    verdicts = verdicts_of(passed)
    assert verdicts.pop("starting weights") == "warn"
    assert verdicts.pop("loss at the start") == "warn"  # 32 dimensions are few for a scale of 30
    verdicts.pop("pace")  # the machine's
    assert set(verdicts.values()) == {"pass"}
    assert [path.name for path in output_of(passed).iterdir() if not path.name.startswith(".")] == ["check.json"]
    root = Path(passed.run.root)
    assert not (root / "teachers").exists()
    assert {path.name for path in root.iterdir()} == {"cache", "checks"}


def test_figures_of_a_sound_recipe(passed: CheckTrainingRun) -> None:
    report = report_of(passed)
    first, gradients, overfit = report.first_batch, report.gradients, report.overfit
    assert report.run_name == passed.name
    assert first.shape == [32, 3, 32, 32]
    assert len(first.labels) == 32
    assert first.loss == pytest.approx(first.cross_entropy, rel=1e-5)  # epoch 0 has no margin
    assert first.batch_norms > 10
    assert (gradients.frozen_tensors, gradients.without) == (0, [])
    assert set(gradients.norms) == {"backbone", "neck", "head"}
    assert overfit.batch_sizes == [16]
    assert overfit.reached_after_steps == len(overfit.losses) == len(overfit.accuracies)
    assert overfit.accuracies[-1] == overfit.best_accuracy >= 0.95
    assert all(accuracy < 0.95 for accuracy in overfit.accuracies[:-1])
    pace = report.pace
    batch = pace.waiting_seconds + pace.step_seconds
    num_val_batches = -(-sum(report.classes.rows["val"].values()) // 32)
    assert pace.epoch_seconds == pytest.approx(9 * batch + num_val_batches * pace.val_seconds)
    assert pace.run_seconds == pytest.approx(2 * pace.epoch_seconds)
    assert pace.images_per_second == pytest.approx(32 / batch)


def test_a_check_repeats_bit_for_bit(passed: CheckTrainingRun, tmp_path: Path) -> None:
    again = replace(passed, run=replace(passed.run, root=str(tmp_path)))
    check_training(again)
    first, second = (report_of(run) for run in (passed, again))
    assert replace(first, pace=second.pace, findings=second.findings) == second
    assert [f for f in first.findings if f.check != "pace"] == [f for f in second.findings if f.check != "pace"]


def test_the_first_batch_is_the_one_that_training_takes(
    passed: CheckTrainingRun, toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    step = TeacherModule.training_step

    def note(self: TeacherModule, batch: Batch, batch_idx: int) -> Tensor:
        loss = step(self, batch, batch_idx)
        losses.append(float(self.last_loss))
        return loss

    monkeypatch.setattr(TeacherModule, "training_step", note)
    train_teacher(toy_run(toy_manifest, tmp_path, epochs=2))
    assert losses[0] == report_of(passed).first_batch.loss


def cut_off(patch: pytest.MonkeyPatch) -> None:
    def embed(self: Classifier, pictures: Tensor) -> Tensor:
        features = self.backbone(classifier_module.standardise(pictures, self.mean, self.std))
        embeddings: Tensor = self.neck(features.detach())
        return embeddings

    patch.setattr(Classifier, "embed", embed)


def freeze_statistics(patch: pytest.MonkeyPatch) -> None:
    apply = Freezing.apply

    def apply_and_stop(self: Freezing, epoch: int, *, by_gradient: bool) -> None:
        apply(self, epoch, by_gradient=by_gradient)
        self._backbone.eval()

    patch.setattr(Freezing, "apply", apply_and_stop)


def standardise_twice(patch: pytest.MonkeyPatch) -> None:
    once = classifier_module.standardise
    patch.setattr(classifier_module, "standardise", lambda x, mean, std: once(once(x, mean, std), mean, std))


def forget_the_range(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(datamodule, "to_float", lambda pictures: pictures.to(torch.float32))


@pytest.mark.parametrize(
    ("break_it", "check", "advice"),
    [
        (cut_off, "gradients", "classifier.backbone."),
        (freeze_statistics, "batch normalisation", "in evaluation mode: backbone."),
        (standardise_twice, "standardisation", "not standardised exactly once"),
        (forget_the_range, "pictures", "vary within"),
    ],
)
def test_a_broken_network_or_loader_fails(
    toy_manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[pytest.MonkeyPatch], None],
    check: str,
    advice: str,
) -> None:
    run = toy_check(toy_manifest, tmp_path)
    run.check.steps = 2
    break_it(monkeypatch)
    with pytest.raises(CheckFailedError, match=check) as failed:
        check_training(run)
    assert failed.value.exit_code == 3
    [found] = [finding for finding in report_of(run).findings if finding.check == check]
    assert found.verdict == "fail"
    assert advice in found.advice


def test_a_rate_too_small_cannot_learn_by_heart(
    toy_manifest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = toy_check(toy_manifest, tmp_path)
    run.optimizer.lr = run.optimizer.min_lr = 1e-9
    run.check.steps = 5
    caplog.set_level(logging.INFO)
    with pytest.raises(CheckFailedError, match=r"overfit failed; see .*check\.json"):
        check_training(run)
    overfit = report_of(run).overfit
    assert overfit.reached_after_steps is None
    assert len(overfit.losses) == 5
    assert "fail  overfit" in caplog.text
    assert "-> another optimizer.lr" in caplog.text
    assert {name for name, verdict in verdicts_of(run).items() if verdict == "fail"} == {"overfit"}


def test_a_rate_too_large_fails_on_its_gradients(toy_manifest: Path, tmp_path: Path) -> None:
    run = toy_check(toy_manifest, tmp_path)
    run.optimizer.lr = 1e30
    run.optimizer.warmup_epochs = 0.0
    run.check.steps = 3
    with pytest.raises(CheckFailedError, match="gradients"):
        check_training(run)
    assert report_of(run).gradients.non_finite


def test_recipe_with_everything_on(toy_manifest: Path, tmp_path: Path) -> None:
    run = toy_check(toy_manifest, tmp_path)
    run.stage = replace(run.stage, freeze_backbone_epochs=1, accumulate=4, batch_size=16)
    run.mixing = MixingConfig(mixup_alpha=0.4, cutmix_alpha=1.0)
    run.imbalance = ImbalanceConfig(sampler=Sampler.class_balanced)
    run.optimizer = replace(run.optimizer, sam_rho=0.05, ema_decay=0.99, gradient_clip_norm=1.0)
    run.backbone.dropout = 0.5
    check_training(run)
    report = report_of(run)
    assert report.first_batch.mixed_rows > 10
    assert report.gradients.frozen_tensors > 30
    assert set(report.gradients.norms) == {"neck", "head"}
    assert report.gradients.steps >= 3
    assert report.overfit.reached_after_steps is not None
    assert max(report.classes.drawn.values()) - min(report.classes.drawn.values()) <= 1


def test_few_rows_and_small_batches(toy_manifest: Path, tmp_path: Path) -> None:
    run = toy_check(toy_manifest, tmp_path)
    run.data.limit_rows = 7
    run.stage.batch_size = 3
    run.check = CheckConfig(rows=32, steps=60, min_accuracy=0.8)
    check_training(run)
    report = report_of(run)
    assert set(report.classes.rows["train"].values()) == {1}
    assert report.overfit.batch_sizes == [4, 3]
    assert report.run_name.endswith("_rows7")


def test_what_training_refuses_is_refused(toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = toy_check(toy_manifest, tmp_path)
    run.stage.init_from = str(tmp_path / "gone")
    with pytest.raises(
        FerError, match="stage.init_from: no file .*gone; give a finished run's directory or its best.pt"
    ):
        check_training(run)
    run.stage.init_from = None
    run.trainer = TrainerConfig(precision="16-mixed")
    monkeypatch.setattr(fitting, "pick_device", lambda _: torch.device("cpu"))
    with pytest.raises(FerError, match="trainer.precision=16-mixed needs a GPU"):
        check_training(run)
    with RunLock(output_of(run)), pytest.raises(RunLockedError):
        check_training(run)
    assert not (output_of(run) / "check.json").exists()


def test_exit_code_beside_an_experiment(toy_manifest: Path, tmp_path: Path) -> None:
    places = [f"data.manifest={toy_manifest}", f"run.root={tmp_path}", f"data.cache_dir={tmp_path / 'cache'}"]
    backbone = [f"backbone.name={TOY_BACKBONE}", "backbone.short=TOY", "backbone.pretrained=false"]
    recipe = ["+experiment=stageA_rn18", "task=check_training", "trainer=smoke", *backbone]
    small = ["check.steps=4", "optimizer.lr=1e-9", "optimizer.min_lr=0", *places]
    command = [sys.executable, "-m", "fer_lightning", *recipe, *small]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "pass  gradients" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("check.json")
    assert "overfit failed; see " in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert (tmp_path / "checks" / "TOY_test_resnet_seed1337_stageA_img64_rows70" / "check.json").is_file()


EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
TEACHERS = [name for name in EXPERIMENTS if "ensemble" not in name and "student" not in name]


def composed(*overrides: str) -> TrainTeacherRun:
    register_schemas()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        run = to_run(compose("config", overrides=list(overrides)))
    assert isinstance(run, TrainTeacherRun)
    return run


@pytest.mark.parametrize("name", TEACHERS)
def test_every_experiment_can_be_checked_and_tried(name: str) -> None:
    plain = composed(f"+experiment={name}")
    checked = composed(f"+experiment={name}", "task=check_training")
    assert type(checked) is CheckTrainingRun
    for field in fields(TrainTeacherRun):
        if field.name != "task" and (field.name, plain.task) != ("source_filter", "train_two_stage"):
            assert getattr(checked, field.name) == getattr(plain, field.name)
    tried = composed(f"+experiment={name}", "trainer=smoke")
    assert (tried.trainer.accelerator, tried.trainer.onnx, tried.data.limit_rows) == ("cpu", False, 70)
    assert tried.stage.image_size <= 64
    assert tried.stage.batch_size <= 32
    assert tried.stage.epochs <= 16
    assert (tried.loss, tried.optimizer, tried.backbone) == (plain.loss, plain.optimizer, plain.backbone)


def test_smoke_yields_to_what_is_typed() -> None:
    typed = ["stage.epochs=3", "stage.image_size=96", "data.limit_rows=21", "trainer.onnx=true"]
    for order in ([*typed, "trainer=smoke"], ["trainer=smoke", *typed]):
        run = composed("+experiment=stageA_b3", *order)
        assert (run.stage.epochs, run.stage.image_size, run.stage.batch_size) == (3, 96, 32)
        assert (run.data.limit_rows, run.trainer.onnx) == (21, True)


def test_check_training_takes_the_groups_of_train_teacher() -> None:
    texts = [(conf_dir() / "task" / f"{task}.yaml").read_text() for task in ("train_teacher", "check_training")]
    groups = [
        [line for line in text.splitlines() if line.startswith("  - /") and "schema" not in line] for text in texts
    ]
    assert groups[0] == groups[1]


@pytest.mark.parametrize("carved", [False, True])
def test_a_limited_run_is_evaluated_on_its_own_rows(toy_manifest: Path, tmp_path: Path, carved: bool) -> None:
    manifest = tmp_path / "manifest.csv"
    text = toy_manifest.read_text()
    manifest.write_text(text.replace(",val,", ",train,") if carved else text)
    run = toy_run(manifest, tmp_path, epochs=1)
    run.data.root = str(toy_manifest.parent)
    run.data.limit_rows, run.run.seed, run.data.val_fraction = 28, 7, 0.2
    train_teacher(run)
    directory = tmp_path / "teachers" / run.name
    assert directory.name.endswith("_rows28")
    alignment = read_artifact(directory / "alignmentreport.json", AlignmentReport)
    assert (alignment.train_rows, alignment.val_rows) == (28, 28)
    assert set(alignment.train_class_counts.values()) == {4}
    own = read_artifact(directory / "reliabilitymetrics.json", ReliabilityMetrics).best
    data = replace(run.data, limit_rows=None, val_fraction=0.1)
    same = EvaluateRun(evaluate=EvaluationTarget(checkpoint=str(directory), output_dir=str(tmp_path / "same")))
    evaluate(same)
    assert read_artifact(tmp_path / "same" / "evaluation.json", Evaluation).result.raw.nll == own.raw.nll
    target = EvaluationTarget(checkpoint=str(directory), output_dir=str(tmp_path / "given"))
    evaluate(EvaluateRun(evaluate=target, data=data))
    given = read_artifact(tmp_path / "given" / "evaluation.json", Evaluation)
    assert (given.result.row_set_fingerprint == own.row_set_fingerprint) == carved
    assert given.rows_seen_in_training == 0
    if carved:
        with pytest.raises(FerError, match=r"data\.limit_rows=14 would have no effect"):
            evaluate(EvaluateRun(evaluate=target, data=replace(data, limit_rows=14)))
    else:
        assert given.result.n == text.count(",val,")
        target = replace(target, split="train", output_dir=str(tmp_path / "train"))
        evaluate(EvaluateRun(evaluate=target, data=data))
        assert read_artifact(tmp_path / "train" / "evaluation.json", Evaluation).rows_seen_in_training == 28
