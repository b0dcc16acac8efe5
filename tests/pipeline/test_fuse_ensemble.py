"""The verb `fuse_ensemble` on logits written by hand: figures, files, searches, and everything it refuses."""

import csv
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score

from fer_lightning.data.config import DataConfig
from fer_lightning.errors import FerError, FinishedRunError
from fer_lightning.functional.weight_search import cross_validated
from fer_lightning.pipeline.ensembles.config import (
    EnsembleConfig,
    FuseEnsembleRun,
    FusionSpace,
    SearchAim,
    TeacherScaling,
    WeightSearch,
)
from fer_lightning.pipeline.evaluation.config import EvaluationCalibration, EvaluationTarget, View
from fer_lightning.pipeline.fuse_ensemble import fuse_ensemble
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.config import OnExisting, RunConfig
from fer_lightning.runs.ensemble import Ensemble, EnsembleMetrics, WeightSearchReport
from fer_lightning.runs.finished_ensemble import read_finished_ensemble
from fer_lightning.runs.stored_logits import read_stored_logits, write_stored_logits
from fer_lightning.training.config import CalibrationMethod
from fer_lightning.training.evaluation import judge_scores
from tests.runs.stored_teachers import write_teachers


def run_of(root: Path, teachers: list[str], *, num_resamples: int = 200, **ensemble: Any) -> FuseEnsembleRun:
    return FuseEnsembleRun(
        run=RunConfig(root=str(root)),
        evaluate=EvaluationTarget(num_resamples=num_resamples),
        ensemble=EnsembleConfig(teachers=teachers, **{"num_weight_resamples": 100, **ensemble}),
    )


def only_folder(root: Path) -> Path:
    (folder,) = (root / "ensembles").iterdir()
    return folder


def fused(root: Path, teachers: list[str], **options: Any) -> tuple[Ensemble, EnsembleMetrics]:
    fuse_ensemble(run_of(root, teachers, **options))
    finished = read_finished_ensemble(only_folder(root))
    return finished.record, finished.metrics


@pytest.mark.parametrize("space", list(FusionSpace))
def test_figures_are_those_of_the_weighted_mean(tmp_path: Path, space: FusionSpace) -> None:
    teachers = write_teachers(tmp_path / "t")
    record, metrics = fused(tmp_path, teachers, weights=[0.5, 0.3, 0.2], space=space)
    for number, split in enumerate(("val", "test")):
        stored = [read_stored_logits(Path(teacher) / split, option="t") for teacher in teachers]
        scores = [
            one.logits.double() if space is FusionSpace.logit else one.logits.double().softmax(1) for one in stored
        ]
        mean = 0.5 * scores[0] + 0.3 * scores[1] + 0.2 * scores[2]
        log_probs = mean.log_softmax(1) if space is FusionSpace.logit else mean.log()
        labels, result = stored[0].labels, metrics.evaluated[number]
        assert (result.split, result.n) == (split, len(labels))
        assert result.raw.accuracy == pytest.approx(float((mean.argmax(1) == labels).double().mean()))
        macro_f1 = f1_score(labels, mean.argmax(1), average="macro", labels=range(7), zero_division=0)
        assert result.raw.macro_f1 == pytest.approx(macro_f1)
        nll = float(torch.nn.functional.nll_loss(log_probs, labels))
        assert result.raw.nll == pytest.approx(nll, rel=1e-6)
    assert (metrics.accuracy, metrics.macro_f1) == (
        metrics.evaluated[0].raw.accuracy,
        metrics.evaluated[0].raw.macro_f1,
    )
    assert [teacher.weight for teacher in record.teachers] == [0.5, 0.3, 0.2]
    assert metrics.weights == {"RN18": 0.5, "B3": 0.3, "CNXT": 0.2}


def test_each_teacher_is_judged_as_evaluate_does_and_calibrated_on_val_alone(tmp_path: Path) -> None:
    teachers = write_teachers(tmp_path / "t")
    record, metrics = fused(tmp_path, teachers)
    config = EvaluationCalibration().settled(None)
    own: dict[str, Any] = {
        "columns": {},
        "num_resamples": 0,
        "confidence": 0.95,
        "target_risks": [],
        "calibration": config,
    }
    for name, given in zip(metrics.teachers, teachers, strict=True):
        val = judge_scores(read_stored_logits(Path(given) / "val", option="t"), fitted=None, **own).result
        test_logits = read_stored_logits(Path(given) / "test", option="t")
        assert metrics.teachers[name] == [val, judge_scores(test_logits, fitted=val.calibration, **own).result]
    assert record.calibration is not None
    assert (record.calibration.fitted_on_split, record.calibration.fitted_on_rows) == ("val", 300)
    assert metrics.evaluated[1].scaled_how == "temperature fitted on val (300 rows) applied to test"
    assert metrics.evaluated[0].scaled_how == "cross-fitted on val in 5 folds"


