"""Teachers that cannot be fused are refused before anything is inferred."""

from dataclasses import replace
from pathlib import Path

import pytest

from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.pipeline.ensembles.config import EnsembleConfig, FuseEnsembleRun
from fer_lightning.pipeline.ensembles.fused_teachers import open_fused_teachers
from fer_lightning.runs.artifacts import ONNX_RECORD_FILE, OnnxExport, OnnxParity, write_artifact
from fer_lightning.runs.stored_logits import write_stored_logits
from tests.runs.examples import example, write_checkpoint
from tests.runs.stored_examples import stored_logits


def the_run(*teachers: Path, judge_test: bool = True) -> FuseEnsembleRun:
    given = [str(teacher) for teacher in teachers]
    return FuseEnsembleRun(ensemble=EnsembleConfig(teachers=given, judge_test=judge_test))


def test_a_checkpoint_and_its_export_are_one_network(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "best.pt")
    onnx = tmp_path / "best.onnx"
    onnx.write_bytes(b"weights")
    parity = replace(
        example(OnnxParity),
        file=onnx.name,
        sha256=sha256_of(onnx),
        checkpoint_sha256=sha256_of(tmp_path / "best.pt"),
    )
    write_artifact(tmp_path / ONNX_RECORD_FILE, replace(example(OnnxExport), files=[parity]))
    with pytest.raises(FerError, match=r"ensemble.teachers names the same model twice: .*/best.pt and .*/best.onnx"):
        open_fused_teachers(the_run(tmp_path / "best.pt", onnx))


def test_without_logits_of_test_rows_val_alone_can_be_judged(tmp_path: Path) -> None:
    for name, splits in {"F": ("val", "test"), "G": ("val",)}.items():
        for split in splits:
            stored = stored_logits(kind="foreign", split=split, checkpoint_sha256=name.encode().hex() * 32)
            write_stored_logits(tmp_path / name / split, stored)
    folders = (tmp_path / "F", tmp_path / "G")
    with pytest.raises(FerError, match=r"no test rows that all have(.|\n)*leave test out: ensemble.judge_test=false"):
        open_fused_teachers(the_run(*folders))
    opened = open_fused_teachers(the_run(*folders, judge_test=False))
    assert [[stored.record.split for stored in split] for split in opened.splits] == [["val", "val"]]
    assert opened.same_logits() == [("F", "G")]
