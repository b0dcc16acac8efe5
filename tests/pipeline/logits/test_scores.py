"""Scores: inferred once and then taken, unless model, rows, pictures, view or corruption are others."""

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.data.datamodule import eval_loader
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.pictures.store import DecodingStore
from fer_lightning.data.selection import select_rows
from fer_lightning.errors import FerError
from fer_lightning.pipeline.evaluation.config import Corruption, EvaluateRun, EvaluationTarget, View
from fer_lightning.pipeline.logits import infer_logits as slow_half
from fer_lightning.pipeline.logits import opened_models
from fer_lightning.pipeline.logits import scores as module
from fer_lightning.pipeline.logits.model_files import find_model
from fer_lightning.pipeline.logits.scores import scores_of
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.lock import RunLock
from fer_lightning.runs.stored_logits import StoredLogits, read_stored_logits
from fer_lightning.runs.stored_logits_record import LOGITS_FILE, RECORD_FILE
from fer_lightning.training.config import CalibrationConfig
from fer_lightning.training.scoring import classifier_scorer, score_rows
from tests.data.conftest import Row, Workshop, cycle_rows, make_box, make_row
from tests.runs.examples import IMAGE_SIZE, calibration, tiny_classifier, write_checkpoint


@pytest.fixture(autouse=True)
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Val rows of two sources, and a checkpoint in `run`, in the working directory."""
    monkeypatch.chdir(tmp_path)
    made = Workshop(tmp_path)
    made.write(some_rows(), draw=True)
    (tmp_path / "run").mkdir()
    write_checkpoint(tmp_path / "run" / "best.pt")
    return made


def some_rows() -> list[Row]:
    rows = cycle_rows(14, split="val")
    for row in rows[::3]:
        row["source"] = "web"
    rows.append({**make_row("photo.png", "Fear", "val"), **make_box(2, 4, 22, 14)})
    return rows


class Inferences:
    """Counts how often a model was run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._infer = slow_half.infer_logits
        monkeypatch.setattr(slow_half, "infer_logits", self)

    def __call__(
        self, asked: Sequence[module.Asked], run: EvaluateRun, *, option: str, shard_rows: int
    ) -> list[StoredLogits]:
        """Infer."""
        self.count += len(asked)
        return self._infer(asked, run, option=option, shard_rows=shard_rows)


@pytest.fixture
def inferences(monkeypatch: pytest.MonkeyPatch) -> Inferences:
    return Inferences(monkeypatch)


def the_run(view: View = View.single, *, reuse: bool = True) -> EvaluateRun:
    target = EvaluationTarget(view=view, reuse_logits=reuse, accelerator="cpu", batch_size=4)
    return EvaluateRun(run=RunConfig(root="out"), evaluate=target, data=DataConfig(num_workers=0))


def the_rows(manifest: str = "manifest.csv", group_columns: tuple[str, ...] = ("subject",)) -> EvaluationRows:
    data = DataConfig(manifest=manifest, num_workers=0, cache_dir="cache", group_columns=list(group_columns))
    selection = select_rows(data, SourceFilterConfig(), splits=("val",))
    return EvaluationRows(selection, "val", manifest, CalibrationConfig(), 0, 0)


def score(run: EvaluateRun | None = None, rows: EvaluationRows | None = None, **rendition: object) -> StoredLogits:
    model = find_model("run", option="evaluate.checkpoint")
    return scores_of(model, rows or the_rows(), run or the_run(), option="evaluate.checkpoint", **rendition)  # type: ignore[arg-type]


def plain_logits(rows: EvaluationRows, spec: CanonicalSpec) -> torch.Tensor:
    """Score the rows without any of this."""
    store = DecodingStore(rows.selection.manifest, spec)
    loader = eval_loader(rows.selection, "val", store, batch_size=4, num_workers=0)
    return score_rows(classifier_scorer(tiny_classifier(), torch.device("cpu")), loader, what="").logits


def folders() -> list[str]:
    return sorted(path.name for path in Path("out/logits").iterdir())