def test_figures_name_the_very_file_they_are_of(tmp_path: Path) -> None:
    _, metrics = fused(tmp_path, write_teachers(tmp_path / "t"))
    folder = only_folder(tmp_path)
    digest = hashlib.sha256((folder / "ensemble.json").read_bytes()).hexdigest()
    assert {result.checkpoint_sha256 for result in metrics.evaluated} == {digest}
    assert {result.checkpoint for result in metrics.evaluated} == {"ensemble.json"}


def test_the_best_single_teacher_is_compared_pair_by_pair(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    _, metrics = fused(tmp_path, write_teachers(tmp_path / "t", num_val=1500, num_test=1500))
    assert metrics.best_teacher == "RN18"
    on_val, on_test = metrics.against_best_teacher
    assert (on_val.chosen_here, on_test.chosen_here) == (True, False)
    for comparison, number in ((on_val, 0), (on_test, 1)):
        figure = comparison.figures["macro_f1"]
        ensemble, teacher = metrics.evaluated[number], metrics.teachers["RN18"][number]
        assert ensemble.scaled is not None
        assert teacher.scaled is not None
        assert figure.ensemble == pytest.approx(ensemble.scaled.macro_f1)
        assert figure.difference == pytest.approx(ensemble.scaled.macro_f1 - teacher.scaled.macro_f1)
        assert figure.low <= figure.difference <= figure.high
    assert "the ensemble " in caplog.text
    assert "its best single teacher RN18 on test: " in caplog.text


def test_without_resamples_nothing_is_compared(tmp_path: Path) -> None:
    _, metrics = fused(tmp_path, write_teachers(tmp_path / "t"), num_resamples=0)
    assert metrics.against_best_teacher == []


def test_without_test_rows_val_is_judged_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    _, metrics = fused(tmp_path, write_teachers(tmp_path / "t", num_test=0))
    assert [result.split for result in metrics.evaluated] == ["val"]
    assert len([line for line in caplog.messages if "judged on val alone" in line]) == 1


def test_test_rows_can_be_left_alone(tmp_path: Path) -> None:
    _, metrics = fused(tmp_path, write_teachers(tmp_path / "t"), judge_test=False)
    assert [result.split for result in metrics.evaluated] == ["val"]


@pytest.mark.parametrize("search", [WeightSearch.grid, WeightSearch.none])
def test_test_labels_choose_nothing(tmp_path: Path, search: WeightSearch) -> None:
    files = {}
    for shuffled in (False, True):
        root = tmp_path / str(shuffled)
        teachers = write_teachers(root / "t", shuffled_test=shuffled)
        shutil.rmtree(tmp_path / "t", ignore_errors=True)
        shutil.move(root / "t", tmp_path / "t")
        fuse_ensemble(
            run_of(
                root,
                [str(tmp_path / "t" / Path(teacher).name) for teacher in teachers],
                search=search,
                teacher_scaling=TeacherScaling.temperature,
            )
        )
        folder = only_folder(root)
        names = [path.name for path in folder.iterdir() if path.name not in {"ensemble_metrics.json", "config.yaml"}]
        metrics = read_artifact(folder / "ensemble_metrics.json", EnsembleMetrics)
        chosen = {path: (folder / path).read_bytes() for path in names}
        files[shuffled] = (chosen, metrics.evaluated[0], metrics.best_teacher, metrics.against_best_teacher[0])
        on_test = metrics.evaluated[1].raw.accuracy
        assert on_test < 0.25 if shuffled else on_test > 0.3
    assert files[False] == files[True]
    assert "ensemble.json" in files[True][0]


def test_a_search_writes_every_point_and_what_to_believe(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    teachers = write_teachers(tmp_path / "t", sources=["web", "lab", "lab"] * 100)
    record, metrics = fused(tmp_path, teachers, search=WeightSearch.grid, spaces=list(FusionSpace), grid_step=0.25)
    folder = only_folder(tmp_path)
    report = read_artifact(folder / "weight_search.json", WeightSearchReport)
    with (folder / "ensemble_summary.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == report.num_points == 2 * 15
    assert list(lines[0])[:5] == ["place", "space", "weight_RN18", "weight_B3", "weight_CNXT"]
    order = [
        (round(-float(row["macro_f1"]), 9), round(-float(row["minority_f1"]), 9), round(float(row["ece_scaled"]), 9))
        for row in lines
    ]
    assert order == sorted(order)
    best = [float(lines[0][f"weight_{name}"]) for name in report.teachers]
    assert (lines[0]["space"], best) == (report.chosen.space, report.chosen.weights)
    assert [teacher.weight for teacher in record.teachers] == report.chosen.weights
    assert metrics.macro_f1 == pytest.approx(report.chosen.macro_f1)
    scaled = metrics.evaluated[0].scaled
    assert scaled is not None
    assert (scaled.ece, scaled.nll) == pytest.approx((report.chosen.ece_scaled, report.chosen.nll_scaled), rel=1e-4)
    assert report.cross_validated is not None
    assert report.cross_validated.macro_f1 <= report.chosen.macro_f1
    assert [len(weights) for weights in report.fold_weights] == [3] * 5
    assert [entry.teacher for entry in report.weight_intervals] == ["RN18", "B3", "CNXT"]
    assert [pair.teachers for pair in report.diversity] == [["RN18", "B3"], ["RN18", "CNXT"], ["B3", "CNXT"]]
    assert [(len(best.teachers), best.source) for best in report.subsets] == [
        *[(2, None)] * 3,
        (3, None),
        (3, "lab"),
        (3, "web"),
    ]
    assert [best.n for best in report.subsets[4:]] == [200, 100]
    assert report.oracle_accuracy > max(judged[0].raw.accuracy for judged in metrics.teachers.values())
    assert all((folder / name).read_bytes()[:4] == b"\x89PNG" for name in ("weights.png", "diversity.png"))
    assert record.weights_how == f"grid on val rows {report.row_set_fingerprint[:8]} (n=300)"
    for part in ("cross-validated", "the figure to believe", "errors correlate", "95 % interval"):
        assert part in caplog.text


@pytest.mark.parametrize(
    ("options", "how"),
    [
        ({"search": WeightSearch.simplex, "finest_step": 0.125}, "simplex on val"),
        ({"search": WeightSearch.greedy, "greedy_steps": 5}, "greedy towards macro_f1 on val"),
        ({"search": WeightSearch.optimise, "aim": SearchAim.nll}, "optimise towards nll on val"),
    ],
)
def test_every_search_finds_weights(tmp_path: Path, options: dict[str, Any], how: str) -> None:
    teachers = write_teachers(tmp_path / "t", names=("A", "B"))
    record, _ = fused(tmp_path, teachers, subsets=False, num_weight_resamples=0, **options)
    assert record.weights_how.startswith(how)
    assert sum(teacher.weight for teacher in record.teachers) == pytest.approx(1)
    report = read_artifact(only_folder(tmp_path) / "weight_search.json", WeightSearchReport)
    assert (report.subsets, report.weight_intervals) == ([], [])


def test_scaled_teachers_count_for_what_they_know_not_for_their_scale(tmp_path: Path) -> None:
    teachers = write_teachers(tmp_path / "t")
    record, metrics = fused(tmp_path, teachers, teacher_scaling=TeacherScaling.temperature)
    for split in ("val", "test"):
        stored = read_stored_logits(Path(teachers[2]) / split, option="t")
        write_stored_logits(Path(teachers[2]) / split, replace(stored, logits=stored.logits * 16))
    other, again = fused(tmp_path / "again", teachers, teacher_scaling=TeacherScaling.temperature)
    temperatures = [[t.calibration_temperature for t in one.teachers] for one in (record, other)]
    assert temperatures[1] == pytest.approx([*temperatures[0][:2], 16 * temperatures[0][2]], rel=1e-5)
    assert again.evaluated[1].raw.nll == pytest.approx(metrics.evaluated[1].raw.nll, rel=1e-5)
    assert record.name.startswith("RN18+B3+CNXT_logit_equal_scaled_")


def test_the_nested_figure_is_of_teachers_scaled_outside_each_fold(tmp_path: Path) -> None:
    teachers = write_teachers(tmp_path / "t", names=("A", "B"), num_test=0)
    fused(tmp_path, teachers, search=WeightSearch.grid, grid_step=0.25, teacher_scaling=TeacherScaling.temperature)
    report = read_artifact(only_folder(tmp_path) / "weight_search.json", WeightSearchReport)
    stored = [read_stored_logits(Path(teacher) / "val", option="t") for teacher in teachers]
    judged = cross_validated(
        torch.stack([one.logits for one in stored]),
        stored[0].labels,
        stored[0].folds(5),
        spaces=["logit"],
        search="grid",
        grid_step=0.25,
        scale_teachers=True,
    )
    assert report.fold_weights == [weights.tolist() for weights in judged.fold_weights]
    assert report.cross_validated is not None
    nll = torch.nn.functional.nll_loss(judged.scaled_log_probs, stored[0].labels)
    assert report.cross_validated.nll_scaled == pytest.approx(float(nll), rel=1e-12)


def test_a_temperature_at_its_bound_is_loud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    teachers = write_teachers(tmp_path / "t", num_test=0)
    for teacher in teachers:  # labels that every teacher gets right: no temperature is low enough
        stored = read_stored_logits(Path(teacher) / "val", option="t")
        right = torch.nn.functional.one_hot(stored.labels, 7).float() * 3 + torch.rand(300, 7)
        write_stored_logits(Path(teacher) / "val", replace(stored, logits=right))
    record, _ = fused(tmp_path, teachers, teacher_scaling=TeacherScaling.temperature)
    assert all(teacher.temperature_at_bound for teacher in record.teachers)
    loud = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert sum("AT A BOUND" in line for line in loud) == 4


def test_the_same_ensemble_again_is_refused(tmp_path: Path) -> None:
    teachers = write_teachers(tmp_path / "t")
    run = run_of(tmp_path, teachers)
    fuse_ensemble(run)
    before = {path.name: path.read_bytes() for path in only_folder(tmp_path).iterdir()}
    for on_existing in OnExisting:
        run.run.on_existing = on_existing
        with pytest.raises(FinishedRunError, match=r"holds this very ensemble already; .*run\.tag="):
            fuse_ensemble(run)
    assert {path.name: path.read_bytes() for path in only_folder(tmp_path).iterdir()} == before
    run.run.tag = "again"
    fuse_ensemble(run)
    assert sorted(path.name.rpartition("_")[2] for path in (tmp_path / "ensembles").iterdir())[0] == "again"


def test_other_bytes_under_the_same_name_are_refused(tmp_path: Path) -> None:
    teachers = write_teachers(tmp_path / "t")
    fuse_ensemble(run_of(tmp_path, teachers))
    for file in (tmp_path / "t" / "B3").rglob("storedlogits.json"):
        file.write_text(file.read_text("utf-8").replace("02" * 32, "aa" * 32), encoding="utf-8")
    with pytest.raises(
        FerError, match="holds another ensemble:\n  bytes of B3: recorded '0202.*', now 'aaaa"
    ) as refusal:
        fuse_ensemble(run_of(tmp_path, teachers))
    assert not isinstance(refusal.value, FinishedRunError)


def test_an_ensemble_that_was_judged_on_other_logits_is_not_called_the_same(tmp_path: Path) -> None:
    teachers = write_teachers(tmp_path / "t")
    fuse_ensemble(run_of(tmp_path, teachers))
    folder = Path(teachers[1]) / "test"
    stored = read_stored_logits(folder, option="t")
    changed = stored.logits.clone()
    changed[0] = changed[0].flip(0)
    write_stored_logits(folder, replace(stored, logits=changed))
    with pytest.raises(FerError, match=r"judged on other logits (.|\n)*NLL of B3 on test: recorded .*, now") as refusal:
        fuse_ensemble(run_of(tmp_path, teachers))
    assert not isinstance(refusal.value, FinishedRunError)
    assert "NLL of RN18" not in str(refusal.value)


def test_a_damaged_ensemble_is_refused_with_a_way_out(tmp_path: Path) -> None:
    teachers = write_teachers(tmp_path / "t")
    fuse_ensemble(run_of(tmp_path, teachers))
    (only_folder(tmp_path) / "ensemble.json").write_text("{")
    with pytest.raises(
        FerError, match=r"ensemble.json is not a valid Ensemble.* Remove .* to fuse it again, or keep it"
    ):
        fuse_ensemble(run_of(tmp_path, teachers))


def test_other_test_rows_under_the_same_name_are_refused(tmp_path: Path) -> None:
    teachers = write_teachers(tmp_path / "t")
    fuse_ensemble(run_of(tmp_path, teachers))
    shutil.rmtree(tmp_path / "t")
    with pytest.raises(FerError, match="row sets: recorded"):
        fuse_ensemble(run_of(tmp_path, write_teachers(tmp_path / "t", num_test=100)))


def _damaged(folder: Path) -> None:
    (folder / "ensemble.json").write_text("{", encoding="utf-8")


def _of_another(folder: Path) -> None:
    content = json.loads((folder / "ensemble.json").read_text("utf-8"))
    content["weights_how"] = "guessed"
    (folder / "ensemble.json").write_text(json.dumps(content), encoding="utf-8")


def _without_metrics(folder: Path) -> None:
    (folder / "ensemble_metrics.json").unlink()


def _foreign(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "notes.txt").touch()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_damaged, "not a valid Ensemble|Ensemble of schema version"),
        (_of_another, "holds figures of another ensemble.json"),
        (_without_metrics, "no file .*ensemble_metrics.json"),
        (_foreign, r"holds files but no ensemble \(notes.txt\)"),
    ],
)
def test_a_harmed_folder_is_refused(tmp_path: Path, harm: Any, message: str) -> None:
    teachers = write_teachers(tmp_path / "t")
    fuse_ensemble(run_of(tmp_path, teachers))
    harm(only_folder(tmp_path))
    with pytest.raises(FerError, match=message):
        fuse_ensemble(run_of(tmp_path, teachers))


