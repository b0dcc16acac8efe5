"""The verb `export_softlabels`: what it writes is what the teachers say of the pictures, or nothing is written at all."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from numpy.typing import NDArray

from fer_lightning.data.batches.crop_views import CropView, crop_draws, view_picture
from fer_lightning.data.config import DataConfig
from fer_lightning.data.pictures.canonical import CanonicalSpec, Picture, canonical_picture, decode
from fer_lightning.data.rows.manifest import read_manifest
from fer_lightning.errors import FerError, FinishedRunError, TrainingError
from fer_lightning.pipeline.evaluation.config import EvaluationCalibration, View
from fer_lightning.pipeline.export_softlabels import export_softlabels
from fer_lightning.pipeline.logits import teacher_scores
from fer_lightning.runs.artifacts import read_artifact, write_artifact
from fer_lightning.runs.checkpoint import read_checkpoint
from fer_lightning.runs.checkpoint_file import CHECKPOINT_KEY
from fer_lightning.runs.ensemble import Ensemble, EnsembleMetrics
from fer_lightning.runs.softlabel_proofs import FILES
from fer_lightning.runs.softlabels import SoftLabelAlignment, SoftLabels
from fer_lightning.runs.softlabels_file import read_softlabels
from fer_lightning.runs.stored_logits import read_stored_logits, write_stored_logits
from fer_lightning.training.config import CalibrationMethod
from tests.data.conftest import Workshop, make_box, make_row
from tests.pipeline.exported_softlabels import export_run, only_export, write_ensemble, write_figures
from tests.pipeline.recorded_teachers import record_rows, three_splits, write_teacher
from tests.runs.examples import calibration

A, B = "runs/A_tiny", "runs/B_tiny"


@pytest.fixture(autouse=True)
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Rows of three splits, two of them boxes of one photo, and two teachers of different size, in the working directory."""
    monkeypatch.chdir(tmp_path)
    made = Workshop(tmp_path)
    boxes = [
        {**make_row("pictures/photo.png", "Fear"), **make_box(0, 0, 12, 12)},
        {**make_row("pictures/photo.png", "Sad"), **make_box(8, 8, 24, 24)},
    ]
    made.write([*boxes, *three_splits()], draw=True)
    record_rows(write_teacher(Path(A), seed=1), made.manifest)
    record_rows(write_teacher(Path(B), seed=2, size=40), made.manifest)
    return made


def pictures(split: str, size: int) -> tuple[list[str], list[Picture]]:
    """Decode the rows of a split one after the other."""
    manifest, spec = read_manifest(Path("manifest.csv")), CanonicalSpec(size=size)
    rows = np.flatnonzero(manifest.splits == split)
    boxes = [None if box[0] < 0 else box for box in manifest.bboxes[rows].tolist()]
    paths = [manifest.image_paths[row] for row in rows]
    made = [canonical_picture(decode(Path(path)), box, spec) for path, box in zip(paths, boxes, strict=True)]
    return [manifest.row_ids[row] for row in rows], made


def logits_of(run_dir: str, shown: list[Picture]) -> NDArray[np.float64]:
    """Run a checkpoint on whole pictures, as its classifier takes them."""
    classifier = read_checkpoint(Path(run_dir) / "best.pt", option="x").build().eval()
    batch = torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        return classifier(batch).double().numpy()  # type: ignore[no-any-return]


def read(folder: Path | None = None) -> SoftLabels:
    return read_softlabels(only_export() if folder is None else folder, option="x")


def near(found: torch.Tensor, expected: NDArray[np.float64]) -> None:
    """Compare within the rounding of float16 and of other batches."""
    torch.testing.assert_close(found.double().numpy(), expected, rtol=1e-3, atol=2e-3)


