"""Rows of an evaluation: carved as the run carved them, options honoured or refused, rows seen in training refused."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.selection import Selection, select_rows
from fer_lightning.errors import FerError
from fer_lightning.files import write_text_atomically
from fer_lightning.pipeline.config import TrainTeacherRun
from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationTarget
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows, evaluation_rows
from fer_lightning.runs.artifacts import StartingWeights, write_artifact
from fer_lightning.runs.provenance import describe_alignment
from fer_lightning.runs.run_dir import plain_values
from tests.conftest import toy_run
from tests.data.conftest import Row, Workshop, cycle_rows, make_box, make_row
from tests.runs.examples import example


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """An empty folder that is the working directory."""
    monkeypatch.chdir(tmp_path)
    return Workshop(tmp_path)


def record_run(workshop: Workshop, **options: object) -> Selection:
    """Leave what training on the manifest leaves in `run`, but for its weights."""
    run: TrainTeacherRun = toy_run(workshop.manifest, workshop.root)
    source_filter = options.pop("source_filter", SourceFilterConfig())
    assert isinstance(source_filter, SourceFilterConfig)
    run.source_filter, run.data.split_seed = source_filter, 7
    for name, value in options.items():
        setattr(run.data, name, value)
    selection = select_rows(run.data, source_filter, splits=("train", "val"), check_leaks=True)
    (workshop.root / "run").mkdir(exist_ok=True)
    write_text_atomically(workshop.root / "run" / "config.yaml", yaml.safe_dump(plain_values(run)))
    alignment = describe_alignment("run", selection, CanonicalSpec(size=32), example(StartingWeights), num_parameters=9)
    write_artifact(workshop.root / "run" / "alignmentreport.json", alignment)
    return selection


def rows_of(
    manifest: Path | None,
    split: str = "val",
    *,
    run_dir: str = "run",
    source_filter: SourceFilterConfig | None = None,
    **options: object,
) -> EvaluationRows:
    data = DataConfig(manifest=None if manifest is None else str(manifest), num_workers=0)
    for name, value in options.items():
        setattr(data, name, value)
    run = EvaluateRun(
        evaluate=EvaluationTarget(split=split),
        data=data,
        source_filter=source_filter or SourceFilterConfig(),
    )
    return evaluation_rows(run, Path(run_dir))


def two_sources(count: int = 56) -> list[Row]:
    rows = cycle_rows(count)
    for row in rows[count // 2 :]:
        row["source"] = "expw_hq"
    return rows


def names(rows: EvaluationRows, split: str = "val") -> set[str]:
    return {rows.selection.manifest.image_paths[row] for row in rows.selection.rows[split]}


def write_as(workshop: Workshop, name: str, rows: list[Row]) -> Path:
    """Write another manifest beside the run's."""
    kept = workshop.manifest.read_bytes()
    other = workshop.root / name
    workshop.write(rows).rename(other)
    workshop.manifest.write_bytes(kept)
    return other


def picture_of(workshop: Workshop, name: str) -> NDArray[np.uint8]:
    picture = cv2.imread(str(workshop.root / name))
    assert picture is not None
    return picture.astype(np.uint8, copy=False)


def save(workshop: Workshop, name: str, picture: NDArray[np.uint8]) -> None:
    path = workshop.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())


@pytest.mark.parametrize("given", [True, False])
def test_a_carved_split_is_the_runs_own(workshop: Workshop, given: bool) -> None:
    manifest = workshop.write(two_sources(), draw=True)
    trained = record_run(workshop, val_fraction=0.3)
    assert trained.carved_val_rows > 10
    for split, seen in (("val", 0), ("train", len(trained.rows["train"]))):
        rows = rows_of(manifest if given else None, split)
        assert rows.selection.fingerprint(split) == trained.fingerprint(split)
        assert rows.rows_seen_in_training == seen