def same(first: StoredLogits, second: StoredLogits) -> None:
    assert first.record == second.record
    for name in ("logits", "labels", "groups", "face_sides"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert (first.row_ids, first.image_paths, first.sources) == (second.row_ids, second.image_paths, second.sources)


def test_a_second_call_takes_what_the_first_stored(inferences: Inferences, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rows = the_rows()
    first = score(rows=rows)
    assert "took the stored logits" not in caplog.text
    second = score(rows=rows)
    assert inferences.count == 1
    assert "took the stored logits of 15 val rows from out/logits/run__best.pt_" in caplog.text
    same(first, second)
    assert torch.equal(first.logits, plain_logits(rows, CanonicalSpec(size=IMAGE_SIZE)))
    manifest = rows.selection.manifest
    assert first.labels.tolist() == [*(number % 7 for number in range(14)), 2]
    assert first.sources == tuple(manifest.sources.tolist())
    assert first.image_paths == manifest.image_paths
    assert first.face_sides.tolist() == [24] * 14 + [12]
    assert first.groups.tolist() == rows.selection.groups("val").tolist()
    assert first.votes is None
    record = first.record
    assert (record.run_dir, record.checkpoint, record.epoch, record.weights) == ("run", "best.pt", 3, "trained")
    assert (record.manifest, record.n, record.requested_rows, record.rows_left_out) == ("manifest.csv", 15, 15, 0)
    assert (record.view, record.corruption, record.calibration) == ("single", "none", None)
    digest, rowset = record.checkpoint_sha256[:8], record.row_set_fingerprint[:8]
    assert folders() == [f"run__best.pt_{digest}__val_{rowset}__single"]
    same(read_stored_logits(Path("out/logits") / folders()[0], option="x"), first)


def test_a_second_process_neither_opens_the_model_nor_loads_timm() -> None:
    first = score()
    code = (
        "import sys\n"
        "from fer_lightning.data.config import DataConfig, SourceFilterConfig\n"
        "from fer_lightning.data.selection import select_rows\n"
        "from fer_lightning.pipeline.evaluation.config import EvaluateRun\n"
        "from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows\n"
        "from fer_lightning.pipeline.logits.model_files import find_model\n"
        "from fer_lightning.pipeline.logits.scores import scores_of\n"
        "from fer_lightning.runs.config import RunConfig\n"
        "from fer_lightning.training.config import CalibrationConfig\n"
        "model = find_model('run', option='x')\n"
        "data = DataConfig(manifest='manifest.csv', num_workers=0, cache_dir='cache', group_columns=['subject'])\n"
        "selection = select_rows(data, SourceFilterConfig(), splits=('val',))\n"
        "rows = EvaluationRows(selection, 'val', 'manifest.csv', CalibrationConfig(), 0, 0)\n"
        "assert 'torch' not in sys.modules\n"
        "stored = scores_of(model, rows, EvaluateRun(run=RunConfig(root='out')), option='x')\n"
        "assert not {'timm', 'lightning', 'onnxruntime'} & set(sys.modules)\n"
        "sys.stdout.write(stored.record.logits_sha256)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, first.record.logits_sha256), done.stderr


def test_what_is_asked_anew_is_inferred_anew(inferences: Inferences) -> None:
    first = score()
    again = score(the_run(reuse=False))
    assert inferences.count == 2
    same(first, again)
    write_checkpoint(Path("run/best.pt"), seed=1)
    other = score()
    assert inferences.count == 3
    assert not torch.equal(other.logits, first.logits)
    assert len(folders()) == 2


def test_views_and_renditions_have_folders_of_their_own(inferences: Inferences) -> None:
    rows, spec = the_rows(), CanonicalSpec(size=IMAGE_SIZE)
    plain, off = score(rows=rows), score(rows=rows, flip_clahe=True)
    assert off.record.corruption == "clahe-off"
    assert off.record.canonical_digest == replace(spec, clahe=False).digest()
    assert torch.equal(off.logits, plain_logits(rows, replace(spec, clahe=False)))
    grey = score(rows=rows, corruption=Corruption.grey, severity=5)
    assert grey.record.corruption == "grey-5"
    assert grey.record.canonical_digest == spec.digest()
    flip, ten = score(the_run(View.flip), rows), score(the_run(View.ten_crop), rows)
    assert (flip.record.view, ten.record.view) == ("flip", "ten_crop")
    assert ten.record.canonical["size"] == 37
    parts = [plain, off, grey, flip, ten]
    for index, one in enumerate(parts):
        for other in parts[:index]:
            assert not torch.equal(one.logits, other.logits)
    assert inferences.count == 5
    assert {name.split("__", 3)[3] for name in folders()} == {
        "single",
        "single__clahe-flipped",
        "single__grey-5",
        "flip",
        "ten_crop",
    }
    same(score(rows=rows, flip_clahe=True), off)
    same(score(rows=rows, corruption=Corruption.grey, severity=5), grey)
    same(score(the_run(View.ten_crop), rows), ten)
    assert inferences.count == 5


def test_a_picture_that_changed_is_looked_at_again(
    workshop: Workshop, inferences: Inferences, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = score()
    (workshop.root / "pictures/val003.png").write_bytes(workshop.draw("other.png").read_bytes())
    second = score()
    assert inferences.count == 2
    assert caplog.text.count("are inferred again: picture files have changed since") == 1
    differing = (first.logits != second.logits).any(dim=1)
    assert differing.nonzero().flatten().tolist() == [3]
    same(score(), second)
    os.utime(workshop.root / "pictures/val004.png", ns=(1, 1))
    assert torch.equal(score().logits, second.logits)
    assert inferences.count == 3


def test_another_manifest_of_the_same_rows_takes_the_logits_and_says_its_own(
    workshop: Workshop, inferences: Inferences
) -> None:
    first = score()
    rows = some_rows()[::-1]
    for number, row in enumerate(rows):
        row |= {"source": "raf", "subject": f"person{number // 5}"}
        row |= {f"vote_{name}": "2" for name in ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")}
    rows.append(make_row("pictures/val000.png", "Happy", "train"))
    rows[-1] |= make_box(0, 0, 9, 9)
    workshop.write(rows)
    now = the_rows()
    second = score(rows=now)
    assert inferences.count == 1
    assert torch.equal(second.logits, first.logits.flip(0))
    assert torch.equal(second.labels, first.labels.flip(0))
    assert torch.equal(second.face_sides, first.face_sides.flip(0))
    assert second.row_ids == first.row_ids[::-1]
    assert second.image_paths == first.image_paths[::-1]
    assert set(second.sources) == {"raf"}
    assert second.groups.tolist() == now.selection.groups("val").tolist()
    assert len(set(second.groups.tolist())) == 3
    assert second.votes is not None
    assert second.votes.tolist() == [[2.0] * 7] * 15
    assert second.record.manifest_sha256 == now.selection.manifest.sha256 != first.record.manifest_sha256


def test_groups_follow_the_columns_asked_for(workshop: Workshop, inferences: Inferences) -> None:
    rows = some_rows()
    for number, row in enumerate(rows):
        row["camera"] = f"camera{number % 2}"
    workshop.write(rows)
    assert len(set(score().groups.tolist())) == 15
    by_camera = score(rows=the_rows(group_columns=("camera",)))
    assert inferences.count == 1
    assert len(set(by_camera.groups.tolist())) == 4  # two sources, two cameras
    assert by_camera.record.group_columns == ["camera"]


def test_the_calibration_is_the_one_recorded_now(inferences: Inferences) -> None:
    first = score()
    write_artifact(Path("run/calibration.json"), calibration(first.record.checkpoint_sha256, "ab" * 32))
    rows = replace(the_rows(), rows_seen_in_training=4, rows_left_out=2, manifest="./manifest.csv")
    record = score(rows=rows).record
    assert record.calibration is not None
    assert record.calibration.calibration_temperature == 1.5
    assert (record.rows_seen_in_training, record.requested_rows, record.rows_left_out) == (4, 17, 2)
    assert record.manifest == "./manifest.csv"
    write_artifact(Path("run/calibration.json"), calibration("ab" * 32, "cd" * 32))
    assert score().record.calibration is None
    assert inferences.count == 1


@pytest.mark.parametrize("damage", ["arrays", "record", "no arrays"])
def test_a_damaged_store_is_inferred_again(
    inferences: Inferences, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    first = score()
    folder = Path("out/logits") / folders()[0]
    if damage == "arrays":
        (folder / LOGITS_FILE).write_bytes((folder / LOGITS_FILE).read_bytes()[:-9])
    elif damage == "record":
        (folder / RECORD_FILE).write_text("{")
    else:
        (folder / LOGITS_FILE).unlink()
    same(score(), first)
    assert inferences.count == 2
    warnings = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "are inferred again" in warnings[0]
    same(score(), first)
    assert inferences.count == 2


def test_a_record_of_another_checkpoint_under_the_name_is_not_taken(
    inferences: Inferences, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = score()
    folder = Path("out/logits") / folders()[0]
    forged = replace(first.record, checkpoint_sha256=first.record.checkpoint_sha256[:8] + "0" * 56)
    write_artifact(folder / RECORD_FILE, forged)
    same(score(), first)
    assert inferences.count == 2
    assert f"their checkpoint_sha256 is {forged.checkpoint_sha256[:12]}, not" in caplog.text
    write_artifact(folder / RECORD_FILE, replace(first.record, corruption="blur-1"))
    same(score(), first)
    assert "their corruption is blur-1, not none" in caplog.text
    write_artifact(folder / RECORD_FILE, replace(first.record, canonical_digest="ab" * 32))
    same(score(), first)
    assert "this version prepares pictures in another way" in caplog.text
    assert inferences.count == 4


def test_an_interrupted_inference_leaves_nothing_to_take(
    inferences: Inferences, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(slow_half, "score_shards", interrupted)
        with pytest.raises(KeyboardInterrupt):
            score()
    assert [path.name for path in (Path("out/logits") / folders()[0]).iterdir() if ".lock" not in path.name] == []
    score()
    score()
    assert inferences.count == 2


def test_logits_that_are_not_finite_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened_models, "classifier_scorer", lambda *_: lambda p: torch.full((len(p), 7), float("nan")))
    with pytest.raises(FerError, match="logits are not finite in 15 of 15 rows"):
        score()


def test_the_logits_outlive_a_full_disk(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fer_lightning.runs.stored_logits.write_atomically", full)
    rows = the_rows()
    assert torch.equal(score(rows=rows).logits, plain_logits(rows, CanonicalSpec(size=IMAGE_SIZE)))
    assert "No space left on device" in caplog.text


def test_a_folder_that_cannot_be_made_is_refused() -> None:
    Path("out").write_text("a file")
    with pytest.raises(FerError, match=r"cannot write to out/logits: Not a directory; choose another run.root"):
        score()


def test_the_lock_of_an_evaluation_is_no_obstacle() -> None:
    score()
    with RunLock(Path("out/logits") / folders()[0]):
        assert np.isfinite(score().logits.numpy()).all()
        assert np.isfinite(score(the_run(reuse=False)).logits.numpy()).all()


def test_an_onnx_file_keeps_its_own_calibration(inferences: Inferences) -> None:
    from fer_lightning.deploy.onnx_export import export_run

    digest = find_model("run", option="x").sha256
    write_artifact(Path("run/calibration.json"), calibration(digest, "ab" * 32))
    export_run(Path("run"), ["best"])
    model = find_model("run/best.onnx", option="x")
    first = scores_of(model, the_rows(), the_run(), option="x")
    Path("run/calibration.json").unlink()
    second = scores_of(model, the_rows(), the_run(), option="x")
    assert inferences.count == 1
    same(first, second)
    assert second.record.calibration is not None
    assert second.record.calibration.calibration_temperature == 1.5
    assert first.logits.numpy() == pytest.approx(score().logits.numpy(), abs=1e-3)


def test_a_model_replaced_while_it_is_opened_is_refused() -> None:
    model = find_model("run", option="x")
    write_checkpoint(Path("run/best.pt"), seed=1)
    with pytest.raises(FerError, match=r"x: run/best.pt was replaced while it was opened"):
        scores_of(model, the_rows(), the_run(), option="x")


def test_a_folder_that_cannot_be_written_is_refused_before_a_model_is_loaded(inferences: Inferences) -> None:
    Path("file").write_text("")
    run = replace(the_run(), run=RunConfig(root="file/runs"))
    with pytest.raises(FerError, match="cannot write to file/runs/logits: Not a directory; choose another run.root"):
        scores_of(find_model("run", option="x"), the_rows(), run, option="x")
    assert inferences.count == 0