def test_one_teacher_on_two_splits() -> None:
    export_softlabels(export_run(A, splits=["val", "train"]))
    softlabels = read()
    (val_ids, val), (train_ids, train) = pictures("val", 32), pictures("train", 32)
    assert softlabels.row_ids == (*val_ids, *train_ids)
    assert softlabels.splits == ("val",) * 21 + ("train",) * 16
    near(softlabels.logits, np.concatenate([logits_of(A, val), logits_of(A, train)]))
    manifest = read_manifest(Path("manifest.csv"))
    label_of = dict(zip(manifest.row_ids, manifest.labels.tolist(), strict=True))
    assert softlabels.labels.tolist() == [label_of[row_id] for row_id in softlabels.row_ids]
    record = softlabels.record
    assert (record.manifest, record.manifest_sha256, record.dtype) == ("manifest.csv", manifest.sha256, "float16")
    assert record.canonical_digests == [CanonicalSpec(size=32).digest()]
    assert only_export().name.startswith("A_tiny__val-")
    assert softlabels.teacher_logits is None
    assert (record.ensemble_temperature, record.teacher_temperatures) == (None, [None])


@pytest.mark.parametrize("space", ["logit", "prob"])
def test_an_ensemble_is_fused_as_it_is_deployed(space: str) -> None:
    ensemble = write_ensemble(
        Path("out/ensembles/AB"), [A, B], weights=[0.7, 0.3], temperatures=[2.0, 0.5], space=space
    )
    export_softlabels(export_run(ensemble, dtype="float32"))
    first = logits_of(A, pictures("train", 32)[1]) / 2.0
    second = logits_of(B, pictures("train", 40)[1]) / 0.5
    fused = 0.7 * first + 0.3 * second
    if space == "prob":
        fused = np.log(0.7 * scipy.special.softmax(first, axis=1) + 0.3 * scipy.special.softmax(second, axis=1))
    softlabels = read()
    np.testing.assert_allclose(softlabels.logits.numpy(), fused, rtol=1e-4, atol=1e-4)
    assert softlabels.teacher_logits is not None
    raw = np.stack([2.0 * first, 0.5 * second])[None]
    np.testing.assert_allclose(softlabels.teacher_logits.numpy(), raw, rtol=1e-4, atol=1e-4)
    folder = only_export()
    assert (folder / "ensemble.json").read_bytes() == Path("out/ensembles/AB/ensemble.json").read_bytes()
    assert [teacher.weight for teacher in softlabels.record.teachers] == [0.7, 0.3]
    assert [canonical["size"] for canonical in softlabels.record.canonicals] == [32, 40]


def test_views_are_those_that_can_be_seen_again() -> None:
    ensemble = write_ensemble(Path("AB"), [A, B], weights=[0.5, 0.5])
    export_softlabels(export_run(ensemble, flip=True, crops=2, crop_scale_min=0.5, crop_ratio_max=1.3, seed=7))
    softlabels = read()
    assert [view.name for view in softlabels.record.views] == ["single", "flip", "crop-0", "crop-1"]
    assert softlabels.view_logits is not None
    assert softlabels.view_draws is not None
    assert softlabels.teacher_logits is not None
    assert softlabels.teacher_logits.shape == (4, 2, 16, 7)
    (row_ids, small), (_, large) = pictures("train", 32), pictures("train", 40)
    near(softlabels.teacher_logits[0], np.stack([logits_of(A, small), logits_of(B, large)]))
    mirrored = [[one[:, ::-1] for one in kind] for kind in (small, large)]
    own = np.stack([logits_of(A, mirrored[0]), logits_of(B, mirrored[1])])
    near(softlabels.view_logits[0], own.mean(axis=0))
    near(softlabels.teacher_logits[1], own)
    for index in range(2):
        view = CropView(index, 7, 0.5, 1.3)
        draws = crop_draws(view, row_ids)
        np.testing.assert_array_equal(softlabels.view_draws[index + 1].numpy(), draws)
        shown = [
            [view_picture(one, draw, view) for one, draw in zip(kind, draws, strict=True)] for kind in (small, large)
        ]
        own = np.stack([logits_of(A, shown[0]), logits_of(B, shown[1])])
        near(softlabels.view_logits[index + 1], own.mean(axis=0))
        near(softlabels.teacher_logits[index + 2], own)


