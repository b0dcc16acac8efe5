"""Leaderboards of hand-written evaluations: tables, groups over seeds, order, labels, refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.errors import FerError
from fer_lightning.runs.artifacts import read_artifact, write_artifact
from fer_lightning.runs.evaluation import Range
from fer_lightning.runs.evaluation_board import EvaluationBoard, EvaluationTable
from fer_lightning.runs.evaluation_comparison import BEST_ON_TEST, compare_evaluations
from fer_lightning.runs.finished_evaluation import read_finished_evaluation
from fer_lightning.runs.stored_logits_record import StoredLogitsRecord
from tests.runs.examples import example
from tests.runs.finished_evaluations import write_evaluation
from tests.runs.finished_runs import metrics, teacher, write_finished_run

RANGES = {"macro_f1": Range(low=0.6, high=0.8), "ece": Range(low=0.01, high=0.03)}


def board(folder: Path, *paths: Path, **options: Any) -> EvaluationBoard:
    return compare_evaluations([read_finished_evaluation(path) for path in paths], folder, **options)


def only_table(folder: Path, *paths: Path) -> EvaluationTable:
    (table,) = board(folder, *paths).tables
    return table


def test_seeds_of_one_recipe_are_one_row(tmp_path: Path) -> None:
    paths = []
    for seed, score in ((2, 0.8), (1, 0.6)):
        run = write_finished_run(tmp_path, teacher(seed), seconds=[60.0 * seed])
        scaled = metrics(score, ece=0.1)
        paths.append(write_evaluation(tmp_path / f"e{seed}", run / "best.pt", metrics(score), scaled=scaled))
    table = only_table(tmp_path, *paths)
    (model,) = table.models
    assert (model.name, model.seeds) == ("RN18_resnet18_stageA_img224/best.pt", [1, 2])
    assert model.evaluations == ["e1/evaluation.json", "e2/evaluation.json"]
    macro_f1, minutes = model.figures["macro_f1"], model.minutes
    assert macro_f1 is not None
    assert minutes is not None
    assert (macro_f1.values, minutes.values) == ([0.6, 0.8], [1.0, 2.0])
    assert (table.split, table.label) == ("test", BEST_ON_TEST)  # two models all the same


@pytest.mark.parametrize("gone", ["best.pt", "reliabilitymetrics.json"])
def test_without_its_run_a_model_stands_alone(tmp_path: Path, gone: str) -> None:
    paths = []
    for seed in (1, 2):
        run = write_finished_run(tmp_path, teacher(seed))
        paths.append(write_evaluation(tmp_path / f"e{seed}", run / "best.pt"))
        (run / gone).unlink()
    names = {model.name: model for model in only_table(tmp_path, *paths).models}
    assert set(names) == {f"RN18_resnet18_seed{seed}_stageA_img224/best.pt" for seed in (1, 2)}
    for model in names.values():
        assert (model.seeds, model.minutes, model.num_parameters) == (None, None, None)


def test_a_run_that_has_gone_on_does_not_speak_for_its_old_checkpoint(tmp_path: Path) -> None:
    run = write_finished_run(tmp_path, teacher(1))
    path = write_evaluation(tmp_path / "e", run / "best.pt")
    evaluation = read_finished_evaluation(path)
    assert evaluation.run is not None
    (run / "best.pt").write_bytes(b"better")
    assert read_finished_evaluation(path).run is None


def test_a_model_named_by_its_run_or_its_stored_logits_is_found(tmp_path: Path) -> None:
    run = write_finished_run(tmp_path, teacher(1))
    path = write_evaluation(tmp_path / "e", run / "best.pt")
    logits = tmp_path / "logits"
    logits.mkdir()
    record = replace(example(StoredLogitsRecord), run_dir=str(run), checkpoint="best.pt")
    write_artifact(logits / "storedlogits.json", record)
    written = read_finished_evaluation(path).record
    for named in (run, logits, logits / "logits.npy"):
        write_artifact(path, replace(written, model=str(named)))
        evaluation = read_finished_evaluation(path)
        assert (evaluation.model, evaluation.run is not None) == (run / "best.pt", True)


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
        write_evaluation(tmp_path / name, Path(f"runs/{name}/best.pt"), metrics(**figures))
        for name, figures in (("worse", worse), ("better", better))
    ]
    assert [model.name for model in only_table(tmp_path, *paths).models] == ["better/best.pt", "worse/best.pt"]


def test_ece_as_deployed_decides_and_known_cost_comes_before_unknown(tmp_path: Path) -> None:
    known = write_finished_run(tmp_path, teacher(1)) / "best.pt"
    paths = [
        write_evaluation(tmp_path / "a", Path("a/m.onnx"), metrics(ece=0.1)),
        write_evaluation(tmp_path / "b", Path("b/m.onnx"), metrics(ece=0.4), scaled=metrics(ece=0.01)),
        write_evaluation(tmp_path / "c", known, metrics(ece=0.1)),
    ]
    table = only_table(tmp_path, *paths)
    assert [compared.models[0] for compared in table.models] == ["b/m.onnx", str(known), "a/m.onnx"]


@pytest.mark.parametrize(
    "other", [{"rows": "0a" * 32}, {"split": "val"}, {"n": 41}, {"num_bins": 10}, {"view": "flip"}]
)
def test_other_rows_views_and_bins_are_refused_unless_split(tmp_path: Path, other: dict[str, Any]) -> None:
    first = write_evaluation(tmp_path / "a", Path("a/best.pt"))
    second = write_evaluation(tmp_path / "b", Path("b/best.pt"), **other)
    with pytest.raises(FerError, match="evaluations of different rows or views cannot be compared") as caught:
        board(tmp_path, first, second)
    lines = str(caught.value).splitlines()
    assert lines[1] == f"  test rows 7e7e7e7e (n=40, single view, ECE of 15 bins): 1 of the evaluations: {first}"
    assert "compare.split_by_rows=true" in lines[3]
    tables = board(tmp_path, first, second, split_by_rows=True).tables
    assert [len(table.models) for table in tables] == [1, 1]
    assert [table.label for table in tables] == [None, None]  # nothing was chosen


def test_only_test_rows_with_a_choice_are_labelled(tmp_path: Path) -> None:
    for split, label in (("test", "best on test: chosen on the rows it is reported on"), ("val", None)):
        paths = [write_evaluation(tmp_path / f"{split}{i}", Path(f"{i}/best.pt"), split=split) for i in (1, 2)]
        assert only_table(tmp_path, *paths).label == label


def test_the_same_evaluation_again_is_left_out_and_another_calibration_is_not(tmp_path: Path) -> None:
    model = Path("runs/RN18/best.pt")
    paths = [
        write_evaluation(tmp_path / "a", model, scaled=metrics(ece=0.2)),
        write_evaluation(tmp_path / "b", model, scaled=metrics(ece=0.2)),
        write_evaluation(tmp_path / "c", model, scaled=metrics(ece=0.1), method="vector"),
    ]
    found = board(tmp_path, *paths)
    sha8 = found.tables[0].models[0].checkpoint_sha256s[0][:8]
    names = [model.name for model in found.tables[0].models]
    assert names == [f"RN18/best.pt (vector, {sha8})", f"RN18/best.pt (temperature, {sha8})"]
    (left_out,) = found.left_out
    assert left_out.run == str(paths[1])
    assert left_out.reason == f"the same checkpoint, rows and calibration as {paths[0]}, which is counted"
    assert found.tables[0].label == BEST_ON_TEST  # a calibration is chosen, too


def test_a_seed_counts_once(tmp_path: Path) -> None:
    runs = [write_finished_run(tmp_path, teacher(1)), write_finished_run(tmp_path, teacher(1, tag="again"))]
    paths = [write_evaluation(tmp_path / run.name, run / "best.pt") for run in runs]
    found = board(tmp_path, *paths)
    assert [model.seeds for model in found.tables[0].models] == [[1]]
    assert [item.run for item in found.left_out] == [str(paths[1])]
    assert "the same options and seed" in found.left_out[0].reason


def test_names_go_as_far_up_as_it_takes(tmp_path: Path) -> None:
    paths = [
        write_evaluation(tmp_path / "a", Path("one/RN18/best.pt")),
        write_evaluation(tmp_path / "b", Path("two/RN18/best.pt")),
        write_evaluation(tmp_path / "c", Path("two/B3/best.onnx")),
    ]
    names = {model.name for model in only_table(tmp_path, *paths).models}
    assert names == {"one/RN18/best.pt", "two/RN18/best.pt", "B3/best.onnx"}


def test_intervals_and_what_was_seen_are_taken_over(tmp_path: Path) -> None:
    path = write_evaluation(
        tmp_path / "e",
        Path("RN18/best.pt"),
        scaled=metrics(),
        ranges=RANGES,
        scaled_ranges={"ece": Range(low=0.0, high=0.02)},
        rows_seen_in_training=3,
        rows_left_out=2,
    )
    table = only_table(tmp_path, path)
    (model,) = table.models
    assert model.ranges == [{**RANGES, "ece_scaled": Range(low=0.0, high=0.02)}]
    assert (model.rows_seen_in_training, model.seen_in_training, model.rows_left_out) == ([3], True, [2])
    assert table.confidences == [0.95]
    bare = write_evaluation(tmp_path / "bare", Path("RN18/best.pt"), rows_seen_in_training=None)
    table = only_table(tmp_path, bare)
    assert (table.confidences, table.models[0].ranges, table.models[0].seen_in_training) == ([], [{}], False)


def test_a_leaderboard_survives_its_file(tmp_path: Path) -> None:
    found = board(tmp_path, write_evaluation(tmp_path / "e", Path("a/best.pt"), ranges=RANGES))
    write_artifact(tmp_path / "leaderboard.json", found)
    assert read_artifact(tmp_path / "leaderboard.json", EvaluationBoard) == found
