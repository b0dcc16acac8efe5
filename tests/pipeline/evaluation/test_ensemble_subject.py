"""An ensemble is judged as any model: its folder, its ONNX file, as a reference, on other rows; and foreign logits by split."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_lightning.data.config import DataConfig
from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.pipeline.calibrate import calibrate
from fer_lightning.pipeline.config import ExportOnnxRun, ExportTarget
from fer_lightning.pipeline.ensembles.config import EnsembleConfig, FuseEnsembleRun, TeacherScaling
from fer_lightning.pipeline.evaluate import evaluate
from fer_lightning.pipeline.evaluation.config import (
    CalibrateRun,
    CalibrationComparison,
    Corruption,
    EvaluateRun,
    EvaluationTarget,
    GatesConfig,
    RobustnessConfig,
    RobustnessRun,
    View,
)
from fer_lightning.pipeline.evaluation.subjects import calibration_for, open_subject
from fer_lightning.pipeline.export_onnx import export_onnx
from fer_lightning.pipeline.fuse_ensemble import fuse_ensemble
from fer_lightning.pipeline.robustness import robustness
from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.runs.artifacts import EvaluatedCheckpoint, read_artifact, write_artifact
from fer_lightning.runs.calibration_report import Calibrator
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.ensemble import Ensemble, EnsembleMetrics
from fer_lightning.runs.ensemble_file import read_ensemble
from fer_lightning.runs.evaluation import Evaluation
from fer_lightning.runs.robustness_report import Robustness
from fer_lightning.runs.stored_logits import StoredLogits, read_stored_logits, write_stored_logits
from fer_lightning.training.config import CalibrationMethod
from fer_lightning.training.evaluation import JudgedScores, judge_scores
from tests.conftest import toy_run

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")


@dataclass(frozen=True)
class Pair:
    """Two trained toys and the ensemble of them."""

    root: Path
    manifest: Path
    folder: Path
    """Of the ensemble, whose teachers have temperatures; `ensemble.onnx` lies in it."""

    def read(self) -> Ensemble:
        return read_ensemble(self.folder, option="test")

    def teacher(self, number: int) -> Path:
        return Path(self.read().teachers[number].given)

    def given(self, manifest: Path | None = None, **options: Any) -> DataConfig:
        cache = str(self.root / "cache")
        return DataConfig(manifest=str(manifest or self.manifest), num_workers=0, cache_dir=cache, **options)


@pytest.fixture(scope="module")
def pair(toy_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    root = tmp_path_factory.mktemp("runs")
    teachers = []
    for number in range(2):
        run = toy_run(toy_manifest, root, epochs=1, tag=f"t{number}")
        train_teacher(replace(run, run=replace(run.run, seed=number)))
        teachers.append(replace(run, run=replace(run.run, seed=number)).directory)
    fuse_ensemble(
        FuseEnsembleRun(
            run=RunConfig(root=str(root)),
            evaluate=EvaluationTarget(num_resamples=0, accelerator="cpu"),
            ensemble=EnsembleConfig(
                teachers=[str(path) for path in teachers],
                names=["A", "B"],
                weights=[0.3, 0.7],
                teacher_scaling=TeacherScaling.temperature,
            ),
        )
    )
    (folder,) = (root / "ensembles").iterdir()
    export_onnx(ExportOnnxRun(export=ExportTarget(run_dir=str(folder))))
    return Pair(root, toy_manifest, folder)


def run_of(
    pair: Pair, out: Path, checkpoint: Path | str, *, data: DataConfig | None = None, **target: Any
) -> EvaluateRun:
    target = {"num_resamples": 0, "accelerator": "cpu", "output_dir": str(out), **target}
    return EvaluateRun(
        run=RunConfig(root=str(pair.root)),
        evaluate=EvaluationTarget(checkpoint=str(checkpoint), **target),
        data=data or DataConfig(),
    )


def evaluated(pair: Pair, out: Path, checkpoint: Path | str, **options: Any) -> Evaluation:
    evaluate(run_of(pair, out, checkpoint, **options))
    return read_artifact(out / "evaluation.json", Evaluation)


def scored(pair: Pair, checkpoint: Path | str, **options: Any) -> StoredLogits:
    run = run_of(pair, pair.root / "unused", checkpoint, **options)
    return open_subject(run, str(checkpoint), option="test").stored


def judged(pair: Pair, checkpoint: Path | str, **options: Any) -> JudgedScores:
    """Judge as `evaluate` does, without its files."""
    subject = open_subject(run_of(pair, Path("unused"), checkpoint, **options), str(checkpoint), option="test")
    config, fitted = calibration_for(subject)
    return judge_scores(
        subject.stored,
        calibration=config,
        fitted=fitted,
        columns={},
        num_resamples=0,
        confidence=0.95,
        target_risks=[],
    )


def figures(result: EvaluatedCheckpoint) -> dict[str, float]:
    assert result.scaled is not None
    names = ("accuracy", "macro_f1", "minority_f1", "nll", "ece", "brier")
    raw = {name: getattr(result.raw, name) for name in names}
    return raw | {f"scaled_{name}": getattr(result.scaled, name) for name in names}


@pytest.mark.parametrize("number", [0, 1], ids=["val", "test"])
def test_its_folder_gives_the_figures_of_its_making(pair: Pair, number: int) -> None:
    made = read_artifact(pair.folder / "ensemble_metrics.json", EnsembleMetrics).evaluated[number]
    for given in (pair.folder, pair.folder / "ensemble.json"):
        result = judged(pair, given, split=["val", "test"][number]).result
        sha256 = sha256_of(pair.folder / "ensemble.json")
        assert (result.checkpoint, result.checkpoint_sha256) == ("ensemble.json", sha256)
        assert (result.epoch, result.weights) == (-1, "logit fusion of 0.3 A + 0.7 B")
        assert (result.row_set_fingerprint, result.confusion) == (made.row_set_fingerprint, made.confusion)
        assert figures(result) == pytest.approx(figures(made), rel=1e-9)
        assert result.calibration == pair.read().calibration


def test_logits_are_those_of_its_teachers_fused(pair: Pair) -> None:
    fused = scored(pair, pair.folder, split="test")
    own = [scored(pair, pair.teacher(number), split="test") for number in (0, 1)]
    expected = sum(
        teacher.weight * one.logits.double() / teacher.calibration_temperature
        for teacher, one in zip(pair.read().teachers, own, strict=True)
    )
    torch.testing.assert_close(fused.logits.double(), expected, rtol=1e-6, atol=1e-6)
    assert fused.row_ids == own[0].row_ids
    assert fused.record.canonical_digest == own[0].record.canonical_digest
    assert fused.record.rows_seen_in_training == 0


def test_val_rows_do_not_see_the_temperatures_fitted_on_them(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    fused = scored(pair, pair.folder)
    assert "each row is scaled by temperatures of the other folds" in caplog.text
    own = [scored(pair, pair.teacher(number)) for number in (0, 1)]
    first, second = pair.read().teachers
    deployed = first.weight * own[0].logits.double() / first.calibration_temperature
    deployed += second.weight * own[1].logits.double() / second.calibration_temperature
    assert not torch.allclose(fused.logits.double(), deployed, rtol=1e-6)
    torch.testing.assert_close(fused.logits.double(), deployed, rtol=0.5, atol=0.5)


def test_one_graph_gives_the_figures_of_the_stored_path(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    onnx = pair.folder / "ensemble.onnx"
    by_file, by_folder = (judged(pair, given, split="test").result for given in (onnx, pair.folder))
    assert figures(by_file) == pytest.approx(figures(by_folder), rel=1e-4, abs=1e-6)
    assert by_file.row_set_fingerprint == by_folder.row_set_fingerprint
    assert (by_file.weights, by_file.calibration) == (by_folder.weights, by_folder.calibration)
    of_file, of_folder = (scored(pair, given, split="test") for given in (onnx, pair.folder))
    torch.testing.assert_close(of_file.logits, of_folder.logits, rtol=1e-4, atol=1e-3)
    assert of_file.record.rows_seen_in_training == 0
    scored(pair, onnx)
    assert "were fitted on these val rows, which flatters its figures" in caplog.text


def test_it_is_evaluated_on_another_manifest(pair: Pair, tmp_path: Path) -> None:
    lines = pair.manifest.read_text().splitlines()
    header, rows = lines[0], lines[1:]
    fewer = pair.manifest.parent / "fewer.csv"
    fewer.write_text("\n".join([header, *(row for row in rows if ",test," in row)][:40]) + "\n")
    evaluation = evaluated(pair, tmp_path / "out", pair.folder, data=pair.given(fewer), split="test")
    assert (evaluation.result.n, evaluation.manifest) == (39, str(fewer))
    fewer.unlink()


def test_rows_a_teacher_was_trained_on_are_refused(pair: Pair, tmp_path: Path) -> None:
    lines = pair.manifest.read_text().splitlines()
    moved = pair.manifest.parent / "moved.csv"
    moved.write_text("\n".join(line.replace(",train,", ",test,") for line in lines) + "\n")
    for given in (pair.folder, pair.folder / "ensemble.onnx"):
        with pytest.raises(FerError, match="the model was trained on"):
            evaluate(run_of(pair, tmp_path / "out", given, data=pair.given(moved), split="test"))
    moved.unlink()


def test_a_replaced_teacher_is_refused_by_name(pair: Pair, tmp_path: Path) -> None:
    folder = shutil.copytree(pair.folder, tmp_path / "PAIR")
    ensemble = pair.read()
    other = replace(ensemble.teachers[1], checkpoint_sha256="0" * 64)
    write_artifact(folder / "ensemble.json", replace(ensemble, teachers=[ensemble.teachers[0], other]))
    with pytest.raises(FerError, match=r"best\.pt is no longer the teacher B that the ensemble was made of"):
        evaluate(run_of(pair, tmp_path / "out", folder))
    with pytest.raises(FerError, match=r"ensemble\.onnx was not exported from the ensemble\.json beside it"):
        evaluate(run_of(pair, tmp_path / "out", folder / "ensemble.onnx"))


def robustness_of(pair: Pair, out: Path, checkpoint: Path) -> RobustnessRun:
    run = run_of(pair, out, checkpoint, split="test")
    corruptions = RobustnessConfig(corruptions=[Corruption.grey], severities=[1], clahe=False)
    return RobustnessRun(run=run.run, evaluate=run.evaluate, data=run.data, robustness=corruptions)


def test_its_onnx_file_is_followed_over_corruptions_on_its_own_rows(pair: Pair, tmp_path: Path) -> None:
    robustness(robustness_of(pair, tmp_path, pair.folder / "ensemble.onnx"))
    report = read_artifact(tmp_path / "robustness.json", Robustness)
    wanted = judged(pair, pair.folder, split="test").result
    assert (report.split, report.row_set_fingerprint) == ("test", wanted.row_set_fingerprint)
    assert report.clean.raw.macro_f1 == pytest.approx(wanted.raw.macro_f1)
    assert report.calibration == pair.read().calibration


def test_its_folder_sees_no_corrupted_pictures(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(FerError, match=r"is an ensemble; export it with .* and name its ensemble\.onnx"):
        robustness(robustness_of(pair, tmp_path / "out", pair.folder))
    with pytest.raises(FerError, match="OTHER holds stored logits, which see no pictures"):
        robustness(robustness_of(pair, tmp_path / "out", foreign(tmp_path / "OTHER", pair, "val", "test")))


def test_its_onnx_file_lives_without_its_teachers(pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, ensemble = shutil.copytree(pair.folder, tmp_path / "PAIR"), pair.read()
    gone = [replace(teacher, given=str(tmp_path / "gone")) for teacher in ensemble.teachers]
    write_artifact(folder / "ensemble.json", replace(ensemble, teachers=gone))
    record = json.loads((folder / "onnx.json").read_text())
    record["files"][0]["checkpoint_sha256"] = sha256_of(folder / "ensemble.json")
    (folder / "onnx.json").write_text(json.dumps(record))
    with pytest.raises(FerError, match=r"data\.manifest is not set, and .*PAIR is no run directory"):
        evaluate(run_of(pair, tmp_path / "out", folder / "ensemble.onnx", split="test"))
    stored = scored(pair, folder / "ensemble.onnx", data=pair.given(), split="test")
    assert stored.record.rows_seen_in_training is None
    assert "teacher A is gone" in caplog.text


def test_another_view_than_its_own_is_refused(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(FerError, match=r"evaluate\.view=flip: .* for view single; take evaluate\.view=single"):
        evaluate(run_of(pair, tmp_path / "out", pair.folder, view=View.flip))


@pytest.mark.parametrize("ensemble_first", [True, False])
def test_it_is_held_against_a_teacher_and_the_reverse(pair: Pair, tmp_path: Path, ensemble_first: bool) -> None:
    both = (pair.folder, pair.teacher(0))
    candidate, reference = both if ensemble_first else both[::-1]
    gates = GatesConfig(reference=str(reference), max_macro_f1_drop=1.0)
    evaluation = evaluated(pair, tmp_path / "out", candidate, split="test", gates=gates, num_resamples=100)
    assert evaluation.gates is not None
    (gate,) = evaluation.gates.gates
    own, other = (figures(judged(pair, one, split="test").result) for one in (candidate, reference))
    assert gate.candidate == pytest.approx(own["scaled_macro_f1"])
    assert gate.reference == pytest.approx(other["scaled_macro_f1"])


def test_a_reference_that_is_none_is_refused_beforehand(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "BROKEN").mkdir()
    (tmp_path / "BROKEN" / "ensemble.json").write_text("{}")
    gates = GatesConfig(reference=str(tmp_path / "BROKEN"), max_macro_f1_drop=1.0)
    with pytest.raises(FerError, match=r"BROKEN/ensemble\.json is no Ensemble of schema version 1"):
        evaluate(run_of(pair, tmp_path / "out", pair.folder, gates=gates))


def test_a_calibrator_of_its_own_is_applied(pair: Pair, tmp_path: Path) -> None:
    target = EvaluationTarget(
        checkpoint=str(pair.folder), num_resamples=100, accelerator="cpu", output_dir=str(tmp_path)
    )
    methods = CalibrationComparison(methods=[CalibrationMethod.temperature])
    calibrate(CalibrateRun(run=RunConfig(root=str(pair.root)), evaluate=target, calibrate=methods))
    calibrator = str(tmp_path / "calibrator.json")
    subject = open_subject(run_of(pair, tmp_path, pair.folder, split="test"), str(pair.folder), option="test")
    config, chosen = calibration_for(subject, calibrator)
    assert config.method is CalibrationMethod.temperature
    assert chosen == read_artifact(tmp_path / "calibrator.json", Calibrator).calibration
    with pytest.raises(FerError, match="was fitted on logits of another file"):
        calibration_for(replace(subject, stored=scored(pair, pair.teacher(0), split="test")), calibrator)


def test_evaluations_are_named_after_the_ensemble(pair: Pair) -> None:
    evaluate(run_of(pair, Path(), pair.folder, split="test", output_dir=None))
    sha256 = sha256_of(pair.folder / "ensemble.json")
    (folder,) = (pair.root / "evaluations").iterdir()
    evaluation = read_artifact(folder / "evaluation.json", Evaluation)
    assert evaluation.calibration_kept
    assert (evaluation.model, evaluation.rows_seen_in_training) == (str(pair.folder), 0)
    assert folder.name.startswith(f"{pair.folder.name}__ensemble.json_{sha256[:8]}__test_")


@pytest.mark.parametrize(
    ("export", "said"),
    [
        ({"which": ["best"]}, r"export\.which=\[best\] would have no effect: .* is an ensemble, which is one file"),
        ({"which": ["best"], "calibrator": "absent.json"}, r"export\.calibrator: no file absent\.json"),
    ],
)
def test_export_options_of_a_run_are_refused(pair: Pair, export: dict[str, Any], said: str) -> None:
    with pytest.raises(FerError, match=said):
        export_onnx(ExportOnnxRun(export=ExportTarget(run_dir=str(pair.folder), **export)))


def foreign(root: Path, pair: Pair, *splits: str) -> Path:
    """Write the logits of a teacher as those of a foreign model, split by split."""
    for number, split in enumerate(splits):
        stored = scored(pair, pair.teacher(0), split=split)
        record = replace(stored.record, kind="foreign", checkpoint=f"{split}.csv", canonical={}, calibration=None)
        write_stored_logits(root / f"{split}_{number}", replace(stored, record=record))
    return root


def test_foreign_logits_are_judged_by_split(pair: Pair, tmp_path: Path) -> None:
    given = foreign(tmp_path / "OTHER", pair, "val", "test")
    for split, n in ((None, "val"), ("val", "val"), ("test", "test")):
        stored = scored(pair, given, split=split, accelerator="auto")
        assert (stored.record.split, stored.record.checkpoint) == (n, f"{n}.csv")
    gates = GatesConfig(reference=str(given), max_macro_f1_drop=1.0)
    held = evaluated(pair, tmp_path / "held", pair.folder, split="test", gates=gates, num_resamples=100)
    assert held.gates is not None
    own = judged(pair, pair.teacher(0), split="test").result
    assert held.gates.gates[0].reference == pytest.approx(own.raw.macro_f1)
    with pytest.raises(FerError, match="holds logits of 0 sets of train rows; name one of"):
        evaluate(run_of(pair, tmp_path / "out", given, split="train"))
    shutil.copytree(given / "val_0", given / "val_again")
    with pytest.raises(FerError, match=r"holds logits of 2 sets of val rows; name one of .*val_0, .*val_again"):
        evaluate(run_of(pair, tmp_path / "out", given))


def test_a_foreign_teacher_is_fused_from_its_logits_and_is_no_network(pair: Pair, tmp_path: Path) -> None:
    given, ensemble = foreign(tmp_path / "OTHER", pair, "val", "test"), pair.read()
    stored = read_stored_logits(given / "val_0", option="test")
    other = replace(
        ensemble.teachers[0],
        given=str(given),
        kind="foreign",
        checkpoint="val.csv",
        checkpoint_sha256=stored.record.checkpoint_sha256,
    )
    folder = tmp_path / "MIXED"
    folder.mkdir()
    write_artifact(folder / "ensemble.json", replace(ensemble, teachers=[other, ensemble.teachers[1]]))
    assert torch.equal(
        scored(pair, folder, split="test").logits, scored(pair, pair.folder, split="test").logits
    )  # the same numbers under another name
    with pytest.raises(FerError, match=r"teacher A .* is of kind foreign, and a network is made of checkpoints"):
        export_onnx(ExportOnnxRun(export=ExportTarget(run_dir=str(folder))))
    write_artifact(
        folder / "ensemble.json",
        replace(ensemble, teachers=[replace(other, checkpoint_sha256="0" * 64), ensemble.teachers[1]]),
    )
    with pytest.raises(FerError, match="is no longer the teacher A"):
        scored(pair, folder)
