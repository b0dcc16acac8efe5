"""One real export for the whole file: it takes seconds."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fer_lightning.data.batches.augment import to_float
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.deploy import onnx_export
from fer_lightning.deploy.ensemble_export import export_ensemble
from fer_lightning.deploy.onnx_classifier import open_onnx
from fer_lightning.errors import FerError, TrainingError
from fer_lightning.files import sha256_of
from fer_lightning.labels import EMOTIONS
from fer_lightning.runs.artifacts import OnnxExport, OnnxRecord, read_artifact, write_artifact
from fer_lightning.runs.calibration_report import Calibrator
from fer_lightning.runs.ensemble_file import read_ensemble
from fer_lightning.runs.ensemble_network import read_ensemble_network
from tests.runs.ensemble_examples import write_ensemble, write_pair
from tests.runs.examples import IMAGE_SIZE, MANIFEST_SHA256, calibration_record, example


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_pair(tmp_path_factory.mktemp("root"), space="prob", weights=(0.4, 0.6), temperatures=(1.5, 3.0))
    export_ensemble(folder)
    return folder


def pictures(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.randint(0, 256, (count, 3, IMAGE_SIZE, IMAGE_SIZE), generator=generator).to(torch.uint8)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_one_graph_follows_the_whole_ensemble(exported: Path, count: int) -> None:
    model = open_onnx(exported / "ensemble.onnx", option="o")
    network = read_ensemble_network(exported, option="o").build()
    with torch.inference_mode():
        expected = network(to_float(pictures(count)))
    torch.testing.assert_close(model(pictures(count)), expected, rtol=0, atol=1e-4)


def test_the_file_carries_what_a_consumer_needs(exported: Path) -> None:
    canonical = CanonicalSpec(size=IMAGE_SIZE)
    assert open_onnx(exported / "ensemble.onnx", option="o").record == OnnxRecord(
        emotions=list(EMOTIONS),
        canonical=dict(vars(canonical)),
        canonical_digest=canonical.digest(),
        checkpoint="ensemble.json",
        checkpoint_sha256=sha256_of(exported / "ensemble.json"),
        epoch=-1,
        weights="prob fusion of 0.4 T0 + 0.6 T1",
        manifest_sha256=MANIFEST_SHA256,
        calibration=calibration_record(1.3),
    )


def test_its_parity_is_recorded(exported: Path) -> None:
    (parity,) = read_artifact(exported / "onnx.json", OnnxExport).files
    assert (parity.file, parity.sha256) == ("ensemble.onnx", sha256_of(exported / "ensemble.onnx"))
    assert parity.checkpoint_sha256 == sha256_of(exported / "ensemble.json")
    assert (parity.checkpoint, parity.batch_sizes, parity.same_argmax) == ("ensemble.json", [1, 2, 5], True)
    assert 0 <= parity.max_abs_logit_difference <= 1e-3
    assert {path.name for path in exported.iterdir()} == {"ensemble.json", "ensemble.onnx", "onnx.json"}


@pytest.fixture
def cheap_export(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the exporter answer with this file's ensemble, whatever it is asked to export."""
    data = (exported / "ensemble.onnx").read_bytes()
    monkeypatch.setattr(onnx_export, "_export", lambda _model, _example, path, _record: path.write_bytes(data))


@pytest.mark.usefixtures("cheap_export")
def test_a_file_that_does_not_follow_its_ensemble_is_not_written(tmp_path: Path) -> None:
    folder = write_pair(tmp_path, space="prob", weights=(0.9, 0.1))
    (folder / "ensemble.onnx").write_bytes(b"an earlier export")
    with pytest.raises(TrainingError, match=r"ensemble\.onnx differs from ensemble\.json by up to .* not written"):
        export_ensemble(folder)
    assert (folder / "ensemble.onnx").read_bytes() == b"an earlier export"
    assert not (folder / "onnx.json").exists()


@pytest.mark.usefixtures("cheap_export")
def test_its_calibration_is_that_of_the_ensemble_or_the_one_named(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written: list[OnnxRecord] = []
    cheap = onnx_export._export

    def watched(model: nn.Module, example: torch.Tensor, path: Path, record: OnnxRecord) -> None:
        written.append(record)
        cheap(model, example, path, record)

    monkeypatch.setattr(onnx_export, "_export", watched)
    ensemble = read_ensemble(exported, option="o")
    folder = write_ensemble(tmp_path / "PAIR", ensemble)
    calibrator = replace(
        example(Calibrator),
        checkpoint="ensemble.json",
        checkpoint_sha256=sha256_of(folder / "ensemble.json"),
        view="single",
        calibration=calibration_record(9.0),
    )
    write_artifact(tmp_path / "calibrator.json", calibrator)
    export_ensemble(folder, calibrator=tmp_path / "calibrator.json")
    assert written[0].calibration == calibration_record(9.0)
    write_artifact(tmp_path / "calibrator.json", replace(calibrator, checkpoint_sha256="0" * 64))
    with pytest.raises(FerError, match=r"export\.calibrator=.* was fitted on logits of another file"):
        export_ensemble(folder, calibrator=tmp_path / "calibrator.json")
    write_ensemble(folder, replace(ensemble, calibration=None))
    export_ensemble(folder)
    assert written[1].calibration is None
    assert "no calibration recorded for this ensemble" in caplog.text