def test_a_carved_split_that_comes_out_differently_is_refused(workshop: Workshop) -> None:
    rows = two_sources()
    manifest = workshop.write(rows, draw=True)
    trained = record_run(workshop, val_fraction=0.3)
    val = trained.rows["val"].tolist()
    for row in val[:3]:  # the manifest is the same, files are gone
        (workshop.root / rows[row]["image_path"]).unlink()
    with pytest.raises(FerError, match=r"3 faulty rows"):
        rows_of(manifest)
    with pytest.raises(FerError, match=r"its val rows as carved now differ from those recorded: files are gone"):
        rows_of(manifest, max_bad_rows=3)


def test_copies_that_came_since_do_not_carve_train_rows_into_val(workshop: Workshop) -> None:
    rows = two_sources()
    manifest = workshop.write(rows, draw=True)
    trained = record_run(workshop, val_fraction=0.3)
    first, second = trained.rows["train"].tolist()[0], trained.rows["val"].tolist()[0]
    save(workshop, rows[second]["image_path"], picture_of(workshop, rows[first]["image_path"]))
    with pytest.raises(FerError, match=r"its val rows as carved now differ"):
        rows_of(manifest)


def test_a_source_filter_chooses_from_the_carved_split(workshop: Workshop) -> None:
    rows = two_sources()
    manifest = workshop.write(rows, draw=True)
    trained = record_run(workshop, val_fraction=0.3)
    val = trained.rows["val"]
    chosen = rows_of(manifest, source_filter=SourceFilterConfig(include=["expw_hq"]))
    expected = [row for row in val.tolist() if rows[row]["source"] == "expw_hq"]
    assert 0 < len(expected) < len(val)
    assert chosen.selection.rows["val"].tolist() == expected
    assert chosen.selection.fingerprint("val") == trained.manifest.fingerprint(np.asarray(expected))
    assert chosen.selection.filter_report.include == ("expw_hq",)
    rest = rows_of(manifest, source_filter=SourceFilterConfig(exclude=["expw_hq"]))
    assert rest.selection.rows["val"].tolist() == [row for row in val.tolist() if row not in expected]


def test_a_filter_cannot_bring_back_what_the_run_left_out(workshop: Workshop) -> None:
    manifest = workshop.write(two_sources(), draw=True)
    trained = record_run(workshop, val_fraction=0.3, source_filter=SourceFilterConfig(include=["ferplus"]))
    assert rows_of(manifest).selection.fingerprint("val") == trained.fingerprint("val")
    with pytest.raises(FerError, match=r"source_filter.include=\['expw_hq'\] would have no effect: run left them out"):
        rows_of(manifest, source_filter=SourceFilterConfig(include=["expw_hq"]))


def test_marked_val_rows_of_a_source_the_run_left_out_are_judged_as_marked(workshop: Workshop) -> None:
    rows = cycle_rows(28)
    marked = [{**row, "source": "expw_hq"} for row in cycle_rows(7, split="val")]
    manifest = workshop.write([*rows, *marked], draw=True)
    assert record_run(workshop, val_fraction=0.3, source_filter=SourceFilterConfig(include=["ferplus"])).carved_val_rows
    judged = rows_of(manifest)
    assert names(judged) == {row["image_path"] for row in marked}
    assert judged.rows_seen_in_training == 0


def test_options_that_would_carve_another_split_are_refused(workshop: Workshop) -> None:
    manifest = workshop.write(two_sources(), draw=True)
    trained = record_run(workshop, val_fraction=0.3, group_columns=["subject"])
    same = rows_of(manifest, val_fraction=0.3, group_columns=["subject"], split_seed=7)
    assert same.selection.fingerprint("val") == trained.fingerprint("val")
    with pytest.raises(FerError, match=r"data.val_fraction=0.2 would have no effect: .* as run recorded"):
        rows_of(manifest, val_fraction=0.2)
    with pytest.raises(FerError, match=r"data.group_columns=\['orig_image'\] would have no effect"):
        rows_of(manifest, group_columns=["orig_image"])
    with pytest.raises(FerError, match=r"data.split_seed=8 would have no effect"):
        rows_of(manifest, split_seed=8)


