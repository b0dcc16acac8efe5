"""Leaderboards of hand-written runs: groups, figures over seeds, order, differences, refusals."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import stats

from fer_lightning.errors import FerError
from fer_lightning.pipeline.config import TrainTeacherRun
from fer_lightning.runs.artifacts import read_artifact, to_json, write_artifact
from fer_lightning.runs.comparison import compare
from fer_lightning.runs.finished_run import read_finished_run
from fer_lightning.runs.leaderboard import ComparedRecipe, Leaderboard, LeaderboardTable, OverSeeds
from fer_lightning.runs.phases import RunPhases, extra_phase, first_phase
from fer_lightning.training.distillation.config import DistillationObjective
from tests.runs.finished_runs import metrics, teacher, write_finished_run
from tests.runs.finished_students import student, write_student


def focal(seed: int = 1, gamma: float = 2.0) -> TrainTeacherRun:
    run = teacher(seed)
    run.loss.name, run.loss.gamma, run.loss.margin_rad = "focal", gamma, 0.0
    run.run.tag = f"g{gamma:g}"
    return run


def board(*paths: Path, **options: object) -> Leaderboard:
    return compare([read_finished_run(path) for path in paths], paths[0].parent, **options)  # type: ignore[arg-type]


def only_table(*paths: Path, **options: object) -> LeaderboardTable:
    (table,) = board(*paths, **options).tables
    return table


def figure(recipe: ComparedRecipe, name: str) -> OverSeeds:
    found = recipe.figures[name]
    assert found is not None
    return found


def test_seeds_become_one_recipe_with_its_t_interval(tmp_path: Path) -> None:
    scores = {3: 0.70, 1: 0.76, 2: 0.71}
    paths = [write_finished_run(tmp_path, teacher(seed), metrics(score)) for seed, score in scores.items()]
    (recipe,) = only_table(*paths).recipes
    assert recipe.seeds == [1, 2, 3]
    assert recipe.runs == [f"RN18_resnet18_seed{seed}_stageA_img224" for seed in (1, 2, 3)]
    assert recipe.name == "RN18_resnet18_stageA_img224"
    macro_f1 = figure(recipe, "macro_f1")
    assert macro_f1.values == [0.76, 0.71, 0.70]
    mean = (0.76 + 0.71 + 0.70) / 3
    deviation = math.sqrt(sum((value - mean) ** 2 for value in scores.values()) / 2)
    assert (macro_f1.mean, macro_f1.deviation) == pytest.approx((mean, deviation), abs=1e-12)
    low, high = stats.t.interval(0.95, 2, loc=mean, scale=deviation / math.sqrt(3))
    assert (macro_f1.low, macro_f1.high) == pytest.approx((low, high), abs=1e-12)
    assert high - mean == pytest.approx(4.302652730 * deviation / math.sqrt(3), rel=1e-9)  # a printed t table
    assert figure(recipe, "accuracy").deviation == 0.0


def test_one_seed_has_no_deviation_and_no_interval(tmp_path: Path) -> None:
    (recipe,) = only_table(write_finished_run(tmp_path, teacher(), metrics(0.7), scaled=metrics(0.7, ece=0.02))).recipes
    macro_f1 = figure(recipe, "macro_f1")
    assert (macro_f1.mean, macro_f1.deviation, macro_f1.low, macro_f1.high) == (0.7, None, None, None)
    assert figure(recipe, "ece_scaled").mean == 0.02


def test_what_a_run_says_of_its_training_is_taken_as_recorded(tmp_path: Path) -> None:
    first = write_finished_run(tmp_path, teacher(1), best_epoch=0, rollbacks=[0, 1])
    second = write_finished_run(tmp_path, teacher(2), best_epoch=1, seconds=[30.0])
    (recipe,) = only_table(first, second).recipes
    assert (recipe.best_epochs, recipe.rollbacks, recipe.epochs) == ([0, 1], [2, 0], [2, 2])
    assert recipe.minutes.values == [1.5, 0.5]
    assert recipe.images_per_second.values == [100.5, 100.0]
    assert recipe.figures["nll_scaled"] is None


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"macro_f1": 0.8, "minority_f1": 0.1}, {"macro_f1": 0.7, "minority_f1": 0.9}),
        ({"minority_f1": 0.6, "ece": 0.9}, {"minority_f1": 0.5, "ece": 0.1}),
        ({"ece": 0.1, "accuracy": 0.1}, {"ece": 0.2, "accuracy": 0.9}),
        ({"accuracy": 0.6}, {"accuracy": 0.5}),
    ],
)
def test_order_of_selection(tmp_path: Path, better: dict[str, float], worse: dict[str, float]) -> None:
    paths = [
        write_finished_run(tmp_path, teacher(), metrics(**worse)),
        write_finished_run(tmp_path, focal(), metrics(**better)),
    ]
    assert [recipe.options["loss.name"] for recipe in only_table(*paths).recipes] == ["focal", "arcface"]


def test_deployed_ece_decides_before_accuracy(tmp_path: Path) -> None:
    paths = [
        write_finished_run(tmp_path, teacher(), metrics(ece=0.1, accuracy=0.9), scaled=metrics(ece=0.09)),
        write_finished_run(tmp_path, focal(), metrics(ece=0.3, accuracy=0.1), scaled=metrics(ece=0.02)),
    ]
    assert [recipe.name for recipe in only_table(*paths).recipes] == ["loss=focal", "loss=arcface"]


def test_then_the_steadier_and_then_the_cheaper_comes_first(tmp_path: Path) -> None:
    paths = []
    for run, score, seconds in (
        (teacher(1), 0.25, 10.0),
        (teacher(2), 0.75, 10.0),
        (focal(1), 0.5, 30.0),
        (focal(2), 0.5, 30.0),
        (focal(1, 3.0), 0.5, 20.0),
        (focal(2, 3.0), 0.5, 20.0),
        (focal(1, 4.0), 0.5, 1.0),
    ):
        paths.append(write_finished_run(tmp_path, run, metrics(score), seconds=[seconds]))
    names = [recipe.name for recipe in only_table(*paths).recipes]
    gammas = [name.partition("loss.gamma=")[2] for name in names]
    assert gammas == ["3.0", "2.0", "0.0", "4.0"]  # one run has no deviation: it is not called steady


def test_names_hold_only_what_tells_recipes_apart(tmp_path: Path) -> None:
    plain, by_name, watched = teacher(), focal(), teacher(tag="free")
    watched.watchdog.enabled = False
    table = only_table(*(write_finished_run(tmp_path, run) for run in (plain, by_name, watched)))
    assert {recipe.name for recipe in table.recipes} == {
        "loss=arcface, watchdog.enabled=true",
        "loss=focal, watchdog.enabled=true",
        "loss=arcface, watchdog.enabled=false",
    }


def test_options_of_place_tag_and_machine_do_not_part_seeds(tmp_path: Path) -> None:
    first, second = teacher(1, tag="job0"), teacher(2, tag="job1")
    second.run.root, second.data.manifest, second.data.num_workers, second.trainer.onnx = "else", "m.csv", 3, False
    (recipe,) = only_table(write_finished_run(tmp_path, first), write_finished_run(tmp_path, second)).recipes
    assert recipe.seeds == [1, 2]


def test_other_training_rows_are_another_recipe(tmp_path: Path) -> None:
    paths = [
        write_finished_run(tmp_path, teacher(1)),
        write_finished_run(tmp_path, teacher(2), manifest="cd" * 32),
    ]
    assert {recipe.name for recipe in only_table(*paths).recipes} == {"manifest=abababab", "manifest=cdcdcdcd"}


def test_extra_epochs_are_another_recipe(tmp_path: Path) -> None:
    paths = [write_finished_run(tmp_path, teacher(seed)) for seed in (1, 2)]
    first = first_phase(60)
    phases = [first, extra_phase(first, trained=60, epochs=70, lr_ratio=0.1)]
    write_artifact(paths[1] / "phases.json", RunPhases(phases=phases))
    assert {recipe.name for recipe in only_table(*paths).recipes} == {
        "stage.epochs=60, phases=1",
        "stage.epochs=70, phases=60+70",
    }


def second_stage(seed: int, start: str) -> TrainTeacherRun:
    run = teacher(seed)
    run.stage.name, run.stage.init_from = "stageB", start
    return run


def test_stages_of_one_seed_after_another_are_one_recipe(tmp_path: Path) -> None:
    own = [
        write_finished_run(tmp_path, second_stage(seed, f"teachers/RN18_seed{seed}_stageA")) for seed in (1, 13, 1337)
    ]
    (recipe,) = only_table(*own).recipes
    assert recipe.seeds == [1, 13, 1337]


def test_seeds_from_one_first_stage_are_one_recipe(tmp_path: Path) -> None:
    same = [write_finished_run(tmp_path, second_stage(seed, "teachers/RN18_seed1_stageA")) for seed in (1, 2, 3)]
    (recipe,) = only_table(*same).recipes
    assert recipe.seeds == [1, 2, 3]


def test_a_seed_counts_once(tmp_path: Path) -> None:
    first = write_finished_run(tmp_path, teacher(1), metrics(0.7))
    again = write_finished_run(tmp_path, teacher(1, tag="again"), metrics(0.7))
    found = board(first, again)
    assert found.tables[0].recipes[0].seeds == [1]
    assert figure(found.tables[0].recipes[0], "macro_f1").deviation is None
    (left_out,) = found.left_out
    assert (left_out.run, left_out.reason) == (str(again), f"the same options and seed as {first}, which is counted")


def test_runs_on_different_rows_are_refused_with_their_directories(tmp_path: Path) -> None:
    stage_a = [write_finished_run(tmp_path, teacher(seed)) for seed in (1, 2)]
    stage_b = write_finished_run(tmp_path, second_stage(1, "x"), val_rows="0b" * 32, n=40)
    with pytest.raises(FerError, match=r"judged on different rows cannot be compared") as caught:
        board(*stage_a, stage_b)
    lines = str(caught.value).splitlines()
    assert lines[1] == f"  val rows fafafafa (n=51, ECE of 15 bins): 2 of the runs: {stage_a[0]}, {stage_a[1]}"
    assert lines[2] == f"  val rows 0b0b0b0b (n=40, ECE of 15 bins): 1 of the runs: {stage_b}"
    assert "compare.split_by_rows=true" in lines[3]
    tables = board(*stage_a, stage_b, split_by_rows=True).tables
    assert [(table.n, len(table.recipes[0].runs)) for table in tables] == [(51, 2), (40, 1)]


def test_ece_of_other_bins_is_another_figure(tmp_path: Path) -> None:
    paths = [write_finished_run(tmp_path, teacher(seed), num_bins=bins) for seed, bins in ((1, 15), (2, 10))]
    with pytest.raises(FerError, match=r"ECE of 10 bins"):
        board(*paths)


def test_differences_to_a_baseline_are_taken_seed_by_seed(tmp_path: Path) -> None:
    base = [
        write_finished_run(tmp_path, teacher(seed), metrics(value)) for seed, value in ((1, 0.5), (2, 0.7), (9, 0.1))
    ]
    ours = [write_finished_run(tmp_path, focal(seed), metrics(value)) for seed, value in ((1, 0.6), (2, 0.9), (3, 0.0))]
    table = only_table(*base, *ours, baseline="loss=arcface")
    assert table.baseline == "loss=arcface"
    recipes = {recipe.name: recipe for recipe in table.recipes}
    assert recipes["loss=arcface"].against_baseline is None
    against = recipes["loss=focal"].against_baseline
    assert against is not None
    assert against.seeds == [1, 2]
    difference = against.figures["macro_f1"]
    assert difference is not None
    assert difference.values == pytest.approx([0.1, 0.2])
    low, high = stats.t.interval(0.95, 1, loc=0.15, scale=stats.sem([0.1, 0.2]))
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.15, low, high))
    assert against.figures["ece_scaled"] is None


def test_a_baseline_by_directory_and_without_common_seeds(tmp_path: Path) -> None:
    base, ours = write_finished_run(tmp_path, teacher(1)), write_finished_run(tmp_path, focal(2))
    table = only_table(base, ours, baseline=str(ours))
    assert table.baseline == "loss=focal"
    against = next(recipe for recipe in table.recipes if recipe.name == "loss=arcface").against_baseline
    assert against is not None
    assert (against.seeds, set(against.figures.values())) == ([], {None})


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("RN18", "means 3 recipes"),
        ("loss", "is no run's directory and no part of its name or of a value"),
        ("ldam", "is no run's directory and no part of its name or of a value"),
    ],
)
def test_a_baseline_that_is_not_one_recipe_is_refused_with_the_runs_it_may_be(
    tmp_path: Path, baseline: str, message: str
) -> None:
    paths = [write_finished_run(tmp_path, run) for run in (teacher(), focal(), focal(2), focal(1, 3.0))]
    with pytest.raises(FerError) as caught:
        board(*paths, baseline=baseline)
    first, *candidates = str(caught.value).splitlines()
    assert first.startswith(f"compare.baseline={baseline} {message}; ")
    assert sorted(candidates) == sorted(f"  {path.name}" for path in (paths[0], paths[1], paths[3]))


@pytest.mark.parametrize(
    ("baseline", "gamma"),
    [
        ("g3", "3.0"),
        ("stageA_img224_focal_g2", "2.0"),
        ("RN18_resnet18_seed1_stageA_img224", "0.0"),  # whole, though part of others
        ("RN18_resnet18_stageA_img224", "0.0"),
        ("7", "2.0"),  # the folder of one before the value of another
        ("arcface", "0.0"),
        ("arcf", "0.0"),
        ("3", "3.0"),
        ("loss=arcface, loss.gamma=0.0", "0.0"),
    ],
)
def test_a_baseline_is_sought_in_folders_then_in_values(tmp_path: Path, baseline: str, gamma: str) -> None:
    untold = focal(1, 1.75)
    untold.run.tag = None
    runs = (teacher(), focal(7), focal(1, 3.0), untold)
    table = only_table(*(write_finished_run(tmp_path, run) for run in runs), baseline=baseline)
    (base,) = [recipe for recipe in table.recipes if recipe.against_baseline is None]
    assert (base.options["loss.gamma"], table.baseline) == (gamma, base.name)


@pytest.mark.parametrize("name", ["best.pt", "checkpoint_last.pt", "reliabilitymetrics.json"])
def test_an_unfinished_run_is_named(tmp_path: Path, name: str) -> None:
    path = write_finished_run(tmp_path, teacher())
    (path / name).unlink()
    with pytest.raises(FerError, match=f"{path}: unfinished or incomplete, it has no {name}"):
        read_finished_run(path)


def test_figures_of_other_checkpoints_are_named(tmp_path: Path) -> None:
    path = write_finished_run(tmp_path, teacher())
    (path / "best.pt").write_bytes(b"trained on")
    with pytest.raises(FerError, match="its figures are not those of the checkpoints beside them"):
        read_finished_run(path)


def test_a_record_without_a_seed_is_named(tmp_path: Path) -> None:
    path = write_finished_run(tmp_path, teacher())
    values = yaml.safe_load((path / "config.yaml").read_text("utf-8"))
    del values["run"]["seed"]
    (path / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(FerError, match="no record of a training"):
        read_finished_run(path)


def test_an_option_that_one_run_does_not_know_is_absent(tmp_path: Path) -> None:
    paths = [write_finished_run(tmp_path, teacher(seed)) for seed in (1, 2)]
    values = yaml.safe_load((paths[0] / "config.yaml").read_text("utf-8"))
    del values["stage"]["patience"]
    (paths[0] / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    names = {recipe.name for recipe in only_table(*paths).recipes}
    assert names == {"stage.patience=absent", "stage.patience=null"}


def test_a_leaderboard_survives_its_file(tmp_path: Path) -> None:
    found = board(write_finished_run(tmp_path, teacher(1)), write_finished_run(tmp_path, focal(1)), baseline="focal")
    write_artifact(tmp_path / "leaderboard.json", found)
    back = read_artifact(tmp_path / "leaderboard.json", Leaderboard)
    assert back == found
    assert to_json(back) == to_json(found)


def test_many_differing_options_give_way_to_run_names(tmp_path: Path) -> None:
    gentle = teacher(1, tag="gentle")
    gentle.optimizer.layer_decay, gentle.optimizer.ema_decay, gentle.mixing.mixup_alpha = 0.7, 0.9, 0.2
    gentle.stage.freeze_backbone_epochs, gentle.watchdog.enabled = 1, False
    table = only_table(write_finished_run(tmp_path, teacher(1)), write_finished_run(tmp_path, gentle))
    names = {recipe.name: recipe for recipe in table.recipes}
    assert set(names) == {"RN18_resnet18_stageA_img224", "RN18_resnet18_stageA_img224_gentle"}
    assert names["RN18_resnet18_stageA_img224_gentle"].options == {
        "stage.freeze_backbone_epochs": "1",
        "mixing.mixup_alpha": "0.2",
        "optimizer.layer_decay": "0.7",
        "optimizer.ema_decay": "0.9",
        "watchdog.enabled": "false",
    }


def test_too_long_names_give_way_to_folders_and_repeated_ones_tell_their_parents(tmp_path: Path) -> None:
    paths = []
    for folder, alpha in (("one", 0.25), ("two", 0.125)):
        run = teacher()
        run.mixing.mixup_alpha, run.optimizer.layer_decay = alpha, 0.5 + alpha
        paths.append(write_finished_run(tmp_path / folder, run))
    assert {recipe.name for recipe in only_table(*paths).recipes} == {
        "one/RN18_resnet18_stageA_img224",
        "two/RN18_resnet18_stageA_img224",
    }
    third = teacher(tag="third")
    paths.append(write_finished_run(tmp_path / "two", third))
    assert {recipe.name for recipe in only_table(*paths).recipes} == {
        "one/RN18_resnet18_stageA_img224",
        "two/RN18_resnet18_stageA_img224",
        "RN18_resnet18_stageA_img224_third",
    }


def test_students_are_told_apart_by_the_options_of_their_lesson(tmp_path: Path) -> None:
    kd: dict[str, Any] = {"softlabels": "softlabels/e"}
    arms = [
        write_student(tmp_path, student(1)),
        *(write_student(tmp_path, student(seed, **kd), sha256="11" * 32) for seed in (1, 2)),
        write_student(tmp_path, student(1, tag="t4", kd_temperature=4.0, **kd), sha256="11" * 32),
        write_student(
            tmp_path,
            student(1, name="dkd", objective=DistillationObjective.dkd, ce_weight=1.0, **kd),
            sha256="11" * 32,
        ),
    ]
    recipes = only_table(*arms).recipes
    told = {"distillation.name", "distillation.objective", "distillation.ce_weight", "distillation.kd_temperature"}
    assert all(set(recipe.options) <= told for recipe in recipes)
    assert {
        (recipe.options["distillation.name"], recipe.options["distillation.kd_temperature"]): recipe.seeds
        for recipe in recipes
    } == {("labels", "2.0"): [1], ("kd", "2.0"): [1, 2], ("kd", "4.0"): [1], ("dkd", "2.0"): [1]}


def test_what_taught_is_told_by_its_digest_and_not_by_its_place(tmp_path: Path) -> None:
    moved = [
        write_student(tmp_path, student(seed, softlabels=place), sha256="11" * 32)
        for seed, place in ((1, "softlabels/e"), (2, "elsewhere/e"))
    ]
    (recipe,) = only_table(*moved).recipes
    assert recipe.seeds == [1, 2]
    others = [
        write_student(tmp_path, student(1, "other", softlabels="softlabels/e"), sha256="22" * 32),
        write_student(tmp_path, student(1, "live", ensemble="ensembles/e"), sha256="33" * 32),
    ]
    names = {recipe.name: recipe.seeds for recipe in only_table(*moved, *others).recipes}
    assert names == {
        f"distillation.taught_by={digest * 4}": seeds for digest, seeds in (("11", [1, 2]), ("22", [1]), ("33", [1]))
    }


def test_teachers_and_students_of_the_same_rows_stand_in_one_table(tmp_path: Path) -> None:
    first = write_finished_run(tmp_path, teacher(1), metrics(0.6))
    second = write_student(tmp_path, student(1), metrics(0.7))
    found = [
        (recipe.options["task"], recipe.options["distillation.name"]) for recipe in only_table(first, second).recipes
    ]
    assert found == [("distill_student", "labels"), ("train_teacher", "absent")]


def test_a_damaged_lesson_is_named(tmp_path: Path) -> None:
    path = write_student(tmp_path, student(1))
    (path / "distillation.json").write_text("{", encoding="utf-8")
    with pytest.raises(FerError, match=r"distillation\.json is not a valid DistillationRecord"):
        read_finished_run(path)


def test_stages_of_a_student_of_one_seed_after_another_are_one_recipe(tmp_path: Path) -> None:
    paths = []
    for seed in (1, 2):
        run = student(seed, softlabels="s")
        run.stage.init_from = f"students/MNV3_mobilenetv3_large_100_seed{seed}_student_img224_labels"
        paths.append(write_student(tmp_path, run, sha256="11" * 32))
    (recipe,) = only_table(*paths).recipes
    assert recipe.seeds == [1, 2]