def test_what_an_interrupted_command_left_is_done_again(tmp_path: Path) -> None:
    teachers = write_teachers(tmp_path / "t")
    record, metrics = fused(tmp_path, teachers)
    (only_folder(tmp_path) / "ensemble.json").unlink()
    (only_folder(tmp_path) / "ensemble_metrics.json").write_text("{", encoding="utf-8")
    assert fused(tmp_path, teachers) == (record, metrics)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ensemble": EnsembleConfig(teachers=["x"])}, "takes at least two, got 1"),
        ({"ensemble": EnsembleConfig()}, "takes at least two, got 0"),
        ({"evaluate": EvaluationTarget(slices=["age"])}, "evaluate.slices=.* would have no effect"),
        ({"run": RunConfig(seed=7)}, "run.seed=7 would have no effect"),
        ({"evaluate": EvaluationTarget(view=View.flip)}, "through view flip"),
        ({"data": DataConfig(limit_rows=70)}, "data.limit_rows=70 would have no effect"),
    ],
)
def test_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    values = {"ensemble": EnsembleConfig(teachers=write_teachers(tmp_path / "t")), **change}
    with pytest.raises(FerError, match=message):
        fuse_ensemble(FuseEnsembleRun(**values))


def test_one_model_under_two_paths_is_refused(tmp_path: Path) -> None:
    teachers = write_teachers(tmp_path / "t")
    link = tmp_path / "other"
    link.symlink_to(teachers[0])
    with pytest.raises(FerError, match="names the same model twice: .*RN18 and .*other"):
        fuse_ensemble(run_of(tmp_path, [teachers[0], str(link)]))