def test_recorded_draws_and_views_show_the_same_pictures() -> None:
    export_softlabels(export_run(A, flip=True, crops=1))
    softlabels = read()
    assert softlabels.view_logits is not None
    assert softlabels.view_draws is not None
    shown = pictures("train", 32)[1]
    for number, view in enumerate(softlabels.record.views[1:]):
        draws = softlabels.view_draws[number].numpy()
        again = [view_picture(one, draw, view) for one, draw in zip(shown, draws, strict=True)]
        near(softlabels.view_logits[number], logits_of(A, again))


def test_rows_of_the_teachers_without_a_manifest() -> None:
    export_softlabels(export_run(A, data=DataConfig(num_workers=0)))
    folder = only_export()
    assert read().row_ids == tuple(pictures("train", 32)[0])
    assert read_artifact(folder / "alignmentreport.json", SoftLabelAlignment).source_filter.startswith(
        "as the run of runs/A"
    )


def test_report_and_figures() -> None:
    ensemble = write_ensemble(Path("AB"), [A, B], weights=[0.7, 0.3])
    export_softlabels(export_run(ensemble, splits=["train", "val"], verify_rows=5))
    folder = only_export()
    report = read_artifact(folder / "alignmentreport.json", SoftLabelAlignment)
    assert report.rows_exported == report.rows_requested == {"train": 16, "val": 21}
    assert report.rows_seen_in_training == {"train": 16, "val": 0}
    assert report.sources == {"ferplus": 25, "web": 12}
    assert report.verified_rows == 5
    assert 0 < report.max_abs_difference <= report.tolerance
    figures = json.loads((folder / "ensemble_metrics.json").read_text())
    assert {"accuracy", "macro_f1", "per_class_f1", "nll", "ece", "brier"} <= figures.keys()
    metrics, softlabels = read_artifact(folder / "ensemble_metrics.json", EnsembleMetrics), read()
    logits, labels = softlabels.logits[:16].double().numpy(), softlabels.labels[:16].numpy()
    assert metrics.accuracy == (logits.argmax(1) == labels).mean()
    expected = -scipy.special.log_softmax(logits, axis=1)[np.arange(16), labels].mean()
    assert metrics.nll == pytest.approx(expected, abs=1e-12)
    assert [judged.split for judged in metrics.evaluated] == ["train", "val"]
    assert metrics.teachers.keys() == {"A_tiny", "B_tiny"}
    assert metrics.evaluated[0].checkpoint_sha256 == softlabels.record.ensemble_sha256
    assert metrics.evaluated[0].scaled is not None


def test_a_single_teacher_is_an_ensemble_of_one() -> None:
    export_softlabels(export_run(f"{A}/best.pt"))
    ensemble = read_artifact(only_export() / "ensemble.json", Ensemble)
    assert [(teacher.name, teacher.weight, teacher.given) for teacher in ensemble.teachers] == [
        ("A", 1.0, f"{A}/best.pt")
    ]
    assert only_export().name.startswith("A_tiny_best.pt__train-")


def test_a_teacher_without_weight_is_not_needed() -> None:
    ensemble = write_ensemble(Path("AB"), [A, B], weights=[1.0, 0.0])
    (Path(B) / "best.pt").unlink()
    export_softlabels(export_run(ensemble))
    near(read().logits, logits_of(A, pictures("train", 32)[1]))
    assert read().teacher_logits is None


def test_temperatures_that_were_fitted_with_the_ensemble() -> None:
    ensemble = write_ensemble(Path("AB"), [A, B], weights=[0.7, 0.3])
    write_figures(ensemble, {"A_tiny": 1.4, "B_tiny": 0.8})
    export_softlabels(export_run(ensemble))
    record = read().record
    assert (record.ensemble_temperature, record.teacher_temperatures) == (1.7, [1.4, 0.8])


