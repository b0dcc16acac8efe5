"""Every experiment and every group option composes to its typed run; every refusal is reached with its message."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException

from fer_lightning.config import RUN_TYPES, Run, conf_dir, register_schemas, to_run
from fer_lightning.data.building.config import BuildMode
from fer_lightning.data.config import SOURCES
from fer_lightning.errors import FerError
from fer_lightning.pipeline.config import BuildManifestRun, ExportOnnxRun, TrainTeacherRun
from fer_lightning.pipeline.ensembles.config import FuseEnsembleRun
from fer_lightning.pipeline.evaluation.config import EvaluateRun
from fer_lightning.runs.config import OnExisting
from fer_lightning.training.recipe.config import ClassWeights, OptimizerName

EXPERIMENTS = sorted(file.stem for file in (conf_dir() / "experiment").glob("*.yaml"))
OPTIONS = sorted(
    f"{file.parent.name}={file.stem}"
    for file in conf_dir().glob("*/*.yaml")
    if file.parent.name not in {"task", "experiment", "sweep"}
)
MERGES = ("merge", "curate", "test_all_sources", "hq_train", "eval_only")
STAGE_A_BACKBONES = {
    "stageA_rn18": "RN18_resnet18",
    "stageA_b3": "B3_tf_efficientnet_b3",
    "stageA_cnxt": "CNXT_convnext_tiny",
    "stageA_vit_tiny": "VITT_vit_tiny_patch16_224",
    "stageA_vit_small": "VITS_vit_small_patch16_224",
    "stageA_rn50": "RN50_resnet50",
}
STAGE_B_BACKBONES = {
    "stageB_rn18": "RN18_resnet18",
    "stageB_b3": "B3_tf_efficientnet_b3",
    "stageB_cnxt": "CNXT_convnext_tiny",
}


@pytest.fixture(autouse=True, scope="module")
def _hydra() -> Iterator[None]:
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        yield


def run_of(*overrides: str) -> Run:
    return to_run(compose("config", overrides=list(overrides)))


def teacher(*overrides: str) -> TrainTeacherRun:
    run = run_of(*overrides)
    assert isinstance(run, TrainTeacherRun)
    return run


TEACHERS = dict.fromkeys(("student_kd", "student_dkd", "demo_student"), ("distillation.softlabels=s",)) | {
    f"{name}student_comparison": ("comparison.softlabels=s",) for name in ("", "small_")
}
"""What an experiment leaves to the command line."""


TAUGHT = ("curriculum", "dist", "dkd", "entropy", "kd", "kd_standardized", "multi_level", "nkd")


def test_experiments_are_found() -> None:
    assert {*STAGE_A_BACKBONES, *STAGE_B_BACKBONES, "demo"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_composes(name: str) -> None:
    run = run_of(f"+experiment={name}", *TEACHERS.get(name, ()))
    assert type(run) is RUN_TYPES[run.task]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_says_what_it_is(name: str) -> None:
    lines = (conf_dir() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# @package _global_"
    for line, heading in zip(lines[1:5], ("What:", "Command:", "Cost:", "Expected:"), strict=True):
        assert re.fullmatch(rf"# {heading} +\S.*", line), line
    assert f"+experiment={name}" in lines[2] or lines[2].split()[2] == "make"


@pytest.mark.parametrize(("name", "start"), STAGE_A_BACKBONES.items())
def test_stage_a_has_the_documented_figures(name: str, start: str) -> None:
    run = teacher(f"+experiment={name}")
    assert run.name == f"{start}_seed1337_stageA_img224"
    assert (run.stage.image_size, run.stage.epochs, run.stage.batch_size, run.stage.accumulate) == (224, 60, 64, 1)
    assert run.optimizer.name is OptimizerName.adamw
    assert (run.optimizer.lr, run.optimizer.weight_decay) == (3e-4, 0.05)
    assert (run.optimizer.warmup_epochs, run.optimizer.min_lr) == (2.0, 1e-5)
    assert (run.loss.margin_rad, run.loss.scale) == (0.35, 30.0)
    assert (run.loss.ramp_start_epoch, run.loss.ramp_end_epoch) == (5, 15)
    assert (run.backbone.embedding_dim, run.backbone.dropout, run.backbone.pretrained) == (512, 0.2, True)
    assert (run.data.clahe, run.data.clahe_clip_limit, run.data.clahe_tiles) == (True, 2.0, 8)
    assert run.source_filter.include == ["ferplus", "rafdb_basic", "affectnet_full_balanced", "expw_hq"]
    assert run.run.seed == 1337
    assert run.run.on_existing is OnExisting.fail
    assert run.calibration.num_bins == 15
    assert run.imbalance.min_per_class == 0
    assert run.imbalance.class_weights is ClassWeights.none


@pytest.mark.parametrize(("name", "start"), STAGE_B_BACKBONES.items())
def test_stage_b_starts_from_its_stage_a(name: str, start: str) -> None:
    run = teacher(f"+experiment={name}")
    assert run.name == f"{start}_seed1337_stageB_img384"
    assert run.stage.init_from == f"experiments/teachers/{start}_seed1337_stageA_img224"
    stage_a = teacher(f"+experiment={name.replace('stageB', 'stageA')}")
    assert run.stage.init_from == f"{run.run.root}/teachers/{stage_a.name}"
    assert not run.backbone.pretrained
    assert (run.source_filter.include, run.source_filter.exclude) == ([], ["ferplus"])


def test_source_filters_name_known_sources() -> None:
    for name in ("stage_a", "stage_b"):
        run = teacher(f"source_filter={name}")
        assert set(run.source_filter.include + run.source_filter.exclude) <= set(SOURCES)


def test_each_task_composes_to_its_run() -> None:
    assert set(RUN_TYPES) == {file.stem for file in (conf_dir() / "task").glob("*.yaml")}
    for task, kind in RUN_TYPES.items():
        run = run_of(f"task={task}", *(COMPARED[1:] if task == "compare_students" else ()))
        assert type(run) is kind
        assert run.task == task


@pytest.mark.parametrize("option", OPTIONS)
def test_each_group_option_composes(option: str) -> None:
    needed = {
        **{
            f"stage={name}": ["stage.init_from=somewhere", "backbone.pretrained=false"]
            for name in ("b", "b320", "b352")
        },
        "trainer=fsdp": ["watchdog=none"],
        "build=folder": ["build.tree=somewhere"],
        "build=sources": ["+source=ferplus", "build.sources.ferplus.path=somewhere"],
        "augmentation=custom": ["augmentation.pipeline=list.yaml"],
        **{f"build={name}": ["build.manifests=[a.csv]"] for name in MERGES},
        **{f"distillation={name}": ["distillation.softlabels=s"] for name in TAUGHT},
    }
    if option.startswith("source="):
        name = option.removeprefix("source=")
        option, needed = "build=sources", {"build=sources": [f"+source={name}", f"build.sources.{name}.path=somewhere"]}
    verb = {"build": "build_manifest", "distillation": "distill_student"}.get(option.partition("=")[0])
    run = run_of(*([f"task={verb}"] if verb else []), option, *needed.get(option, []))
    assert type(run) is RUN_TYPES[verb or "train_teacher"]


@pytest.mark.parametrize("name", sorted(file.stem for file in (conf_dir() / "sweep").glob("*.yaml")))
def test_each_sweep_composes(name: str) -> None:
    experiment = "ensemble_rn18_b3_cnxt" if name.startswith("ensemble") else "small_rn18"
    experiment = "student_dkd" if "kd" in name.split("_") or "dkd" in name.split("_") else experiment
    run = run_of(f"+experiment={experiment}", f"+sweep={name}", *TEACHERS.get(experiment, ()))
    assert type(run) is RUN_TYPES[run.task]


def test_ensembles_have_the_documented_weights() -> None:
    documented = {
        "ensemble_rn18_b3": [0.7, 0.3],
        "ensemble_rn18_b3_even": [0.5, 0.5],
        "ensemble_rn18_cnxt": [0.5, 0.5],
        "ensemble_b3_cnxt": [0.5, 0.5],
        "ensemble_rn18_b3_cnxt": [0.4, 0.4, 0.2],
        "ensemble_cnn_vit": [],
    }
    for name, weights in documented.items():
        run = run_of(f"+experiment={name}")
        assert isinstance(run, FuseEnsembleRun)
        assert run.ensemble.weights == weights
        trained = {f"experiments/teachers/{start}_seed1337_stageA_img224" for start in STAGE_A_BACKBONES.values()}
        assert set(run.ensemble.teachers) <= trained


def test_the_sweep_of_the_simplex_has_each_point_once() -> None:
    sweep = yaml.safe_load((conf_dir() / "sweep" / "ensemble_simplex.yaml").read_text(encoding="utf-8"))
    points = yaml.safe_load(f"[{sweep['hydra']['sweeper']['params']['ensemble.weights']}]")
    assert len(points) == len({tuple(point) for point in points}) == 66
    assert all(sum(point) == pytest.approx(1) and len(point) == 3 for point in points)


def test_each_backbone_has_its_own_short_name() -> None:
    names = [teacher(option).backbone for option in OPTIONS if option.startswith("backbone=")]
    assert len({backbone.short for backbone in names}) == len({backbone.name for backbone in names}) == len(names)


@pytest.mark.parametrize("name", ["regnety_032.ra_in1k", "eva02_tiny_patch14_224", "hf-hub:timm/resnet18.a1_in1k"])
def test_any_timm_name_is_a_value(name: str) -> None:
    run = teacher(f"backbone.name='{name}'", "backbone.short=X")
    assert run.backbone.name == name
    assert run.name == f"X_{name.replace('/', '-').replace(':', '-')}_seed1337_stageA_img224"
    assert Path(run.name).parent == Path()


def test_every_choice_of_a_run_name_shows() -> None:
    run = teacher("run.seed=7", "run.tag=lr1e-3", "stage.image_size=96", "stage.name=s", "backbone=b3")
    assert run.name == "B3_tf_efficientnet_b3_seed7_s_img96_lr1e-3"


SOURCES_OF = ("task=build_manifest", "build=sources")
CKPLUS = (*SOURCES_OF, "+source=ckplus", "build.sources.ckplus.path=x")
EXPW = ("build.sources.expw_full.path=x",)
RAFDB = ("build.sources.rafdb_basic.path=x",)
FOLDER = ("task=build_manifest", "build=folder", "build.tree=x")
FUSE = ("task=fuse_ensemble", "ensemble.teachers=[a,b]")
COMPARED = (
    "task=compare_students",
    "+distillation@arms.labels=none",
    "+distillation@arms.kd=kd",
    "comparison.softlabels=s",
)
REFUSALS = [
    (("run.seed=-1",), "run.seed must lie in 0..4294967295, got -1"),
    (("run.seed=4294967296",), "run.seed must lie in 0..4294967295"),
    (("run.tag=a/b",), "run.tag may hold letters, digits"),
    (("data.val_fraction=0",), r"data.val_fraction must lie in \(0, 1\), got 0"),
    (("data.val_fraction=1",), r"data.val_fraction must lie in \(0, 1\)"),
    (("data.max_bad_rows=-1",), "data.max_bad_rows must be at least 0, got -1"),
    (("data.num_workers=-1",), "data.num_workers must be at least 0, got -1"),
    (("data.clahe_clip_limit=0",), "data.clahe_clip_limit and data.clahe_tiles must be positive"),
    (("data.clahe_tiles=0",), "data.clahe_clip_limit and data.clahe_tiles must be positive"),
    (("source_filter.include=[a,b]", "source_filter.exclude=[b]"), "source_filter includes and excludes b"),
    (("augmentation.crop_scale_min=0",), "augmentation.crop_scale_min must lie in"),
    (("augmentation.crop_ratio_max=0.9",), "augmentation.crop_ratio_max must be at least 1"),
    (("augmentation.flip_probability=1.1",), "augmentation.flip_probability must lie in"),
    (("augmentation.erase_probability=-0.1",), "augmentation.erase_probability must lie in"),
    (("augmentation.brightness=1",), "augmentation.brightness must lie in"),
    (("augmentation.contrast=-0.1",), "augmentation.contrast must lie in"),
    (("augmentation.saturation=1",), "augmentation.saturation must lie in"),
    (("augmentation.hue=0.6",), "augmentation.hue must lie in"),
    (("backbone.checkpoint=w.pt",), "backbone.checkpoint and backbone.pretrained=true both name starting weights"),
    (("backbone.short=a/b",), "backbone.short may hold letters, digits"),
    (("backbone.short=",), "backbone.short may hold letters, digits"),
    (("backbone.dropout=1",), r"backbone.dropout must lie in \[0, 1\), got 1"),
    (("backbone.dropout=nan",), "backbone.dropout must lie in"),
    (("backbone.min_loaded_share=0",), r"backbone.min_loaded_share must lie in \(0, 1\], got 0"),
    (("backbone.embedding_dim=0",), "backbone.embedding_dim must be at least 1, got 0"),
    (("stage.image_size=8",), "stage.image_size must be at least 16, got 8"),
    (("stage.epochs=0",), "stage.epochs must be at least 1, got 0"),
    (("stage.batch_size=1",), "stage.batch_size must be at least 2, got 1"),
    (("stage.accumulate=0",), "stage.accumulate must be at least 1, got 0"),
    (("loss.scale=0",), "loss.scale and loss.scale_start must be positive, got 0.0 and None"),
    (("loss.scale_start=0",), "loss.scale and loss.scale_start must be positive, got 30.0 and 0.0"),
    (("loss.tau=-1",), "loss.tau must be at least 0, got -1"),
    (("loss.gamma=-1",), "loss.gamma must be at least 0, got -1"),
    (("loss.ldam_margin=-1",), "loss.ldam_margin must be at least 0, got -1"),
    (("loss.center_weight=-1",), "loss.center_weight must be at least 0, got -1"),
    (("loss.label_smoothing=1",), r"loss.label_smoothing must lie in \[0, 1\), got 1"),
    (("loss.sub_centers=0",), "loss.sub_centers must be at least 1, got 0"),
    (("loss=ldam", "loss.margin_rad=0.2"), "are two margins; set one of them to 0"),
    (("loss=cross_entropy", "loss.margin_rad=0.2"), "loss.margin_rad need loss.head=cosine"),
    (("loss.head=linear", "loss.sub_centers=2"), "loss.margin_rad and loss.sub_centers need loss.head=cosine"),
    (("loss.name=a/b",), "loss.name may hold letters, digits"),
    (("mixing.mixup_alpha=-1",), "mixing.mixup_alpha must be at least 0, got -1"),
    (("mixing.ramp_epochs=-1",), "mixing.ramp_epochs must be at least 0, got -1"),
    (("mixing.probability=2",), r"mixing.probability must lie in \[0, 1\], got 2"),
    (("mixing.cutmix_share=-0.5",), r"mixing.cutmix_share must lie in \[0, 1\]"),
    (("imbalance.weights_from_epoch=3",), "imbalance.weights_from_epoch=3 must be at least 0, and needs class_weights"),
    (("optimizer.backbone_lr=0",), "optimizer.backbone_lr must be positive or unset, got 0"),
    (("optimizer.layer_decay=0",), r"optimizer.layer_decay must lie in \(0, 1\], got 0"),
    (("optimizer.ema_decay=1",), "optimizer.sam_rho must be at least 0 and optimizer.ema_decay in"),
    (("optimizer.sam_rho=-1",), "optimizer.sam_rho must be at least 0 and optimizer.ema_decay in"),
    (("optimizer.sam_rho=0.05", "trainer.precision=16-mixed"), "use bf16-mixed or 32-true"),
    (
        ("optimizer.sam_rho=0.05", "trainer.devices=2", "stage.accumulate=2"),
        "optimizer.sam_rho with stage.accumulate above 1 runs on one device only",
    ),
    (
        ("trainer.strategy=fsdp", "optimizer.ema_decay=0.9"),
        "it does not work with optimizer.ema_decay and watchdog.enabled",
    ),
    (("trainer.compile=true", "backbone.attention=cbam"), "does not go with backbone.attention"),
    (("task=check_training", "check.rows=6"), "check.rows must be at least 7, one of each class, got 6"),
    (("task=check_training", "check.steps=0"), "check.steps must be at least 1, got 0"),
    (("task=check_training", "check.min_accuracy=0"), r"check.min_accuracy must lie in \(0, 1\], got 0"),
    (("task=train_two_stage", "stage_b.epochs=0"), "stage_b.epochs must be at least 1, got 0"),
    (("task=train_two_stage", "stage_b.init_from=x"), "stage_b.init_from has no place here"),
    (("task=train_two_stage", "stage@stage_b=a"), "both stages would be the run"),
    (("trainer.precision=bf16-true",), "trainer.precision must be one of"),
    (("imbalance.power=-1",), "imbalance.power must be at least 0, got -1"),
    (("optimizer.momentum=1",), r"optimizer.momentum must lie in \[0, 1\), got 1"),
    (("augmentation.rotation_degrees=-5",), "augmentation.rotation_degrees must be at least 0, got -5"),
    (("augmentation=none", "augmentation.ramp_epochs=5"), "0 for augmentation=none and custom"),
    (("mixing.off_last_epochs=2",), "need mixing.mixup_alpha or mixing.cutmix_alpha above 0"),
    (
        ("loss.scale_start=5", "loss.ramp_start_epoch=-1", "loss.ramp_end_epoch=-1"),
        "loss.scale_start would have no effect",
    ),
    (
        ("stage.freeze_backbone_epochs=5", "stage.freeze_blocks=2", "stage.freeze_blocks_epochs=4"),
        "stage.freeze_blocks_epochs=4 would have no effect",
    ),
    (
        ("loss=logit_adjusted", "imbalance=class_balanced"),
        "loss.tau=1 and imbalance.sampler=class_balanced correct the same imbalance twice",
    ),
    (("watchdog.drop=0",), r"watchdog.drop must lie in \(0, 1\], got 0"),
    (("watchdog.margin_factor=2",), "watchdog.margin_factor must lie in"),
    (("watchdog.max_rollbacks=0",), "watchdog.max_rollbacks must be at least 1, got 0"),
    (("stage.name=",), "stage.name may hold letters, digits"),
    (("stage.freeze_backbone_epochs=-1",), "stage.freeze_backbone_epochs must be at least 0, got -1"),
    (("stage.freeze_blocks=2",), "stage.freeze_blocks and stage.freeze_blocks_epochs belong together"),
    (("stage.patience=0",), "stage.patience must be at least 1 or unset, got 0"),
    (("stage.polish_lr_ratio=0",), r"stage.polish_lr_ratio must lie in \(0, 1\], got 0"),
    (("backbone.drop_path=1",), r"backbone.drop_path must lie in \[0, 1\), got 1"),
    (("augmentation.ramp_epochs=-1",), "augmentation.ramp_epochs=-1 must be at least 0"),
    (("data.limit_rows=3",), "data.limit_rows must be at least 7"),
    (("trainer.accelerator=tpu",), "trainer.accelerator must be one of"),
    (("trainer.precision=8",), "trainer.precision must be one of"),
    (("trainer.strategy=magic",), "trainer.strategy must be one of auto, ddp, fsdp, got 'magic'"),
    (("trainer=cpu", "trainer.strategy=fsdp"), "need GPUs; trainer.accelerator is cpu"),
    (("trainer=cpu", "trainer.sync_batchnorm=true"), "need GPUs; trainer.accelerator is cpu"),
    (("trainer=cpu", "trainer.precision=16-mixed"), "precision=16-mixed needs a GPU; trainer.accelerator is cpu"),
    (("loss.margin_rad=1.6",), "loss.margin_rad must lie in"),
    (("loss.margin_rad=-0.1",), "loss.margin_rad must lie in"),
    (("loss.ramp_start_epoch=16",), "loss.ramp_start_epoch=16 must lie in -1..ramp_end_epoch=15"),
    (("imbalance.min_per_class=-1",), "imbalance.min_per_class must be at least 0, got -1"),
    (("imbalance.beta=1",), "imbalance.beta must lie in"),
    (
        ("imbalance=sampler", "imbalance.class_weights=inverse_frequency"),
        "imbalance.min_per_class=2 and imbalance.class_weights=inverse_frequency correct the same imbalance twice",
    ),
    (("imbalance.min_per_class=10",), "imbalance.min_per_class=10 asks for 70 rows of 7 classes"),
    (("optimizer.min_lr=1",), "optimizer needs 0 <= min_lr <= lr"),
    (("optimizer.lr=0", "optimizer.min_lr=0"), "optimizer needs 0 <= min_lr <= lr and lr > 0"),
    (("optimizer.warmup_epochs=-1",), "optimizer.warmup_epochs and optimizer.weight_decay must be at least 0"),
    (("optimizer.weight_decay=-1",), "optimizer.warmup_epochs and optimizer.weight_decay must be at least 0"),
    (("optimizer.gradient_clip_norm=0",), "optimizer.gradient_clip_norm must be positive, got 0"),
    (("calibration.num_folds=1",), "calibration.num_folds must be at least 2"),
    (("calibration.num_bins=0",), "calibration.num_bins at least 1"),
    (("trainer.devices=0",), "trainer.devices and trainer.num_nodes must be at least 1"),
    (("stage.init_from=x",), "stage.init_from brings the whole network"),
    (
        ("stage.init_from=x", "backbone.pretrained=false", "backbone.checkpoint=w.pt"),
        "stage.init_from brings the whole network",
    ),
    (("task=evaluate", "evaluate.split=dev"), "evaluate.split must be train, val or test, got 'dev'"),
    (("task=evaluate", "evaluate.batch_size=0"), "evaluate.batch_size must be at least 1, got 0"),
    (("task=evaluate", "evaluate.num_resamples=50"), "evaluate.num_resamples must be 0 or at least 100, got 50"),
    (("task=evaluate", "evaluate.num_resamples=-1"), "evaluate.num_resamples must be 0 or at least 100, got -1"),
    (("task=evaluate", "evaluate.confidence=1"), r"evaluate.confidence must lie in \(0, 1\), got 1"),
    (("task=evaluate", "evaluate.target_risks=[0.1,0]"), r"evaluate.target_risks must lie in \(0, 1\)"),
    (("task=evaluate", "evaluate.manifests=[a.csv]", "data.manifest=b.csv"), "both name manifests; keep one of them"),
    (("task=evaluate", "evaluate.confidence=0.9999"), "at least 20000 are needed"),
    (("task=evaluate", "evaluate.slices=[age,age]"), "evaluate.slices names a column twice: age, age"),
    (("task=evaluate", "evaluate.manifests=[a.csv,a.csv]"), "evaluate.manifests names a manifest twice"),
    (("task=evaluate", "evaluate.gates.max_ece=2"), r"evaluate.gates.max_ece must lie in \[0, 1\], got 2"),
    (("task=evaluate", "evaluate.gates.max_ece_increase=0.1"), "compares with a reference: evaluate.gates.reference="),
    (("task=evaluate", "evaluate.gates.reference=runs/a"), "evaluate.gates.reference is set, but no limit"),
    (("task=calibrate", "evaluate.split=test"), "fitted on val only, not on evaluate.split=test"),
    (
        ("task=compare_runs", "compare.runs=[a]", "compare.evaluations=[b]"),
        "compare.runs and compare.evaluations are tables of their own; name one of them",
    ),
    (
        ("task=compare_runs", "compare.evaluations=[b]", "compare.baseline=a"),
        "compare.baseline takes differences of runs seed by seed; evaluate.gates compares",
    ),
    (("task=store_logits", "store.models=[a,a]"), "store.models names a model twice: a, a"),
    (("task=store_logits", "store.splits=[dev]"), r"store.splits takes train, val and test, each once, got \['dev'\]"),
    (("task=store_logits", "store.shard_rows=0"), "store.shard_rows must be at least 1, got 0"),
    (("task=import_logits", "foreign.split=dev"), "foreign.split must be train, val or test, got 'dev'"),
    (("task=import_logits", "foreign.name=a/b"), "foreign.name may hold letters, digits"),
    (("task=import_logits", "foreign.class_order=[Angry]"), "foreign.class_order takes the 7 emotions, each once"),
    ((*FUSE, "ensemble.teachers=[a,a]"), "ensemble.teachers names one twice: a, a"),
    ((*FUSE, "ensemble.names=[A]"), "ensemble.names must name each of the 2 teachers once, got A"),
    ((*FUSE, "ensemble.names=[A,B/C]"), r"ensemble.names must not be empty or hold \+ or /, got \['B/C'\]"),
    ((*FUSE, "ensemble.weights=[1]"), "ensemble.weights has 1 numbers for 2 ensemble.teachers; one each"),
    ((*FUSE, "ensemble.weights=[1.5,-0.5]"), "ensemble.weights must not be negative"),
    ((*FUSE, "ensemble.weights=[0.7,0.7]"), "ensemble.weights must sum to 1, .* whose sum is 1.4"),
    ((*FUSE, "ensemble.weights=[1,0]", "ensemble.search=grid"), "both decide the weights; keep one of them"),
    ((*FUSE, "ensemble.spaces=[logit,prob]"), "ensemble.spaces are tried by a search"),
    ((*FUSE, "ensemble.search=grid", "ensemble.spaces=[prob,prob]"), "ensemble.spaces names a space twice"),
    ((*FUSE, "ensemble.grid_step=0.3"), "ensemble.grid_step must divide 1"),
    (
        (FUSE[0], "ensemble.teachers=[a,b,c,d,e,f,g,h,i,j]", "ensemble.search=grid"),
        "ensemble.search=grid of 10 teachers in steps of 0.1 has 92,378 points, more than 20,000: take ensemble.search=greedy",
    ),
    (
        (FUSE[0], "ensemble.teachers=[a,b,c]", "ensemble.search=greedy", "ensemble.grid_step=0.001"),
        "the pairs and triples of 3 teachers in steps of 0.001 are 504,504 points, more than 20,000: take ensemble.subsets=false",
    ),
    ((*FUSE, "ensemble.finest_step=0"), "ensemble.finest_step must lie in"),
    ((*FUSE, "ensemble.greedy_steps=0"), "ensemble.greedy_steps must be at least 1, got 0"),
    ((*FUSE, "ensemble.num_weight_resamples=5"), "ensemble.num_weight_resamples must be 0 or at least 100, got 5"),
    ((*FUSE, "evaluate.split=test"), "evaluate.split has no effect on task=fuse_ensemble"),
    (("task=export_softlabels", "softlabels.splits=[]"), "softlabels.splits takes train, val and test, each once"),
    (
        ("task=export_softlabels", "softlabels.crops=-1"),
        "softlabels.crops and softlabels.verify_rows must be at least 0",
    ),
    (("task=export_softlabels", "softlabels.crop_scale_min=0"), "softlabels.crop_scale_min must lie in"),
    (("task=export_softlabels", "softlabels.crop_ratio_max=0.5"), "softlabels.crop_ratio_max must be at least 1"),
    (("task=inspect_softlabels", "inspect.temperatures=[0]"), r"inspect.temperatures must be positive, got \[0"),
    (("task=inspect_softlabels", "inspect.target_entropy=1"), r"inspect.target_entropy must lie in \(0, 1\), got 1"),
    (("task=diagnose_alignment", "diagnose.verify_rows=-1"), "diagnose.verify_rows must be at least 0, got -1"),
    (("task=triage", "triage.max_macro_f1_drop=2"), r"triage.max_macro_f1_drop must lie in \[0, 1\], got 2"),
    (("task=calibrate", "calibrate.methods=[]"), "calibrate.methods names no calibrator"),
    (("task=robustness", "robustness.severities=[0]"), r"robustness.severities must lie in 1..5, got \[0\]"),
    (("task=robustness", "robustness.severities=[5,2,3,5,2]"), "robustness.severities names 2, 5 more than once"),
    (
        ("task=robustness", "robustness.corruptions=[grey,blur,noise,grey,blur]"),
        "robustness.corruptions names blur, grey more than once",
    ),
    (("task=leave_one_source_out", "leave_out.num_resamples=10"), "leave_out.num_resamples must be at least 100"),
    (("task=export_onnx", "export.calibrator=c.json"), "export.calibrator belongs to one checkpoint"),
    (("calibration.conformal_alpha=1",), r"calibration.conformal_alpha must lie in \(0, 1\), got 1"),
    (("task=export_onnx", "export.which=[worst]"), "export.which takes best and last"),
    (("task=export_onnx", "export.which=[]"), "export.which takes best and last"),
    (("task=build_manifest", "build.num_images=0"), "build.num_images and build.min_side must be at least 1"),
    (("task=build_manifest", "build.mode=folder"), "build=folder needs build.tree"),
    ((*FOLDER, "build.val_fraction=1"), "build.val_fraction and build.test_fraction must be shares"),
    (("task=build_manifest", "build=sources"), "build=sources needs data sets"),
    (("task=build_manifest", "build=merge"), "build=merge needs 'build.manifests="),
    (("task=build_manifest", "build=merge", "build.manifests=[a.csv]", "build.splits=[dev]"), "got 'dev'"),
    (("task=build_manifest", "build=sources", "+source=ckplus"), "build.sources.ckplus.path=<root of the data set>"),
    ((*CKPLUS, "build.sources.ckplus.as_split=dev"), "as_split must be train, val or test, got 'dev'"),
    ((*CKPLUS, "build.sources.ckplus.peak_frames=0"), "peak_frames must be at least 1"),
    ((*CKPLUS, "build.sources.ckplus.votes=a.csv"), "votes has no effect on kind=ckplus; it belongs to ferplus"),
    ((*SOURCES_OF, "+source=expw_full", *EXPW, "build.sources.expw_full.pictures=aligned"), "has no aligned pictures"),
    ((*SOURCES_OF, "+source=rafdb_basic", *RAFDB, "build.sources.rafdb_basic.pictures=crops"), "belongs to kind=expw"),
    (("data.cache_verify_rows=-2",), "data.cache_verify_rows must be at least -1, got -2"),
    (("augmentation=custom",), "augmentation=custom and augmentation.pipeline=<file> belong together"),
    (("targets.min_votes=-1",), "targets.min_votes must be at least 0, got -1"),
    (("task=audit_manifest", "audit.min_side=0"), "audit.min_side must be at least 1"),
    (
        ("imbalance=class_balanced", "imbalance.min_per_class=2"),
        "imbalance.sampler=class_balanced and imbalance.min_per_class=2 are different ways to draw rows",
    ),
    (("trainer.checkpoint_every_minutes=0",), "trainer.checkpoint_every_minutes must be positive or unset, got 0"),
    ((*FOLDER, "build.val_fraction=0.5", "build.test_fraction=0.5"), "must be shares that leave rows for train"),
    (("task=build_manifest", "build=folder"), "build=folder needs build.tree"),
    (("stage=b", "backbone.pretrained=false"), "stage stageB continues another run: stage.init_from="),
    (("stage=b",), "stage stageB continues another run: stage.init_from="),
    (("stage.epochs='???'",), "required and not set: stage.epochs=<value>"),
    (
        (
            "task=distill_student",
            "distillation.name=a/b",
        ),
        "distillation.name may hold letters",
    ),
    (
        (
            "task=distill_student",
            "distillation.ce_weight=-1",
        ),
        "distillation.ce_weight must be at least 0, got -1",
    ),
    (
        (
            "task=distill_student",
            "distillation=kd",
            "distillation.softlabels=s",
            "distillation.kd_temperature=0",
        ),
        "distillation.kd_temperature must be positive, got 0",
    ),
    (
        (
            "task=distill_student",
            "distillation.target_entropy=1",
        ),
        "distillation.target_entropy must lie in",
    ),
    (
        (
            "task=distill_student",
            "distillation.curriculum_epochs=0",
        ),
        "distillation.curriculum_epochs must be at least 1",
    ),
    (
        (
            "task=distill_student",
            "distillation=kd",
            "distillation.softlabels=s",
            "distillation.ensemble=e",
        ),
        "distillation.softlabels and distillation.ensemble are different teachers",
    ),
    (
        (
            "task=distill_student",
            "distillation.ce_weight=0",
        ),
        "leaves nothing to learn",
    ),
    (
        (
            "task=distill_student",
            "distillation=kd",
        ),
        "distillation.objective=kd needs a teacher",
    ),
    (
        (
            "task=distill_student",
            "distillation=kd",
            "distillation.ensemble=e",
            "distillation.views=true",
        ),
        "distillation.views has no effect without soft labels",
    ),
    (
        (
            "task=distill_student",
            "distillation=kd",
            "distillation.self_teaching=true",
            "distillation.teacher_calibration=temperature",
        ),
        "distillation.teacher_calibration has no effect",
    ),
    (
        (
            "task=distill_student",
            "distillation=kd",
            "distillation.ensemble=e",
            "distillation.temperature_rule=entropy",
        ),
        "looks at all targets beforehand",
    ),
    (
        (
            "task=distill_student",
            "distillation=kd",
            "distillation.softlabels=s",
            "distillation.weight=0",
        ),
        "distillation=none trains on labels alone",
    ),
    (
        (
            "task=distill_student",
            "distillation=nkd",
            "distillation.softlabels=s",
            "distillation.standardize=true",
        ),
        "not for nkd",
    ),
    (
        (
            "task=distill_student",
            "distillation=kd",
            "distillation.softlabels=s",
            "distillation.target_class=teacher",
        ),
        "distillation.target_class has no effect on objective=kd; it is for dkd or nkd",
    ),
    (
        (
            "task=distill_student",
            "distillation=multi_level",
            "distillation.softlabels=s",
            "distillation.temperature_rule=entropy",
        ),
        "has temperatures of its own",
    ),
    (
        (
            "task=distill_student",
            "distillation=kd",
            "distillation.softlabels=s",
            "distillation.temperature_rule=entropy",
            "distillation.standardize=true",
        ),
        "is of logits as they are",
    ),
    (
        (
            "task=distill_student",
            "distillation=kd",
            "distillation.softlabels=s",
            "distillation.temperature_rule=curriculum",
            "distillation.kd_temperature=1",
        ),
        "starts between 1 and curriculum_max_temperature=20",
    ),
    (
        (
            "task=distill_student",
            "distillation=kd",
            "distillation.softlabels=s",
            "mixing=mixup",
        ),
        "mixing makes pictures that no stored logits are of",
    ),
    (
        (
            "task=distill_student",
            "distillation=dkd",
            "distillation.ensemble=e",
            "mixing=mixup",
        ),
        "sets one class apart, and a mixed picture has two",
    ),
    (
        (
            "task=distill_student",
            "distillation=kd",
            "distillation.ensemble=e",
            "mixing=cutmix",
            "distillation.teacher_weighting=loss",
        ),
        "by the label of a row, and a mixed picture has two",
    ),
    (
        (
            "task=distill_student",
            "mixing=mixup",
            "distillation.negative_weight=1",
        ),
        "distillation.negative_weight is of a row's own picture",
    ),
    (
        (
            "task=distill_student",
            "distillation=kd",
            "distillation.softlabels=s",
            "distillation.views=true",
            "augmentation=strong",
        ),
        "distillation.views shows pictures as the teachers saw them",
    ),
    (
        (
            "task=distill_student",
            "distillation=kd",
            "distillation.self_teaching=true",
            "distillation.temperature_rule=curriculum",
            "trainer=fsdp",
            "watchdog=none",
        ),
        "learns one number, which trainer.strategy=fsdp cannot share out",
    ),
    (
        ("task=distill_student", "distillation.softlabels=s"),
        "distillation.softlabels has no effect: distillation.objective=none trains on labels alone; choose a way to distil",
    ),
    (
        ("task=distill_student", "distillation.kd_temperature=4"),
        "distillation.kd_temperature has no effect: distillation.objective=none",
    ),
    (
        ("task=distill_student", "distillation=kd", "distillation.softlabels=s", "distillation.alpha=2"),
        "distillation.alpha has no effect on objective=kd; it is for dkd",
    ),
    (
        ("task=distill_student", "distillation=nkd", "distillation.softlabels=s", "distillation.beta=2"),
        "distillation.beta has no effect on objective=nkd; it is for dist or dkd",
    ),
    (
        ("task=distill_student", "distillation=kd", "distillation.softlabels=s", "distillation.curriculum_epochs=5"),
        "distillation.curriculum_epochs has no effect on temperature_rule=constant; it is for curriculum",
    ),
    (("task=compare_students",), "a comparison takes two arms or more, got none"),
    (COMPARED[:3], "arms.kd needs a teacher: comparison.softlabels=<folder>"),
    ((*COMPARED, "comparison.name=a/b"), "comparison.name may hold letters, digits"),
    ((*COMPARED, "comparison.name=.."), "comparison.name may hold letters, digits"),
    ((*COMPARED, "comparison.seeds=[]"), r"comparison.seeds takes at least one seed, none of them twice, got \[\]"),
    ((*COMPARED, "comparison.seeds=[1,2,1]"), "comparison.seeds takes at least one seed, none of them twice"),
    ((*COMPARED, "comparison.seeds=[-1]"), "comparison.seeds must lie in 0..4294967295, got -1"),
    ((*COMPARED, "comparison.splits=[train]"), "comparison.splits takes val, test or both, got"),
    ((*COMPARED, "comparison.num_resamples=10"), "comparison.num_resamples must be at least 100, got 10"),
    ((*COMPARED, "comparison.confidence=1"), r"comparison.confidence must lie in \(0, 1\), got 1"),
    ((*COMPARED, "trainer.devices=2"), "students are compared on one device: trainer.devices=1"),
    ((*COMPARED, "distillation=dkd"), "distillation is of each arm here"),
    ((*COMPARED, "distillation.verify_rows=4"), r"distillation is of each arm here: \+distillation@arms.NAME=<option>"),
    ((*COMPARED, "run.seed=1"), r"run.seed has no effect on a comparison: comparison.seeds="),
    ((*COMPARED, "comparison.baseline=ce"), "comparison.baseline=ce is no arm; there are labels, kd"),
    ((*COMPARED, "+distillation@arms.kd_4=dkd"), "arms.kd_4: a name may hold letters, digits and -"),
    ((*COMPARED, "+distillation@arms.kd-4=kd"), "arms kd and kd-4 are the same"),
    ((*COMPARED, "+distillation@arms.KD=dkd"), "arms kd and KD are the same"),
    ((*COMPARED, "arms.kd.ensemble=e"), "comparison.softlabels has no effect: each arm that distils names a teacher"),
    ((*COMPARED, "+comparison.starts.kd=ce"), "comparison.starts names ce, which is no arm; there are labels, kd"),
    (
        (*COMPARED, "+comparison.starts.kd=labels", "+comparison.starts.labels=kd"),
        "comparison.starts leads from labels back to labels",
    ),
    (
        (*COMPARED, "mixing=mixup"),
        "arm kd: mixing makes pictures .* arms.kd.ensemble=<folder> lets the teachers see them",
    ),
    ((*COMPARED, "arms.kd.alpha=2"), r"^arms\.kd\.alpha has no effect on objective=kd; it is for dkd"),
    (
        (*COMPARED, "+arms.kd.kd_temprature=4"),
        "unknown option arms.kd.kd_temprature; did you mean arms.kd.kd_temperature",
    ),
    ((*COMPARED, "stage.patience=3"), "stage.patience would stop arms after different numbers of epochs"),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSALS, ids=[" ".join(overrides) for overrides, _ in REFUSALS])
def test_a_refused_value_says_why(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(FerError, match=message) as caught:
        run_of(*overrides)
    assert "Error" not in str(caught.value)  # no exception's name, no traceback: for people
    assert caught.value.exit_code == 2


def test_every_check_of_the_rooms_is_tried() -> None:
    raised = sum(
        file.read_text(encoding="utf-8").count("raise ValueError(")
        for file in (conf_dir().parent / "fer_lightning").rglob("*config.py")
    )
    assert len(REFUSALS) >= raised


@pytest.mark.parametrize(
    "override",
    ["backbone.nmae=resnet18", "stage.epochs=many", "imbalance.class_weights=both", "task=nothing", "loss=nothing"],
)
def test_a_misspelt_option_does_not_compose(override: str) -> None:
    with pytest.raises((HydraException, FerError)):
        run_of(override)


def test_both_imbalance_corrections_only_by_name() -> None:
    run = teacher("imbalance=sampler", "imbalance.class_weights=inverse_frequency", "imbalance.allow_both=true")
    assert run.imbalance.min_per_class == 2
    assert run.imbalance.class_weights is ClassWeights.inverse_frequency


def test_the_plain_cosine_option_has_no_margin_at_any_epoch() -> None:
    assert teacher("loss=cosine").loss.margin_rad == 0.0


def test_evaluation_and_export_defaults() -> None:
    evaluation, export = run_of("task=evaluate"), run_of("task=export_onnx")
    assert isinstance(evaluation, EvaluateRun)
    assert isinstance(export, ExportOnnxRun)
    assert (evaluation.evaluate.split, evaluation.data.manifest) == (None, None)
    assert export.export.which == ["best", "last"]


def test_build_folder_composes_with_its_tree() -> None:
    run = run_of(*FOLDER)
    assert isinstance(run, BuildManifestRun)
    assert (run.build.mode, run.build.tree) == (BuildMode.folder, "x")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+stage.epoch=2", r"unknown option stage.epoch; did you mean stage.epochs\?"),
        ("+imbalance.smapler=x", r"unknown option imbalance.smapler; did you mean imbalance.sampler\?"),
        ("+foo=3", "unknown option foo; known here: task, run, data"),
    ],
)
def test_a_misspelt_option_with_a_plus_is_refused_too(override: str, message: str) -> None:
    with pytest.raises(FerError, match=message):
        run_of(override)


def test_an_option_of_a_data_set_is_checked_too() -> None:
    with pytest.raises((FerError, HydraException), match="voets"):
        run_of(*CKPLUS, "+build.sources.ckplus.voets=x")
