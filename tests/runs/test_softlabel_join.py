"""Soft labels find their rows by id, and every mismatch refuses and names itself."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.rows.manifest import read_manifest
from fer_lightning.errors import FerError
from fer_lightning.runs.softlabel_join import JoinedSoftLabels, join_softlabels
from fer_lightning.runs.softlabels import SoftLabels
from tests.runs.softlabel_examples import CANONICAL, make_softlabels, manifest_lines, teacher, write_manifest

OPTION = "distillation.softlabels"


@pytest.fixture
def softlabels(tmp_path: Path) -> SoftLabels:
    """Of the manifest as `manifest_lines` writes it."""
    made = make_softlabels(write_manifest(tmp_path / "exported.csv"))
    return replace(made, record=replace(made.record, n=len(made.row_ids), class_order=list(EMOTION_ORDER)))


EMOTION_ORDER = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")


def join(
    softlabels: SoftLabels,
    path: Path,
    *,
    splits: tuple[str, ...] = ("train",),
    canonical: CanonicalSpec = CANONICAL,
    **options: Any,
) -> JoinedSoftLabels:
    manifest = read_manifest(path)
    rows = np.flatnonzero(np.isin(manifest.splits, splits))
    return join_softlabels(
        softlabels, manifest, rows, manifest_sha256=manifest.sha256, canonical=canonical, option=OPTION, **options
    )


def refuse(softlabels: SoftLabels, path: Path, *messages: str, **options: Any) -> None:
    with pytest.raises(FerError) as refusal:
        join(softlabels, path, **options)
    for message in (OPTION, *messages):
        assert message in str(refusal.value)


def expect_own(joined: JoinedSoftLabels, softlabels: SoftLabels, path: Path, splits: tuple[str, ...]) -> None:
    """Look each row up by path and box, one after the other."""
    manifest = read_manifest(path)
    rows = [row for row in range(len(manifest)) if manifest.splits[row] in splits]
    assert len(joined.positions) == len(rows)
    for row, position, logits, label in zip(rows, joined.positions, joined.logits, joined.labels, strict=True):
        assert softlabels.row_ids[position] == manifest.row_ids[row]
        assert torch.equal(logits, softlabels.logits[position].float())
        assert label == manifest.labels[row] == softlabels.labels[position]


@pytest.mark.parametrize("splits", [("train",), ("val",), ("train", "val")])
def test_the_same_manifest(softlabels: SoftLabels, tmp_path: Path, splits: tuple[str, ...]) -> None:
    path = tmp_path / "exported.csv"
    joined = join(softlabels, path, splits=splits)
    expect_own(joined, softlabels, path, splits)
    assert joined.logits.dtype == torch.float32
    assert joined.labels.dtype == torch.int64


def test_rows_reordered_join_rightly(softlabels: SoftLabels, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_manifest(tmp_path / "reordered.csv", manifest_lines()[::-1])
    with caplog.at_level(logging.WARNING):
        joined = join(softlabels, path, splits=("train", "val"))
    expect_own(joined, softlabels, path, ("train", "val"))
    assert joined.positions.tolist() != sorted(joined.positions.tolist())
    assert "other bytes" in caplog.text


def test_two_boxes_of_one_path_join_each_their_own(softlabels: SoftLabels, tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "swapped.csv", [*manifest_lines()[:-2], *manifest_lines()[:-3:-1]])
    joined = join(softlabels, path)
    expect_own(joined, softlabels, path, ("train",))
    first, second = joined.positions[-2:]
    assert softlabels.image_paths[first] == softlabels.image_paths[second] == "images/photo é.png"
    assert not torch.equal(joined.logits[-1], joined.logits[-2])
    assert joined.labels[-2:].tolist() == [4, 3]


def test_one_label_changed(softlabels: SoftLabels, tmp_path: Path) -> None:
    lines = manifest_lines()
    lines[4] = lines[4].replace("Sad", "Fear")
    path = write_manifest(tmp_path / "relabelled.csv", lines)
    refuse(softlabels, path, "another manifest", "line 6, images/4.png: label is Fear, was Sad", "1 differences")


def test_one_label_changed_under_the_same_digest(softlabels: SoftLabels, tmp_path: Path) -> None:
    lines = manifest_lines()
    lines[4] = lines[4].replace("Sad", "Fear")
    path = write_manifest(tmp_path / "relabelled.csv", lines)
    manifest = read_manifest(path)
    with pytest.raises(
        FerError, match=r"labels of 1 rows differ:\n  line 6, images/4\.png: label is Fear here, Sad in"
    ):
        join_softlabels(
            softlabels,
            manifest,
            np.flatnonzero(manifest.splits == "train"),
            manifest_sha256=softlabels.record.manifest_sha256,
            canonical=CANONICAL,
            option=OPTION,
        )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("images/4.png", "images/other.png", "images/4.png (web, train) is not in it"),
        (",web,,,,", ",expw_hq,,,,", "source is expw_hq, was web"),
        ("Sad,train", "Sad,test", "split is test, was train"),
        ("0,30,50,20", "0,30,51,20", "images/photo é.png (web, train) is not in it"),
    ],
)
def test_another_manifest(softlabels: SoftLabels, tmp_path: Path, old: str, new: str, message: str) -> None:
    lines = [line.replace(old, new) for line in manifest_lines()]
    refuse(softlabels, write_manifest(tmp_path / "other.csv", lines), "another manifest", message)


def test_more_differences_than_are_shown(softlabels: SoftLabels, tmp_path: Path) -> None:
    lines = [line.replace("images/", "pictures/") for line in manifest_lines()]
    refuse(softlabels, write_manifest(tmp_path / "other.csv", lines), "28 differences", "and 23 more")


def test_rows_without_soft_labels(softlabels: SoftLabels, tmp_path: Path) -> None:
    lines = [*manifest_lines(), "images/new.png,Fear,train,web,,,,", "images/newer.png,Sad,train,web,,,,"]
    path = write_manifest(tmp_path / "more.csv", lines)
    refuse(softlabels, path, "2 of 24 rows have no soft labels", "line 30, images/new.png (web, train)")
    joined = join(softlabels, path, allow_missing=True)
    assert joined.positions[-2:].tolist() == [-1, -1]
    assert joined.positions[:-2].min() >= 0
    assert joined.logits[-2:].isnan().all()
    assert joined.logits[:-2].isfinite().all()
    assert joined.labels[-2:].tolist() == [2, 4]


def test_val_rows_carved_from_train_stay_joined(softlabels: SoftLabels, tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "carved.csv", [line.replace(",val,", ",train,") for line in manifest_lines()])
    assert join(softlabels, path).positions.min() >= 0


@pytest.mark.parametrize(
    ("canonical", "message"),
    [
        (CanonicalSpec(size=64, clahe=False), "clahe is True there, False here"),
        (CanonicalSpec(size=64, clahe_clip_limit=3.0), "clahe_clip_limit is 2.0 there, 3.0 here"),
        (CanonicalSpec(size=32, clahe_tiles=4), "clahe_tiles is 8 there, 4 here"),
    ],
)
def test_another_clahe(softlabels: SoftLabels, tmp_path: Path, canonical: CanonicalSpec, message: str) -> None:
    refuse(softlabels, tmp_path / "exported.csv", "teacher RN18", message, canonical=canonical)


def test_a_smaller_student(softlabels: SoftLabels, tmp_path: Path) -> None:
    assert len(join(softlabels, tmp_path / "exported.csv", canonical=replace(CANONICAL, size=32)).positions)


def test_a_teacher_of_another_size_of_clahe_without_weight(softlabels: SoftLabels, tmp_path: Path) -> None:
    record = softlabels.record
    teachers = [*record.teachers, teacher(name="B3", weight=0.0)]
    canonicals = [*record.canonicals, {**record.canonicals[0], "clahe": False}]
    both = replace(softlabels, record=replace(record, teachers=teachers, canonicals=canonicals))
    assert len(join(both, tmp_path / "exported.csv").positions)


def test_class_order_permuted(softlabels: SoftLabels, tmp_path: Path) -> None:
    permuted = replace(softlabels, record=replace(softlabels.record, class_order=list(EMOTION_ORDER[::-1])))
    refuse(permuted, tmp_path / "exported.csv", "class order", "['Neutral'")
