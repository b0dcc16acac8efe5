"""Logits of other files or pictures than those of `ensemble.json` are refused; a foreign model has a file for each split."""

from dataclasses import replace
from pathlib import Path

import pytest

from fer_lightning.errors import FerError
from fer_lightning.pipeline.ensembles.recorded_teachers import check_recorded, open_recorded
from fer_lightning.runs.ensemble import Ensemble, EnsembleTeacher
from fer_lightning.runs.stored_logits import StoredLogits
from tests.runs.ensemble_examples import ensemble_of, teacher
from tests.runs.examples import example
from tests.runs.stored_examples import stored_logits


def of_foreign(stored: StoredLogits) -> Ensemble:
    record = stored.record
    one = replace(
        example(EnsembleTeacher),
        name="POSTER",
        given="POSTER",
        kind="foreign",
        weight=1.0,
        checkpoint_sha256=record.checkpoint_sha256,
        canonical_digest=record.canonical_digest,
    )
    return ensemble_of([one], val_fingerprint=record.row_set_fingerprint)


def test_the_digest_of_a_foreign_file_is_that_of_its_val_rows() -> None:
    val, train = (stored_logits(count, kind="foreign", checkpoint_sha256=f"{count}" * 32) for count in (12, 14))
    check_recorded(of_foreign(val), [val], where="o")
    check_recorded(of_foreign(val), [train], where="o")
    other = replace(val, record=replace(val.record, checkpoint_sha256="0" * 64))
    with pytest.raises(FerError, match="o: POSTER is no longer the teacher POSTER"):
        check_recorded(of_foreign(val), [other], where="o")


def test_other_pictures_are_refused() -> None:
    stored = stored_logits(canonical_digest="ab" * 32)
    ensemble = of_foreign(replace(stored, record=replace(stored.record, canonical_digest="cd" * 32)))
    with pytest.raises(FerError, match=r"another preparation of the pictures \(canonical digest abab.*\(cdcd"):
        check_recorded(ensemble, [stored], where="o")


def test_a_model_in_the_place_of_a_teacher_is_refused_before_anything_is_inferred(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"weights")
    ensemble = ensemble_of([teacher(file, "B3", kind="onnx", weight=1.0)])
    (opened,) = open_recorded(ensemble, where="o", option="o")
    assert (opened.name, opened.given, opened.kind) == ("B3", str(file), "onnx")
    file.write_bytes(b"others")
    with pytest.raises(FerError, match=rf"o: {file} is no longer the teacher B3"):
        open_recorded(ensemble, where="o", option="o")


def test_a_teacher_that_is_gone_is_named_with_its_ensemble(tmp_path: Path) -> None:
    file = tmp_path / "gone"
    file.write_bytes(b"weights")
    gone = ensemble_of([teacher(file, "B3", kind="onnx", weight=1.0)])
    file.unlink()
    with pytest.raises(
        FerError, match=rf"o: E/ensemble.json: teacher B3 is gone: there is no {tmp_path}/gone, seen from"
    ):
        open_recorded(gone, where="o: E/ensemble.json", option="o")