def test_calibration_none_calibrates_nothing(tmp_path: Path) -> None:
    run = run_of(tmp_path, write_teachers(tmp_path / "t"))
    run.calibration.method = CalibrationMethod.none
    fuse_ensemble(run)
    finished = read_finished_ensemble(only_folder(tmp_path))
    assert finished.record.calibration is None
    assert [result.scaled for result in finished.metrics.evaluated] == [None, None]
    assert "_equal_none_" in finished.path.name


def test_linked_rows_are_not_compared_and_not_cross_fitted(tmp_path: Path) -> None:
    teachers = write_teachers(tmp_path / "t", num_val=60, num_test=0)
    for teacher in teachers:
        stored = read_stored_logits(Path(teacher) / "val", option="t")
        write_stored_logits(Path(teacher) / "val", replace(stored, groups=torch.zeros(60, dtype=torch.int64)))
    record, metrics = fused(tmp_path, teachers, search=WeightSearch.grid, grid_step=0.5)
    assert metrics.against_best_teacher == []
    assert metrics.evaluated[0].scaled is None
    assert "all rows are linked" in metrics.evaluated[0].scaled_how
    assert record.calibration is not None
    report = read_artifact(only_folder(tmp_path) / "weight_search.json", WeightSearchReport)
    assert (report.cross_validated, report.fold_weights, report.weight_intervals) == (None, [], [])
