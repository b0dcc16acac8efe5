"""The generated set: the same bytes from the same seed, a well-formed manifest, and the traits of its sources."""

import csv
import hashlib
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fer_lightning.data.sources.generated import DuplicateKind, GeneratedSet, GeneratedSetSpec, generate_set
from fer_lightning.data.sources.generated.action_units import (
    ACTION_UNITS,
    NEIGHBOURS,
    PROTOTYPES,
    draw_expression,
    neighbour_probs,
    perceived_probs,
)
from fer_lightning.data.sources.generated.manifest import COLUMNS, manifest_text
from fer_lightning.data.sources.generated.plan import PlannedPicture, plan_pictures
from fer_lightning.data.sources.generated.render import render
from fer_lightning.data.sources.generated.sources import TRAITS, majority
from fer_lightning.data.sources.generated.spec import SOURCE_SHARES, SOURCES, SPLITS
from fer_lightning.labels import EMOTIONS, emotion_index

SMALL = GeneratedSetSpec(num_images=60, seed=11, exact_duplicates=2, near_duplicates=2)
# The skew of the cleaned real mix, which the default spec imitates.
LABEL_SHARES = dict(zip(EMOTIONS, (0.114, 0.035, 0.098, 0.232, 0.144, 0.141, 0.236), strict=True))
VOTES = [f"vote_{name}" for name in EMOTIONS]