@pytest.mark.parametrize("with_val", [True, False])
def test_a_run_that_left_broken_pictures_out_can_be_evaluated(workshop: Workshop, with_val: bool) -> None:
    rows = two_sources() + (cycle_rows(14, split="val") if with_val else [])
    manifest = workshop.write(rows, draw=True)
    broken = [rows[2], rows[40], rows[-1]]
    for row in broken:
        (workshop.root / row["image_path"]).write_bytes(b"no picture")
    trained = record_run(workshop, val_fraction=0.3, max_bad_rows=3)
    assert trained.rows_left_out == 3
    for split in ("train", "val"):
        assert rows_of(None, split).selection.fingerprint(split) == trained.fingerprint(split)
        # A carved split takes the run's allowance, a marked one the command's.
        given = rows_of(manifest, split, max_bad_rows=3 if with_val else 1)
        assert given.selection.fingerprint(split) == trained.fingerprint(split)


def seen_set(workshop: Workshop) -> Path:
    """Write a run of 14 train rows, and another manifest that holds one of them, a copy, a near copy and 11 new rows."""
    rows = [*cycle_rows(14), *cycle_rows(7, split="val")]
    workshop.write(rows, draw=True)
    record_run(workshop)
    save(workshop, "other/same.bmp", picture_of(workshop, rows[3]["image_path"]))
    larger = cv2.resize(picture_of(workshop, rows[4]["image_path"]), (48, 48), interpolation=cv2.INTER_CUBIC)
    save(workshop, "other/near.png", larger.astype(np.uint8, copy=False))
    new = cycle_rows(11, split="test", folder="new")
    for row in new:
        workshop.draw(row["image_path"])
    copies = [make_row("other/same.bmp", "Sad", "test"), make_row("other/near.png", "Sad", "test")]
    return write_as(workshop, "other.csv", [*new, {**rows[2], "split": "test"}, *copies])


def test_rows_seen_in_training_are_refused_with_count_and_way_out(workshop: Workshop) -> None:
    other = seen_set(workshop)
    with pytest.raises(FerError) as caught:
        rows_of(other, "test")
    message = str(caught.value)
    assert "other.csv: the model was trained on 3 of these 14 test rows" in message
    assert "image: 1 row\n    line 13 (ferplus pictures/train002.png) is line 4 of" in message
    assert "content: 1 row\n    line 14 (ferplus other/same.bmp) is line 5 of" in message
    assert "near_content: 1 row\n    line 15 (ferplus other/near.png) is line 6 of" in message
    assert "data.allow_leaks=[image,content,near_content]" in message
    with pytest.raises(FerError, match=r"trained on 1 of these 14 test rows:\n  near_content"):
        rows_of(other, "test", allow_leaks=["image", "content"])


