"""A model is found by its run or its file; what is none is refused with the way to one."""

from pathlib import Path

import pytest

from fer_lightning.errors import FerError
from fer_lightning.pipeline.logits.model_files import find_model, names_stored_logits, refuse_twins
from fer_lightning.runs.stored_logits import write_stored_logits
from tests.runs.ensemble_examples import ensemble_of, teacher, write_ensemble
from tests.runs.examples import write_checkpoint
from tests.runs.stored_examples import stored_logits


def test_models_are_found_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("pictures", "run"):
        Path(folder).mkdir()
    write_checkpoint(Path("run/best.pt"))
    model = find_model("run", option="evaluate.checkpoint")
    assert model == find_model("run/best.pt", option="evaluate.checkpoint")
    assert model.path == Path("run/best.pt")
    Path("broken.pt").write_bytes(b"no archive")
    for place in ("kept", "POSTER/val_1"):
        write_stored_logits(Path(place), stored_logits())
    write_ensemble(Path("PAIR"), ensemble_of([teacher(Path("run"), "RN18")]))
    export = r"PAIR.* is an ensemble; export it with task=export_onnx export\.run_dir=PAIR and name its ensemble\.onnx"
    for given, message in (
        (None, r"evaluate.checkpoint=<best.pt, .*> is needed"),
        ("nowhere", "evaluate.checkpoint: no file nowhere"),
        ("nowhere.onnx", "evaluate.checkpoint: no file nowhere.onnx"),
        ("pictures", "evaluate.checkpoint: no file pictures/best.pt"),
        ("broken.pt", "broken.pt is not a checkpoint"),
        ("PAIR", export),
        ("PAIR/ensemble.json", export),
        ("kept", "kept holds stored logits, which see no pictures; name the checkpoint or ONNX file itself"),
        ("kept/logits.npy", "logits.npy holds stored logits"),
        ("POSTER", "POSTER holds stored logits"),
    ):
        with pytest.raises(FerError, match=message):
            find_model(given, option="evaluate.checkpoint")


def test_a_run_is_no_stored_logits_whatever_lies_below_it(tmp_path: Path) -> None:
    write_stored_logits(tmp_path / "run" / "kept", stored_logits())
    assert names_stored_logits(str(tmp_path / "run"))
    write_checkpoint(tmp_path / "run" / "best.pt")
    assert not names_stored_logits(str(tmp_path / "run"))
    assert names_stored_logits(str(tmp_path / "run" / "kept"))


def test_one_model_under_two_names_is_refused() -> None:
    refuse_twins([("1a", "A"), ("2b", "B")], option="o")
    for second in ("B", "A"):
        with pytest.raises(FerError, match=f"o names the same model twice: A and {second}"):
            refuse_twins([("1a", "A"), ("1a", second)], option="o")
