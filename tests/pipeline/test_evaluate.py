"""The verb `evaluate`: every file, stored logits, several manifests, views, slices, and the faults of the past."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.errors import FerError
from fer_lightning.pipeline.calibrate import calibrate
from fer_lightning.pipeline.config import ExportOnnxRun, ExportTarget
from fer_lightning.pipeline.evaluate import evaluate
from fer_lightning.pipeline.evaluation.config import (
    CalibrateRun,
    CalibrationComparison,
    EvaluateRun,
    EvaluationCalibration,
    EvaluationTarget,
    GatesConfig,
    View,
)
from fer_lightning.pipeline.export_onnx import export_onnx
from fer_lightning.pipeline.logits import infer_logits, opened_models
from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.runs.artifacts import Calibration, read_artifact, write_artifact
from fer_lightning.runs.calibration_report import Calibrator
from fer_lightning.runs.config import OnExisting, RunConfig
from fer_lightning.runs.evaluation import Evaluation
from fer_lightning.runs.evaluation_curves import EvaluationCurves
from fer_lightning.runs.stored_logits import read_stored_logits
from fer_lightning.training.config import CalibrationConfig, CalibrationMethod
from tests.conftest import toy_run
from tests.runs.stored_scores import overconfident, write_scores

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")

FILES = {
    "evaluation.json",
    "curves.json",
    "predictions.csv",
    "predictions.parquet",
    "reliability.png",
    "confusion.png",
    "risk_coverage.png",
    "slices.png",
}


@pytest.fixture(scope="module")
def finished(toy_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished toy run."""
    run = toy_run(toy_manifest, tmp_path_factory.mktemp("runs"), epochs=2)
    train_teacher(run)
    return run.directory


def run_of(checkpoint: Path | str, root: Path, *, data: DataConfig | None = None, **target: Any) -> EvaluateRun:
    target.setdefault("num_resamples", 100)
    target.setdefault("output_dir", str(root / "out"))
    return EvaluateRun(
        run=RunConfig(root=str(root)),
        evaluate=EvaluationTarget(checkpoint=str(checkpoint), **target),
        data=data or DataConfig(),
    )


def given(manifest: Path, finished: Path, **options: Any) -> DataConfig:
    return DataConfig(manifest=str(manifest), num_workers=0, cache_dir=str(finished.parent.parent / "cache"), **options)


def evaluation_in(folder: Path) -> Evaluation:
    return read_artifact(folder / "evaluation.json", Evaluation)