def read_rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="") as file:
        return list(csv.DictReader(file))


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> GeneratedSet:
    return generate_set(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture(scope="module")
def plan() -> list[PlannedPicture]:
    return plan_pictures(GeneratedSetSpec())


def test_two_workers_write_the_same_bytes_as_one(small: GeneratedSet, tmp_path: Path) -> None:
    again = generate_set(tmp_path, SMALL, num_workers=2)
    assert digests(tmp_path) == digests(small.manifest.parent)
    assert again.planted == small.planted
    assert again.num_rows == small.num_rows == 64


def test_every_file_is_in_the_manifest(small: GeneratedSet) -> None:
    named = {row["image_path"] for row in read_rows(small.manifest)}
    assert named | {"manifest.csv"} == set(digests(small.manifest.parent))


def test_another_seed_gives_other_pictures(small: GeneratedSet) -> None:
    other = replace(SMALL, seed=12)
    ours, theirs = plan_pictures(SMALL), plan_pictures(other)
    assert manifest_text(ours, []) != manifest_text(theirs, [])
    assert render(ours[0], SMALL) != render(theirs[0], other)
    assert render(ours[0], SMALL) == (small.manifest.parent / ours[0].path).read_bytes()


def test_interrupted_generation_starts_again_with_the_same_bytes(small: GeneratedSet, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == total // 2:
            raise KeyboardInterrupt

    tmp_path.joinpath("manifest.csv").write_text("of an older set")
    with pytest.raises(KeyboardInterrupt):
        generate_set(tmp_path, SMALL, progress=stop)
    assert not (tmp_path / "manifest.csv").exists()
    generate_set(tmp_path, SMALL)
    assert digests(tmp_path) == digests(small.manifest.parent)


def test_progress_counts_every_file(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    spec = GeneratedSetSpec(num_images=9, source_shares={"ferplus": 1.0}, exact_duplicates=1)
    generate_set(tmp_path, spec, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 10) for done in range(1, 11)]


def test_manifest_schema_and_vocabulary(small: GeneratedSet) -> None:
    assert small.manifest.read_text().splitlines()[0] == ",".join(COLUMNS)
    for row in read_rows(small.manifest):
        assert row["label"] in EMOTIONS
        assert row["split"] in SPLITS
        assert row["source"] in SOURCES
        assert row["subject"]
        assert row["image_path"].startswith(f"{row['source']}/{row['split']}/")
        assert all((row[vote] != "") == (row["source"] == "ferplus") for vote in VOTES)
        photo_columns = ("orig_image", "face_id", "bbox_top", "bbox_left", "bbox_bottom", "bbox_right", "confidence")
        assert all((row[column] != "") == (row["source"] == "expw_hq") for column in photo_columns)


def test_pictures_have_the_format_of_their_source(small: GeneratedSet) -> None:
    near = {planted.image_path for planted in small.planted if planted.kind is DuplicateKind.NEAR}
    seen = set()
    for row in read_rows(small.manifest):
        if row["image_path"] in near:
            continue
        data = (small.manifest.parent / row["image_path"]).read_bytes()
        picture = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        assert picture is not None
        traits = TRAITS[row["source"]]
        assert picture.shape == ((48, 48) if traits.grey else (traits.height, traits.width, 3))
        assert data[:4] == (b"\x89PNG" if row["source"] == "ferplus" else b"\xff\xd8\xff\xe0")
        assert np.asarray(picture).std() > 5.0
        seen.add(row["source"])
    assert seen == set(SOURCES)


def test_boxes_lie_inside_their_photo_and_hold_the_face(plan: list[PlannedPicture]) -> None:
    width, height = TRAITS["expw_hq"].width, TRAITS["expw_hq"].height
    photos = [picture for picture in plan if picture.source == "expw_hq"]
    assert sum(len(photo.faces) for photo in photos) == 420
    for photo in photos:
        assert 2 <= len(photo.faces) <= 4
        assert len({face.subject for face in photo.faces}) == len(photo.faces)
        for face in photo.faces:
            assert face.box is not None
            assert 0 <= face.box.top < face.placement.centre_y < face.box.bottom <= height
            assert 0 <= face.box.left < face.placement.centre_x < face.box.right <= width
            assert face.box.bottom - face.box.top > 40
            assert face.annotation.confidence is not None
            assert 0.0 <= face.annotation.confidence <= 100.0


def test_subjects_and_paths_belong_to_one_split(plan: list[PlannedPicture]) -> None:
    splits: dict[int, set[str]] = {}
    for picture in plan:
        for face in picture.faces:
            splits.setdefault(face.subject, set()).add(picture.split)
    assert all(len(found) == 1 for found in splits.values())
    assert len({picture.path for picture in plan}) == len(plan)
    pictures_of = Counter(face.subject for picture in plan for face in picture.faces)
    assert np.mean(list(pictures_of.values())) > 3.0


def test_shares_of_a_full_plan(plan: list[PlannedPicture]) -> None:
    faces = [(picture, face) for picture in plan for face in picture.faces]
    assert len(faces) == 6000
    sources = Counter(picture.source for picture, _ in faces)
    splits = Counter(picture.split for picture, _ in faces)
    labels = Counter(EMOTIONS[face.annotation.label] for _, face in faces)
    assert sources == {source: round(6000 * share) for source, share in SOURCE_SHARES.items()}
    assert {split: splits[split] / 6000 for split in SPLITS} == pytest.approx(
        {"train": 0.76, "val": 0.12, "test": 0.12}, abs=0.001
    )
    for name in EMOTIONS:
        assert labels[name] / 6000 == pytest.approx(LABEL_SHARES[name], abs=0.012)


def test_votes_of_ten_annotators_decide_the_label(plan: list[PlannedPicture]) -> None:
    totals = Counter[int]()
    split_votes = 0
    for picture in plan:
        if picture.source != "ferplus":
            continue
        note = picture.faces[0].annotation
        assert note.votes is not None
        totals[sum(note.votes)] += 1
        split_votes += sum(1 for count in note.votes if count >= 3) > 1
        assert note.votes[note.label] == max(note.votes)
    assert max(totals) == 10
    assert min(totals) >= 5
    assert 0.05 < split_votes / totals.total() < 0.35


def test_sources_differ_in_label_noise(plan: list[PlannedPicture]) -> None:
    wrong = {source: [] for source in SOURCES}  # type: dict[str, list[bool]]
    for picture in plan:
        for face in picture.faces:
            wrong[picture.source].append(face.annotation.label != face.expression.emotion)
    assert np.mean(wrong["rafdb_basic"]) < 0.05
    assert 0.10 < np.mean(wrong["affectnet_full_balanced"]) < 0.14


def test_ties_go_to_the_true_emotion() -> None:
    votes = np.array([0, 0, 5, 0, 0, 5, 0])
    assert majority(votes, emotion_index("Surprise")) == emotion_index("Surprise")
    assert majority(votes, emotion_index("Fear")) == emotion_index("Fear")
    assert majority(votes, emotion_index("Happy")) == emotion_index("Fear")


def test_perceived_probs_of_clear_weak_and_blended_faces() -> None:
    rng = np.random.default_rng(0)
    clear = draw_expression(rng, emotion_index("Fear"), min_intensity=0.99, blend_share=0.0)
    probs = perceived_probs(clear, agreement=0.9)
    assert probs.sum() == pytest.approx(1.0)
    assert probs[emotion_index("Fear")] == pytest.approx(0.9, abs=1e-5)
    assert probs[emotion_index("Surprise")] == pytest.approx(0.1 * 0.75, abs=1e-5)
    weak = perceived_probs(replace(clear, intensity=0.1), agreement=1.0)
    assert int(weak.argmax()) == emotion_index("Neutral")
    blend = perceived_probs(replace(clear, secondary=emotion_index("Surprise"), share=0.6), agreement=1.0)
    assert blend[emotion_index("Fear")] == pytest.approx(0.36 / (0.36 + 0.16), abs=1e-5)


def test_emotion_tables_are_complete() -> None:
    assert set(PROTOTYPES) == set(NEIGHBOURS) == set(EMOTIONS)
    for index, name in enumerate(EMOTIONS):
        assert sum(weight for weight, _ in PROTOTYPES[name]) == pytest.approx(1.0)
        assert all(set(units) <= set(ACTION_UNITS) for _, units in PROTOTYPES[name])
        assert neighbour_probs(index)[index] == 0.0


def test_planted_duplicates_are_found_by_content(small: GeneratedSet) -> None:
    root = small.manifest.parent
    by_content: dict[str, list[str]] = {}
    for path, digest in digests(root).items():
        by_content.setdefault(digest, []).append(path)
    twins = {frozenset(paths) for paths in by_content.values() if len(paths) > 1}
    exact = [planted for planted in small.planted if planted.kind is DuplicateKind.EXACT]
    near = [planted for planted in small.planted if planted.kind is DuplicateKind.NEAR]
    assert twins == {frozenset((planted.image_path, planted.original_path)) for planted in exact}
    assert (len(exact), len(near)) == (2, 2)
    rows = {row["image_path"]: row for row in read_rows(small.manifest)}
    for planted in small.planted:
        copy, original = rows[planted.image_path], rows[planted.original_path]
        assert copy["split"] != original["split"]
        assert copy["label"] == original["label"]
        assert copy["subject"] != original["subject"]
    for planted in near:
        pair = [
            cv2.imread(str(root / path), cv2.IMREAD_GRAYSCALE) for path in (planted.image_path, planted.original_path)
        ]
        copied, source = (cv2.resize(np.asarray(picture), (32, 32), interpolation=cv2.INTER_AREA) for picture in pair)
        assert np.abs(copied.astype(np.int16) - source.astype(np.int16)).mean() < 6.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_images": 0}, "num_images is 0; expected at least 1"),
        ({"seed": -1}, "seed is -1"),
        ({"val_share": 1.5}, "val_share is 1.5; expected 0..1"),
        ({"val_share": 0.6, "test_share": 0.4}, "nothing is left for train"),
        ({"agreement": 0.0}, "agreement is 0.0"),
        ({"pose_spread_deg": 45.0}, "pose_spread_deg is 45.0; expected 0..20"),
        ({"near_duplicates": -2}, "near_duplicates is -2"),
        ({"source_shares": {"fer2013": 1.0}}, "source_shares names 'fer2013'"),
        ({"source_shares": {"ferplus": 0.5}}, "sum to 0.500000"),
        ({"source_shares": {"ferplus": 1.5, "expw_hq": -0.5}}, "negative share"),
        ({"class_shares": {"Happy": 1.0}}, "class_shares lacks Angry"),
    ],
)
def test_bad_specs_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneratedSetSpec(**changes)


def test_more_duplicates_than_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"8 duplicates asked for .* has 7 single-face pictures"):
        generate_set(tmp_path, GeneratedSetSpec(num_images=7, source_shares={"rafdb_basic": 1.0}, exact_duplicates=8))
    with pytest.raises(ValueError, match="num_workers is 0"):
        generate_set(tmp_path, SMALL, num_workers=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_images", [1, 2, 3, 5, 14])
def test_tiny_sets_have_as_many_rows_as_asked_for(num_images: int) -> None:
    spec = GeneratedSetSpec(num_images=num_images, source_shares={"expw_hq": 1.0})
    assert sum(len(picture.faces) for picture in plan_pictures(spec)) == num_images


def test_import_needs_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, fer_lightning.data.sources.generated; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