def test_temperatures_of_teachers_that_were_scaled_before_fusion() -> None:
    ensemble = write_ensemble(Path("AB"), [A, B], weights=[0.7, 0.3], temperatures=[1.4, 1.0])
    export_softlabels(export_run(ensemble))
    assert read().record.teacher_temperatures == [1.4, None]
    write_figures(ensemble, {"B_tiny": 0.8})
    with pytest.raises(FerError, match=r"holds another export:\n  teacher_temperatures: recorded \[1\.4, None\], now"):
        export_softlabels(export_run(ensemble))


def test_the_temperature_of_a_single_teachers_own_run() -> None:
    file = Path(A) / "best.pt"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    write_artifact(Path(A) / "calibration.json", calibration(digest, "0" * 64))
    export_softlabels(export_run(A))
    record = read().record
    assert (record.ensemble_temperature, record.teacher_temperatures) == (1.5, [1.5])


def test_half_precision_overflow_of_one_teacher_alone() -> None:
    record_rows(write_teacher(Path("runs/C_large"), seed=1, scale=1e6), Path("manifest.csv").absolute())
    ensemble = write_ensemble(Path("AC"), [A, "runs/C_large"], weights=[0.5, 0.5], temperatures=[1.0, 1e5])
    with pytest.raises(FerError, match=r"softlabels, teacher C_large, single view: float16 .* of 16 rows: pictures/"):
        export_softlabels(export_run(ensemble))
    assert not Path("out/softlabels").exists()
    export_softlabels(export_run(ensemble, dtype="float32"))
    assert float(read().logits.abs().max()) < 65504


