"""The network of an ensemble is built from the teachers' own files, or refused by name."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.runs.checkpoint import checkpoint_record
from fer_lightning.runs.checkpoint_file import CHECKPOINT_KEY
from fer_lightning.runs.ensemble_file import read_ensemble
from fer_lightning.runs.ensemble_network import read_ensemble_network
from tests.runs.ensemble_examples import ensemble_of, teacher, write_ensemble, write_pair
from tests.runs.examples import (
    IMAGE_SIZE,
    MANIFEST_SHA256,
    checkpoint_content,
    tiny_classifier,
    write_checkpoint,
)


def test_it_is_the_teachers_weighted_and_scaled(tmp_path: Path) -> None:
    folder = write_pair(tmp_path, weights=(0.3, 0.7), temperatures=(2.0, 0.5))
    read = read_ensemble_network(folder, option="o")
    assert read.sha256 == sha256_of(folder / "ensemble.json")
    assert read.canonical == CanonicalSpec(size=IMAGE_SIZE)
    network = read.build()
    assert not network.training
    pictures = torch.rand(4, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        own = [tiny_classifier(seed).eval()(pictures) for seed in (0, 1)]
        torch.testing.assert_close(network(pictures), 0.3 * own[0] / 2 + 0.7 * own[1] / 0.5, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(network.teacher_logits(pictures), torch.stack(own))


def test_a_replaced_teacher_is_refused_by_name(tmp_path: Path) -> None:
    folder = write_pair(tmp_path)
    write_checkpoint(tmp_path / "run1" / "best.pt", seed=9)
    with pytest.raises(FerError, match=r"run1/best\.pt is no longer the teacher T1 that the ensemble was made of"):
        read_ensemble_network(folder, option="o")
    (tmp_path / "run1" / "best.pt").unlink()
    with pytest.raises(FerError, match="teacher T1 is gone: no file"):
        read_ensemble_network(folder, option="o")


def test_teachers_that_expect_different_pictures_are_no_network(tmp_path: Path) -> None:
    ensemble = read_ensemble(write_pair(tmp_path), option="o")
    classifier = tiny_classifier(1)
    canonical = CanonicalSpec(size=IMAGE_SIZE, clahe_clip_limit=3.0)
    record = checkpoint_record(classifier.spec, canonical, manifest_sha256=MANIFEST_SHA256)
    torch.save(checkpoint_content(classifier) | {CHECKPOINT_KEY: record}, tmp_path / "run1" / "best.pt")
    other = teacher(tmp_path / "run1", "CONTRAST", weight=0.7)
    folder = write_ensemble(tmp_path / "MIXED", ensemble_of([ensemble.teachers[0], other]))
    with pytest.raises(FerError, match=r"T0 and CONTRAST expect different ones \(clahe_clip_limit 2\.0 and 3\.0\)"):
        read_ensemble_network(folder, option="o")
    unused = ensemble_of([replace(ensemble.teachers[0], weight=1.0), replace(other, weight=0.0)])
    write_ensemble(folder, unused)
    assert len(read_ensemble_network(folder, option="o").checkpoints) == 1