def test_one_command_writes_every_file_and_they_agree(finished: Path, tmp_path: Path) -> None:
    evaluate(run_of(finished, tmp_path))
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} - {".run.lock.guard"} == FILES
    assert all((out / name).read_bytes()[:4] == b"\x89PNG" for name in FILES if name.endswith(".png"))
    evaluation = evaluation_in(out)
    (stored,) = (read_stored_logits(folder, option="test") for folder in (tmp_path / "logits").iterdir())
    assert evaluation.logits_sha256 == stored.record.logits_sha256
    assert evaluation.requested_rows == evaluation.result.n == len(stored.labels)
    curves = read_artifact(out / "curves.json", EvaluationCurves)
    assert curves.n == evaluation.result.n
    table = pq.read_table(out / "predictions.parquet")
    with (out / "predictions.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert table["row_id"].to_pylist() == [line["row_id"] for line in lines] == list(stored.row_ids)
    assert evaluation.scaled is not None
    assert sum(table["correct"].to_pylist()) / len(lines) == pytest.approx(evaluation.scaled.accuracy)
    logits = torch.tensor([[float(line[f"logit_{name}"]) for name in stored.record.class_order] for line in lines])
    assert torch.equal(logits, stored.logits)


def test_a_second_call_infers_nothing_and_gives_the_same_figures(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    evaluate(run_of(finished, tmp_path))
    first = (tmp_path / "out" / "evaluation.json").read_bytes()
    monkeypatch.setattr(opened_models, "read_checkpoint", lambda *_, **__: pytest.fail("opened the model again"))
    caplog.set_level("INFO")
    evaluate(run_of(finished, tmp_path))
    assert (tmp_path / "out" / "evaluation.json").read_bytes() == first
    assert "stored" in caplog.text


def test_stored_logits_alone_give_the_same_figures(finished: Path, tmp_path: Path) -> None:
    evaluate(run_of(finished, tmp_path, split="test"))
    (folder,) = (tmp_path / "logits").iterdir()
    evaluate(run_of(folder, tmp_path, split="test", output_dir=str(tmp_path / "alone")))
    first, second = evaluation_in(tmp_path / "out"), evaluation_in(tmp_path / "alone")
    assert (first.raw, first.scaled, first.conformal, first.slices) == (
        second.raw,
        second.scaled,
        second.conformal,
        second.slices,
    )
    assert second.model == str(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"view": View.flip}, "evaluate.view=flip would have no effect"),
        ({"split": "train"}, "holds logits of test rows"),
        ({"split": "val"}, "holds logits of test rows"),
        ({"batch_size": 4}, "evaluate.batch_size=4 would have no effect"),
        ({"reuse_logits": False}, "evaluate.reuse_logits=False would have no effect"),
    ],
)
def test_stored_logits_refuse_options_that_choose_rows_or_pictures(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = write_scores(tmp_path / "scores", *overconfident(60), split="test")
    with pytest.raises(FerError, match=message):
        evaluate(run_of(folder, tmp_path, **change))
    run = run_of(folder, tmp_path)
    run.source_filter = SourceFilterConfig(include=["generated"])
    with pytest.raises(FerError, match=r"source_filter\.include=.* would have no effect"):
        evaluate(run)


def test_several_manifests_get_an_evaluation_each_and_a_table(
    finished: Path, toy_manifest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    header, *lines = toy_manifest.read_text().splitlines()
    test = [line for line in lines if ",test," in line]
    for name, part in (("a", test[::2]), ("b", test[1::2])):
        (toy_manifest.parent / f"part_{name}.csv").write_text("\n".join([header, *part]) + "\n")
    parts = [str(toy_manifest.parent / f"part_{name}.csv") for name in "ab"]
    run = run_of(finished, tmp_path, split="test", manifests=parts)
    run.data = DataConfig(num_workers=0, cache_dir=str(finished.parent.parent / "cache"))
    caplog.set_level("INFO")
    evaluate(run)
    folders = sorted(path for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert [evaluation_in(folder).result.n for folder in folders] == [len(test[::2]), len(test[1::2])]
    assert all(part in caplog.text for part in ("part_a.csv", "part_b.csv"))


def test_a_missing_row_is_an_error_unless_allowed_and_then_it_is_counted(
    finished: Path, toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the list of faults goes
    header, *lines = toy_manifest.read_text().splitlines()
    test = [line for line in lines if ",test," in line]
    gone = test[0].replace(test[0].split(",")[0], "nowhere/gone.png")
    manifest = toy_manifest.parent / "with_a_gap.csv"
    manifest.write_text("\n".join([header, gone, *test[1:]]) + "\n")
    with pytest.raises(FerError, match=r"nowhere/gone\.png"):
        evaluate(run_of(finished, tmp_path, split="test", data=given(manifest, finished)))
    assert not (tmp_path / "out").exists()
    evaluate(run_of(finished, tmp_path, split="test", data=given(manifest, finished, max_bad_rows=1)))
    evaluation = evaluation_in(tmp_path / "out")
    assert (evaluation.requested_rows, evaluation.result.n, evaluation.rows_left_out) == (len(test), len(test) - 1, 1)


def test_views_are_kept_apart(finished: Path, tmp_path: Path) -> None:
    for view in View:
        evaluate(run_of(finished, tmp_path, view=view, output_dir=str(tmp_path / view.value)))
    evaluations = [evaluation_in(tmp_path / view.value) for view in View]
    assert [evaluation.view for evaluation in evaluations] == ["single", "flip", "ten_crop"]
    assert len({evaluation.logits_sha256 for evaluation in evaluations}) == 3
    assert len({evaluation.result.row_set_fingerprint for evaluation in evaluations}) == 1


def test_slices_by_a_column_of_the_manifest(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(FerError, match=r"evaluate\.slices names age, which is no column of"):
        evaluate(run_of(finished, tmp_path, slices=["age"]))
    evaluate(run_of(finished, tmp_path, slices=["vote_Happy"]))
    slices = [part for part in evaluation_in(tmp_path / "out").slices if part.by == "vote_Happy"]
    assert len(slices) > 1
    assert sum(part.n for part in slices) == evaluation_in(tmp_path / "out").result.n


def test_a_calibration_is_never_fitted_on_test(finished: Path, toy_manifest: Path, tmp_path: Path) -> None:
    run = run_of(finished, tmp_path, split="test", data=given(toy_manifest, finished))
    run.calibration = EvaluationCalibration(method=CalibrationMethod.vector)
    with pytest.raises(FerError, match=r"has fitted temperature on val, and nothing is fitted on test"):
        evaluate(run)
    run.evaluate.split = "val"
    evaluate(run)
    result = evaluation_in(tmp_path / "out").result
    assert result.calibration is not None
    assert result.calibration.method == "vector"


def test_figures_of_one_checkpoint_are_never_read_for_another(finished: Path, tmp_path: Path) -> None:
    """The calibration recorded for best.pt is not applied to a file of other bytes in its place."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.yaml", "alignmentreport.json", "calibration.json"):
        (copy / name).write_bytes((finished / name).read_bytes())
    (copy / "best.pt").write_bytes((finished / "checkpoint_last.pt").read_bytes())
    calibration = read_artifact(finished / "calibration.json", Calibration)
    entry = calibration.best
    write_artifact(copy / "calibration.json", Calibration(best=entry, last=entry))
    evaluate(run_of(copy, tmp_path, split="test"))
    result = evaluation_in(tmp_path / "out").result
    if calibration.best.checkpoint_sha256 == calibration.last.checkpoint_sha256:
        pytest.fail("the toy run must end after its best epoch or before: two files are needed")
    assert (result.calibration, result.scaled) == (None, None)
    assert "no calibration recorded for this checkpoint" in result.scaled_how


def test_probabilities_stored_as_logits_are_refused(tmp_path: Path) -> None:
    logits, labels = overconfident(60)
    with pytest.raises(FerError, match=r"(?i)probabilities"):
        evaluate(run_of(write_scores(tmp_path / "scores", logits.softmax(1), labels), tmp_path))


def test_logits_of_corrupted_pictures_are_no_evaluation(tmp_path: Path) -> None:
    folder = write_scores(tmp_path / "scores", *overconfident(60), corruption="blur-3")
    with pytest.raises(FerError, match=r"holds logits of changed pictures \(blur-3\); task=robustness"):
        evaluate(run_of(folder, tmp_path))


def test_each_calibration_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = write_scores(tmp_path / "scores", *overconfident(200))
    for method in (None, CalibrationMethod.vector, CalibrationMethod.none):
        run = run_of(folder, tmp_path, output_dir=None)
        run.calibration = EvaluationCalibration(method=method)
        evaluate(run)
    names = sorted(path.parent.name for path in (tmp_path / "evaluations").glob("*/evaluation.json"))
    assert len(names) == 3
    assert [name.rpartition("__")[2] for name in names[1:]] == ["none", "vector"]


def test_a_calibrator_is_for_its_view_alone(finished: Path, tmp_path: Path) -> None:
    entry = read_artifact(finished / "calibration.json", Calibration).best
    chosen = Calibrator(
        checkpoint="best.pt",
        checkpoint_sha256=entry.checkpoint_sha256,
        view="ten_crop",
        calibration=entry.calibration,
    )
    write_artifact(tmp_path / "calibrator.json", chosen)
    with pytest.raises(FerError, match="was fitted on logits of view ten_crop, not of single"):
        evaluate(run_of(finished, tmp_path, split="test", calibrator=str(tmp_path / "calibrator.json")))


def test_an_absent_class_is_listed_and_both_means_are_given(tmp_path: Path) -> None:
    logits, labels = overconfident(300)
    kept = labels != 1
    evaluate(run_of(write_scores(tmp_path / "scores", logits[kept], labels[kept]), tmp_path))
    evaluation = evaluation_in(tmp_path / "out")
    assert evaluation.result.absent_classes == ["Disgust"]
    assert evaluation.raw.macro_f1_present == pytest.approx(evaluation.raw.macro_f1 * 7 / 6)


def test_output_never_lands_in_a_run_or_among_stored_logits(finished: Path, tmp_path: Path) -> None:
    folder = write_scores(tmp_path / "scores", *overconfident(60))
    with pytest.raises(FerError, match="is a folder of stored logits"):
        evaluate(run_of(folder, tmp_path, output_dir=folder))
    with pytest.raises(FerError, match="is a run directory"):
        evaluate(run_of(folder, tmp_path, output_dir=str(finished)))
    assert json.loads((Path(folder) / "storedlogits.json").read_text())["n"] == 60


def test_a_chosen_calibrator_is_judged_on_test_and_exported(finished: Path, tmp_path: Path) -> None:
    run = CalibrateRun(
        run=RunConfig(root=str(tmp_path)),
        evaluate=EvaluationTarget(checkpoint=str(finished), num_resamples=100, output_dir=str(tmp_path / "cal")),
        calibrate=CalibrationComparison(methods=[CalibrationMethod.vector]),
    )
    calibrate(run)
    chosen = tmp_path / "cal" / "calibrator.json"
    evaluate(run_of(finished, tmp_path, split="test", calibrator=str(chosen)))
    judged = evaluation_in(tmp_path / "out")
    record = read_artifact(chosen, Calibrator).calibration
    assert (judged.result.calibration, record.method) == (record, "vector")
    assert "vector fitted on val" in judged.result.scaled_how
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    export_onnx(ExportOnnxRun(export=ExportTarget(run_dir=str(copy), which=["best"], calibrator=str(chosen))))
    evaluate(run_of(copy / "best.onnx", tmp_path, split="test", output_dir=str(tmp_path / "onnx")))
    exported = evaluation_in(tmp_path / "onnx")
    assert exported.result.calibration == record
    assert exported.scaled is not None
    assert judged.scaled is not None
    assert exported.scaled.nll == pytest.approx(judged.scaled.nll, abs=1e-5)


def test_a_calibrator_of_another_file_is_refused(finished: Path, tmp_path: Path) -> None:
    entry = read_artifact(finished / "calibration.json", Calibration).best
    chosen = Calibrator(checkpoint="best.pt", checkpoint_sha256="0" * 64, view="single", calibration=entry.calibration)
    write_artifact(tmp_path / "calibrator.json", chosen)
    message = r"fitted on logits of another file, best\.pt 00000000, than the one it is asked for"
    with pytest.raises(FerError, match=message):
        evaluate(run_of(finished, tmp_path, split="test", calibrator=str(tmp_path / "calibrator.json")))
    target = ExportTarget(run_dir=str(finished), which=["last"], calibrator=str(tmp_path / "calibrator.json"))
    with pytest.raises(FerError, match=message):
        export_onnx(ExportOnnxRun(export=target))
    with pytest.raises(FerError, match="no file"):
        evaluate(run_of(finished, tmp_path, split="test", calibrator=str(tmp_path / "none.json")))


def test_manifests_of_one_name_and_one_set_of_rows_keep_their_evaluations(
    finished: Path, toy_manifest: Path, tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "d").mkdir(parents=True)
        (tmp_path / folder / "d" / "manifest.csv").write_text(toy_manifest.read_text())
    manifests = [str(tmp_path / folder / "d" / "manifest.csv") for folder in ("a", "b")]
    for output in (str(tmp_path / "out"), None):
        run = run_of(finished, tmp_path, split="test", manifests=manifests, output_dir=output)
        run.data = DataConfig(
            root=str(toy_manifest.parent), num_workers=0, cache_dir=str(finished.parent.parent / "cache")
        )
        evaluate(run)
    assert len(list((tmp_path / "out").glob("*/evaluation.json"))) == 2
    assert len(list((tmp_path / "evaluations").glob("*/evaluation.json"))) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"manifests": ["nowhere.csv"]}, r"evaluate\.manifests: no file nowhere\.csv"),
        ({"gates": GatesConfig(reference="nowhere", max_macro_f1_drop=0.1)}, r"evaluate\.gates\.reference.*nowhere"),
        ({"calibrator": "nowhere.json"}, r"evaluate\.calibrator: no file nowhere\.json"),
        ({"slices": ["age"]}, r"evaluate\.slices names age, which is no column of"),
        ({"slices": ["source"]}, "figures by source, label, face_side are given in any case"),
        ({"output_dir": __file__}, "is a file; choose another"),
        ({"accelerator": "mps"}, "accelerator=mps: this machine has none that can be used"),
    ],
)
def test_what_cannot_work_is_refused_before_a_picture_is_scored(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(infer_logits, "score_shards", lambda *_, **__: pytest.fail("scored"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(FerError, match=message):
        evaluate(run_of(finished, tmp_path, **change))


@pytest.mark.parametrize("option", ["seed", "on_existing"])
def test_options_of_a_run_without_effect_are_refused(finished: Path, tmp_path: Path, option: str) -> None:
    run = run_of(finished, tmp_path)
    setattr(run.run, option, {"seed": 7, "on_existing": OnExisting.resume}[option])
    with pytest.raises(FerError, match=rf"run\.{option}=.* would have no effect"):
        evaluate(run)


def test_temperature_asked_for_by_name_is_not_the_models_own_method(toy_manifest: Path, tmp_path: Path) -> None:
    run = toy_run(toy_manifest, tmp_path, epochs=1)
    run.calibration = CalibrationConfig(method=CalibrationMethod.vector)
    train_teacher(run)
    data = given(toy_manifest, run.directory)
    plain = run_of(run.directory, tmp_path, split="test", data=data)
    evaluate(plain)
    assert "vector fitted on val" in evaluation_in(tmp_path / "out").result.scaled_how
    plain.calibration = EvaluationCalibration(method=CalibrationMethod.temperature)
    with pytest.raises(FerError, match=r"calibration\.method=temperature: the model's run has fitted vector on val"):
        evaluate(plain)


def test_train_rows_are_said_to_be_seen(finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    evaluate(run_of(finished, tmp_path, split="train", num_resamples=0))
    n = evaluation_in(tmp_path / "out").result.n
    assert f"the model was trained on {n} of these {n} rows" in caplog.text


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    folder = write_scores(tmp_path / "scores", *overconfident(60))
    (tmp_path / "out" / "predictions.csv").mkdir(parents=True)
    with pytest.raises(FerError, match=r"cannot write to .*out: .*choose another evaluate\.output_dir"):
        evaluate(run_of(folder, tmp_path))
    assert not (tmp_path / "out" / "evaluation.json").exists()