def test_other_logits_of_a_teacher_that_were_stored_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one teacher gains the other one loses, so that the fused logits stay."""
    ensemble = write_ensemble(Path("AB"), [A, B], weights=[0.5, 0.5])
    export_softlabels(export_run(ensemble))
    for sign, name in ((1, "A_tiny"), (-1, "B_tiny")):
        (record,) = Path("out/logits").glob(f"{name}*train*/storedlogits.json")
        stored = read_stored_logits(record.parent, option="x")
        write_stored_logits(record.parent, replace(stored, logits=stored.logits + sign))
    monkeypatch.setattr(teacher_scores, "_scores", type(teacher_scores._scores)())  # as another process
    with pytest.raises(FerError, match=r"224 of its 336 logits are not those that would be exported now"):
        export_softlabels(export_run(ensemble, resume=True))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_a_finished_export() -> None:
    export_softlabels(export_run(A))
    before = contents(only_export())
    with pytest.raises(FerError, match="holds this very export already"):
        export_softlabels(export_run(A))
    with pytest.raises(FinishedRunError, match="is complete, and every digest in it holds"):
        export_softlabels(export_run(A, resume=True))
    assert contents(only_export()) == before
    (only_export() / "softlabels.npz").write_bytes(before["softlabels.npz"][:-9])
    with pytest.raises(FerError, match=r"softlabels\.npz"):
        export_softlabels(export_run(A, resume=True))


def test_a_finished_export_of_pictures_that_have_changed_since(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_softlabels(export_run(A))
    monkeypatch.setattr(teacher_scores, "_scores", type(teacher_scores._scores)())  # as another process
    photo = workshop.root / "pictures/photo.png"
    photo.write_bytes(workshop.draw("another.png").read_bytes())
    with pytest.raises(
        FerError, match=r"is whole, but \d+ of its \d+ logits are not those that would be exported now"
    ) as refusal:
        export_softlabels(export_run(A, resume=True))
    assert not isinstance(refusal.value, FinishedRunError)


def test_an_export_of_an_earlier_version() -> None:
    export_softlabels(export_run(A))
    file = only_export() / "hash_manifest.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"schema_version": 2', '"schema_version": 1'))
    with pytest.raises(FerError, match=r"schema version 2 but of 1: .* Remove the folder and export again"):
        export_softlabels(export_run(A, resume=True))


@pytest.mark.parametrize("count", range(1, len(FILES)))
def test_an_unfinished_export_is_finished(count: int) -> None:
    export_softlabels(export_run(A, crops=1))
    before = contents(only_export())
    for name in FILES[-count:]:
        (only_export() / name).unlink()
    export_softlabels(export_run(A, crops=1))
    assert contents(only_export()) == before


def test_another_request_under_the_same_name() -> None:
    write_ensemble(Path("AB"), [A, B], weights=[0.7, 0.3])
    export_softlabels(export_run("AB"))
    write_ensemble(Path("AB"), [A, B], weights=[0.6, 0.4])
    with pytest.raises(FerError, match=r"holds another export:\n  ensemble_sha256: .*\n  teachers: "):
        export_softlabels(export_run("AB"))
    export_softlabels(export_run("AB", tag="even"))
    assert len(list(Path("out/softlabels").iterdir())) == 2


def test_names_carry_what_changes_the_content() -> None:
    options: list[dict[str, Any]] = [{}, {"flip": True}, {"crops": 1}, {"crops": 1, "seed": 3}, {"dtype": "float32"}]
    for changes in options:
        export_softlabels(export_run(A, verify_rows=0, **changes))
    names = sorted(path.name.partition("__")[2].partition("__")[2] for path in Path("out/softlabels").iterdir())
    assert names == ["", "crops1_s0.8_r1.1_seed1337", "crops1_s0.8_r1.1_seed3", "flip", "float32"]


def test_strange_files_are_left_alone() -> None:
    export_softlabels(export_run(A))
    folder = only_export()
    for name in FILES:
        (folder / name).unlink()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FerError, match=r"no soft labels \(notes\.txt\)"):
        export_softlabels(export_run(A))


def test_another_checkpoint_under_the_same_name() -> None:
    ensemble = write_ensemble(Path("AB"), [A, B], weights=[0.7, 0.3])
    write_teacher(Path(B), seed=3, size=40)
    with pytest.raises(
        FerError, match=r"runs/B_tiny/best\.pt is no longer the teacher B_tiny that the ensemble was made of"
    ):
        export_softlabels(export_run(ensemble))


def test_other_pictures_than_those_of_the_ensemble() -> None:
    folder = write_ensemble(Path("AB"), [A, B], weights=[0.7, 0.3])
    ensemble = read_artifact(Path(folder) / "ensemble.json", Ensemble)
    other = replace(ensemble.teachers[1], canonical_digest=CanonicalSpec(size=40, clahe=False).digest())
    write_artifact(Path(folder) / "ensemble.json", replace(ensemble, teachers=[ensemble.teachers[0], other]))
    with pytest.raises(FerError, match=r"runs/B_tiny are of another preparation of the pictures \(canonical digest"):
        export_softlabels(export_run(folder))


def test_a_teacher_trained_on_other_classes() -> None:
    file = Path(A) / "best.pt"
    content = torch.load(file, weights_only=True)
    emotions = content[CHECKPOINT_KEY]["emotions"]
    content[CHECKPOINT_KEY]["emotions"] = [*emotions[:-1], "Contempt"]
    torch.save(content, file)
    with pytest.raises(FerError, match="class order .*Contempt"):
        export_softlabels(export_run(A))
    assert not Path("out/softlabels").exists()


def test_half_precision_overflow() -> None:
    record_rows(write_teacher(Path("runs/C_large"), seed=1, scale=1e6), Path("manifest.csv").absolute())
    with pytest.raises(FerError, match=r"float16 .* of 16 rows: pictures/"):
        export_softlabels(export_run("runs/C_large"))
    assert not Path("out/softlabels").exists()
    export_softlabels(export_run("runs/C_large", dtype="float32"))
    assert float(read().logits.abs().max()) > 65504


def tamper(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Store other logits than the teacher's under its name."""
    for record in Path("out/logits").glob("*train*/storedlogits.json"):
        stored = read_stored_logits(record.parent, option="x")
        write_stored_logits(record.parent, replace(stored, logits=change(stored.logits)))