def test_rows_seen_in_training_are_counted_where_allowed(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    other = seen_set(workshop)
    rows = rows_of(other, "test", allow_leaks=["image", "content", "near_content"])
    assert rows.rows_seen_in_training == 3
    assert "trained on 1 of these test rows (near_content), allowed by data.allow_leaks" in caplog.text


def test_train_rows_may_be_judged_as_such(workshop: Workshop) -> None:
    seen_set(workshop)
    rows = rows_of(workshop.manifest, "train")
    assert rows.rows_seen_in_training == len(rows.selection.rows["train"]) == 14
    assert rows_of(None, "train").rows_seen_in_training == 14
    assert rows_of(None, "val").rows_seen_in_training == 0
    assert rows_of(workshop.manifest, "val").rows_seen_in_training == 0


def test_another_face_of_a_train_photo_is_another_row(workshop: Workshop) -> None:
    photo, rows = "crowd.png", cycle_rows(7)
    left, right = make_box(0, 0, 24, 24), make_box(0, 24, 48, 24)
    faces = [make_row(photo, "Sad", **left)]
    workshop.write([*rows, *cycle_rows(7, split="val")], draw=True)
    pictures = [picture_of(workshop, row["image_path"]) for row in rows[:2]]
    save(workshop, photo, np.concatenate([np.bitwise_not(picture) for picture in pictures], axis=1).astype(np.uint8))
    workshop.write([*rows, *faces, *cycle_rows(7, split="val")])
    record_run(workshop)
    other = write_as(workshop, "other.csv", [make_row(photo, "Sad", "test", **right)])
    assert rows_of(other, "test").rows_seen_in_training == 0
    again = write_as(workshop, "again.csv", [make_row(photo, "Sad", "test", **left)])
    with pytest.raises(FerError, match=r"(?s)trained on 1 of these 1 test rows.*image: 1 row"):
        rows_of(again, "test")


def test_copies_that_the_run_allowed_stay_allowed_on_its_own_manifest(workshop: Workshop) -> None:
    rows = [*cycle_rows(14), *cycle_rows(7, split="val")]
    workshop.write(rows, draw=True)
    save(workshop, rows[-1]["image_path"], picture_of(workshop, rows[0]["image_path"]))
    record_run(workshop, allow_leaks=["content"])
    assert rows_of(None).rows_seen_in_training == 1
    assert rows_of(workshop.manifest).rows_seen_in_training == 1
    other = write_as(workshop, "other.csv", rows[-7:])
    with pytest.raises(FerError, match=r"data.allow_leaks=\[content\]"):
        rows_of(other)


def test_train_rows_that_were_not_carved_out_are_known_again(workshop: Workshop) -> None:
    rows = two_sources()
    workshop.write(rows, draw=True)
    trained = record_run(workshop, val_fraction=0.3)
    val = [{**rows[row], "split": "test"} for row in trained.rows["val"].tolist()]
    chosen_on = write_as(workshop, "val.csv", val)
    with pytest.raises(FerError, match=rf"was chosen and calibrated on {len(val)} of these {len(val)} test rows"):
        rows_of(chosen_on, "test")
    assert rows_of(chosen_on, "test", allow_leaks=["image"]).rows_seen_in_training == 0
    train = [{**rows[row], "split": "test"} for row in trained.rows["train"].tolist()[:2]]
    with pytest.raises(FerError, match=rf"trained on 2 of these {len(val) + 2} test rows"):
        rows_of(write_as(workshop, "both.csv", [*val, *train]), "test")


@pytest.mark.parametrize("why", ["no run directory", "is not there", "is no longer the manifest"])
def test_what_could_not_be_checked_is_said(workshop: Workshop, why: str, caplog: pytest.LogCaptureFixture) -> None:
    other = seen_set(workshop)
    if why == "is not there":
        workshop.manifest.unlink()
    elif why == "is no longer the manifest":
        workshop.write(cycle_rows(14))
    rows = rows_of(other, "test", run_dir="elsewhere" if why == "no run directory" else "run")
    assert rows.rows_seen_in_training is None
    [message] = [record.message for record in caplog.records if "not checked whether" in record.message]
    assert why in message


def test_refusals_come_before_torch(workshop: Workshop) -> None:
    other = seen_set(workshop)
    (workshop.root / "run" / "best.onnx").write_bytes(b"x")
    code = (
        "import sys\n"
        "from fer_lightning.data.config import DataConfig\n"
        "from fer_lightning.errors import FerError\n"
        "from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationTarget\n"
        "from fer_lightning.pipeline.evaluate import evaluate\n"
        "target = EvaluationTarget(checkpoint='run/best.onnx', split='test')\n"
        "try:\n"
        f"    evaluate(EvaluateRun(evaluate=target, data=DataConfig(manifest={str(other)!r}, num_workers=0)))\n"
        "except FerError as error:\n"
        "    assert 'trained on 3 of these 14 test rows' in str(error), error\n"
        "    sys.exit(3 if 'torch' not in sys.modules else 4)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