def test_rows_that_were_inferred_again_are_others() -> None:
    export_softlabels(export_run(A, tag="first"))
    tamper(lambda logits: logits.roll(1, dims=0))
    with pytest.raises(TrainingError, match=r"of 16 rows that were inferred again are not those .*\(row \d+, single\)"):
        export_softlabels(export_run(A, tag="second"))
    unfinished = next(Path("out/softlabels").glob("*__second"))
    assert not (unfinished / "alignmentreport.json").exists()
    with pytest.raises(FerError, match="not finished"):
        read(unfinished)


def test_a_double_softmax_is_not_exported() -> None:
    export_softlabels(export_run(A, tag="first"))
    tamper(lambda logits: logits.softmax(1).log())
    with pytest.raises(TrainingError):  # log-probabilities are logits of another scale
        export_softlabels(export_run(A, tag="second"))
    with pytest.raises(FerError, match="probabilities"):
        tamper(lambda logits: logits.softmax(1))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: export_run(None), "softlabels.ensemble=<folder"),
        (lambda: export_run("nowhere"), "softlabels.ensemble"),
        (lambda: export_run(A, evaluate={"split": "val"}), "evaluate.split=val would have no effect"),
        (lambda: export_run(A, evaluate={"view": View.flip}), "evaluate.view=flip would have no effect"),
        (
            lambda: replace(export_run(A), calibration=EvaluationCalibration(method=CalibrationMethod.vector)),
            "calibration.method",
        ),
        (
            lambda: export_run(write_ensemble(Path("AB"), [A, B], weights=[1, 0], view="flip")),
            "calibrated on view flip",
        ),
        (lambda: export_run(write_ensemble(Path("AB"), [A, B], weights=[1, 1])), "shares sum to 1"),
    ],
)
def test_refusals(run: Callable[[], Any], message: str) -> None:
    with pytest.raises(FerError) as refusal:
        export_softlabels(run())
    assert message in str(refusal.value)


_KILLED = """
import os, signal, sys
from fer_lightning.data.config import DataConfig
from fer_lightning.pipeline import export_softlabels
from fer_lightning.pipeline.logits import infer_logits
from fer_lightning.pipeline.evaluation.config import EvaluationTarget
from fer_lightning.pipeline.softlabels.config import ExportSoftlabelsRun, SoftlabelsConfig
from fer_lightning.runs import artifacts, logit_shards, softlabels_file
from fer_lightning.runs.config import RunConfig

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "inferring":
    logit_shards.LogitShards.release = die
if sys.argv[1] == "writing":
    softlabels_file.write_text_atomically = die
run = ExportSoftlabelsRun(
    run=RunConfig(root="killed"),
    evaluate=EvaluationTarget(accelerator="cpu", batch_size=4),
    data=DataConfig(manifest="manifest.csv", num_workers=0),
    softlabels=SoftlabelsConfig(ensemble="runs/A_tiny", crops=1),
)
export_softlabels.export_softlabels(run)
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["inferring", "writing"])
def test_killed_and_started_again_equals_uninterrupted(when: str) -> None:
    export_softlabels(export_run(A, crops=1))
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    killed = subprocess.run([sys.executable, "-c", _KILLED, when], check=False, env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = list(Path("killed").glob("softlabels/*/*"))
    assert not any(path.name == "alignmentreport.json" for path in left)
    assert any(path.name == "softlabels.npz" for path in left) is (when == "writing")
    export_softlabels(export_run(A, root="killed", crops=1))
    assert contents(only_export("killed")) == contents(only_export())
