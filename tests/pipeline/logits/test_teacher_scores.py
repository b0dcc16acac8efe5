"""Scores of several teachers: the same rows for all of them, every mismatch refused by name, a sweep's second job in no time."""

import csv
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_lightning.data.batches.crop_views import CropView, cropped_store
from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.data.datamodule import eval_loader
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.pictures.store import DecodingStore
from fer_lightning.data.selection import select_rows
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.ensembles.config import FuseEnsembleRun
from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationCalibration, EvaluationTarget, View
from fer_lightning.pipeline.logits import infer_logits
from fer_lightning.pipeline.logits import teacher_scores as module
from fer_lightning.pipeline.logits.shared_pass import ShardJob, SharedPass, score_shards
from fer_lightning.pipeline.logits.teacher_models import open_teachers
from fer_lightning.pipeline.logits.teacher_scores import TeacherScores, teacher_scores
from fer_lightning.runs.artifacts import read_artifact, write_artifact
from fer_lightning.runs.checkpoint import read_checkpoint
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.stored_logits import StoredLogits, read_stored_logits, write_stored_logits
from fer_lightning.runs.stored_logits_record import LOGITS_FILE, RECORD_FILE, ROWS_FILE, StoredLogitsRecord
from fer_lightning.training.scoring import classifier_scorer, score_rows
from tests.data.conftest import Row, Workshop
from tests.pipeline.recorded_teachers import record_rows, three_splits, write_teacher

OPTION = "ensemble.teachers"


@pytest.fixture(autouse=True)
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Rows of three splits and two runs on them, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_scores", type(module._scores)())
    made = Workshop(tmp_path)
    made.write(three_splits(), draw=True)
    for seed, name in enumerate(("A_tiny", "B_big")):
        record_rows(write_teacher(Path("runs") / name, seed=seed, size=32 + 8 * seed), made.manifest)
    return made


def the_run(*, manifest: str | None = None, **evaluate: Any) -> EvaluateRun:
    evaluate.setdefault("accelerator", "cpu")
    evaluate.setdefault("batch_size", 4)
    data = DataConfig(num_workers=0, manifest=manifest)
    return EvaluateRun(run=RunConfig(root="out"), evaluate=EvaluationTarget(**evaluate), data=data)


def scores(
    *given: str, split: str = "val", run: EvaluateRun | None = None, names: Sequence[str] = (), **views: Any
) -> TeacherScores:
    teachers = open_teachers(given or ("runs/A_tiny", "runs/B_big"), names, option=OPTION)
    return teacher_scores(run or the_run(), teachers, split, option=OPTION, **views)


def foreign(name: str, stored: StoredLogits, **record: Any) -> Path:
    """Store the same rows again as another program's, with other logits."""
    values: dict[str, Any] = {
        "kind": "foreign",
        "canonical": {},
        "canonical_digest": "",
        "pictures_digest": "",
        "checkpoint": "scores.csv",
        "checkpoint_sha256": "fe" * 32,
        "epoch": -1,
        "weights": "foreign",
        "rows_seen_in_training": None,
        "calibration": None,
    }
    changed = replace(stored, logits=stored.logits * 2 + 1, record=replace(stored.record, **values | record))
    folder = Path("out/foreign") / name / f"{changed.record.split}_{changed.record.row_set_fingerprint[:8]}"
    write_stored_logits(folder, changed.in_order_of(changed.row_ids[::-1]))
    return folder.parent


def rewrite(workshop: Workshop, change: Callable[[list[Row]], None]) -> str:
    """Write another manifest of the same pictures, and return its name."""
    rows = three_splits()
    change(rows)
    other = Workshop(workshop.root)
    other.manifest = workshop.root / "other.csv"
    other.write(rows)
    return "other.csv"


def test_teachers_are_scored_on_the_same_rows_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []

    def counted(jobs: Sequence[ShardJob], shared: SharedPass) -> None:
        passes.append(len(jobs))
        score_shards(jobs, shared)

    monkeypatch.setattr(infer_logits, "score_shards", counted)
    crops = [CropView(index, 1337, 0.8, 1.1) for index in range(2)]
    found = scores(mirror=True, crops=crops)
    assert passes == [8]
    assert found.mirror is not None
    everything = [found.single, found.mirror, *found.crops]
    assert [len(part) for part in everything] == [2] * 4
    views = ["single", "mirror", *(crop.name for crop in crops)]
    for part, view in zip(everything, views, strict=True):
        for stored, name, size in zip(part, ("A_tiny", "B_big"), (32, 40), strict=True):
            assert stored.row_ids == found.single[0].row_ids
            assert (stored.record.view, stored.record.run_dir) == (view, f"runs/{name}")
            assert (stored.record.canonical["size"], stored.record.n) == (size, 21)
            assert torch.equal(stored.groups, found.single[0].groups)
    logits = [stored.logits for part in everything for stored in part]
    assert not any(torch.equal(one, other) for index, one in enumerate(logits) for other in logits[:index])


def test_mirrors_and_crops_are_what_the_model_says_of_these_pictures() -> None:
    crop = CropView(1, 7, 0.8, 1.1)
    found = scores("runs/B_big", mirror=True, crops=[crop])
    data = DataConfig(manifest="manifest.csv", num_workers=0)
    selection = select_rows(data, SourceFilterConfig(), splits=("val",))
    scorer = classifier_scorer(read_checkpoint(Path("runs/B_big/best.pt"), option="x").build(), torch.device("cpu"))
    plain = DecodingStore(selection.manifest, CanonicalSpec(size=40))
    loaders = {
        view: eval_loader(selection, "val", store, batch_size=4, num_workers=0)
        for view, store in (("plain", plain), ("crop", cropped_store(plain, selection.manifest, crop)))
    }
    mirrored = score_rows(lambda pictures: scorer(pictures.flip(-1)), loaders["plain"], what="")
    assert found.mirror is not None
    assert torch.equal(found.mirror[0].logits, mirrored.logits)
    assert torch.equal(found.single[0].logits, score_rows(scorer, loaders["plain"], what="").logits)
    assert torch.equal(found.crops[0][0].logits, score_rows(scorer, loaders["crop"], what="").logits)
    both = (found.single[0].logits.double() + mirrored.logits.double()) / 2
    flipped = scores("runs/B_big", run=the_run(view=View.flip)).single[0]
    assert torch.equal(flipped.logits, both.float())


def test_names_are_short_and_unique() -> None:
    shutil.copytree("runs/A_tiny", "runs/A_other")
    write_teacher(Path("runs/A_other"), seed=7)
    stored = scores("runs/A_tiny").single[0]
    folder = foreign("their-net", stored)
    kept = next(Path("out/logits").iterdir())
    teachers = open_teachers(["runs/A_tiny", "runs/A_other/best.pt", str(folder), str(kept)], [], option=OPTION)
    assert [teacher.name for teacher in teachers] == ["A", "A-2", "their-net", "A-3"]
    assert [teacher.kind for teacher in teachers] == ["checkpoint", "checkpoint", "foreign", "checkpoint"]
    assert [teacher.model is None for teacher in teachers] == [False, False, True, True]
    assert teachers[2].folder == folder
    (inside,) = folder.iterdir()
    assert open_teachers([str(inside)], [], option=OPTION)[0].name == "their-net"
    assert open_teachers([str(inside / LOGITS_FILE)], [], option=OPTION)[0].folder == inside
    assert [one.name for one in open_teachers(["runs/A_tiny", str(folder)], ["x", "y"], option=OPTION)] == ["x", "y"]


def test_what_is_no_teacher_is_refused() -> None:
    Path("empty").mkdir()
    for given, message in (
        ([], r"ensemble.teachers=\[<run directory, .*\] is needed"),
        (["nowhere"], "ensemble.teachers: no file nowhere"),
        (["empty"], "ensemble.teachers: no file empty/best.pt"),
        (["runs/A_tiny", "runs/A_tiny/best.pt"], "names the same model twice: runs/A_tiny and runs/A_tiny/best.pt"),
    ):
        with pytest.raises(FerError, match=message):
            open_teachers(given, [], option=OPTION)


def test_teachers_are_opened_without_torch() -> None:
    code = (
        "import sys\n"
        "from fer_lightning.pipeline.logits.teacher_models import open_teachers\n"
        "print([teacher.name for teacher in open_teachers(['runs/A_tiny', 'runs/B_big'], [], option='x')])\n"
        "assert not {'torch', 'timm', 'lightning', 'cv2'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "['A', 'B']\n"), done.stderr


def test_options_of_an_ensemble_do_not_choose_its_teachers_rows() -> None:
    run = FuseEnsembleRun(
        run=RunConfig(root="out"),
        evaluate=EvaluationTarget(accelerator="cpu", batch_size=4),
        data=DataConfig(num_workers=0),
        calibration=EvaluationCalibration(num_bins=7),
    )
    assert scores(run=run, split="test").single[1].record.n == 14


def test_a_foreign_model_is_joined_by_row_whatever_its_order() -> None:
    plain = scores("runs/A_tiny").single[0]
    folder = foreign("net", plain)
    mine, its = scores("runs/A_tiny", str(folder)).single
    assert its.row_ids == mine.row_ids
    assert torch.equal(its.logits, mine.logits * 2 + 1)
    assert torch.equal(its.labels, mine.labels)
    assert torch.equal(its.groups, mine.groups)
    assert its.sources == mine.sources
    assert its.record.kind == "foreign"
    first, second = scores(str(folder), "runs/A_tiny").single
    assert first.record.kind == "foreign"
    assert first.row_ids == second.row_ids == mine.row_ids


def test_the_folder_of_the_split_and_rows_is_taken_of_several() -> None:
    val, test = scores("runs/A_tiny").single[0], scores("runs/A_tiny", split="test").single[0]
    folder = foreign("net", val)
    foreign("net", test)
    assert scores("runs/A_tiny", str(folder)).single[1].record.split == "val"
    assert scores("runs/A_tiny", str(folder), split="test").single[1].record.split == "test"
    with pytest.raises(
        FerError,
        match=r"holds no logits of the train rows \w{8} through view single\. It holds\n  test_\w{8}: 14 "
        r"test rows \w{8} of .*manifest.csv, view single\n  val_\w{8}: 21 val rows",
    ):
        scores("runs/A_tiny", str(folder), split="train")


def test_stored_logits_alone_need_no_model_and_no_manifest() -> None:
    plain = scores()
    folders = sorted(Path("out/logits").iterdir())
    shutil.rmtree("runs")
    net = foreign("net", plain.single[1])
    alone = scores(str(folders[0]), str(folders[1]), str(net)).single
    assert [stored.record.kind for stored in alone] == ["checkpoint", "checkpoint", "foreign"]
    for stored, wanted in zip(alone, plain.single, strict=False):
        assert torch.equal(stored.logits, wanted.logits)
    assert alone[2].row_ids == alone[0].row_ids
    assert torch.equal(alone[2].logits, plain.single[1].logits * 2 + 1)
    run = the_run(manifest="manifest.csv")
    given = scores(str(folders[0]), str(net), run=run).single
    assert given[0].record.manifest == "manifest.csv"
    assert torch.equal(given[0].logits, plain.single[0].logits)
    with pytest.raises(
        FerError, match=r"data.max_bad_rows=3 would have no effect: ensemble.teachers names stored logits alone"
    ):
        scores(str(net), run=replace(run, data=DataConfig(max_bad_rows=3)))


def test_one_label_changed_is_named(workshop: Workshop) -> None:
    plain = scores("runs/A_tiny").single[0]
    net = foreign("net", plain)
    folder = next(Path("out/logits").iterdir())

    def relabel(rows: list[Row]) -> None:
        rows[15]["label"] = "Sad"

    other = rewrite(workshop, relabel)
    run = the_run(manifest=other)
    with pytest.raises(
        FerError,
        match=r"out/foreign/net holds no logits of the val rows (?s:.*) has the same rows with 1 other label: "
        r"pictures/val001.png is Disgust there and Sad here\. It holds\n  val_",
    ):
        scores("runs/A_tiny", str(net), run=run)
    renamed = scores("runs/A_tiny", run=run).single[0]
    again = foreign("again", renamed)
    with pytest.raises(
        FerError,
        match=r"no val rows that all have logits of through view single\. out/foreign/again has the same rows "
        r"with 1 other label: pictures/val001.png is Sad there and Disgust here\. There are\n",
    ):
        scores(str(folder), str(again))


def test_another_row_set_is_named(workshop: Workshop) -> None:
    net = foreign("net", scores("runs/A_tiny").single[0])
    other = rewrite(workshop, lambda rows: rows.__delitem__(slice(20, 23)))
    with pytest.raises(FerError, match=r"val_\w{8} has 21 rows, 18 are wanted, and 18 are in both"):
        scores("runs/A_tiny", str(net), run=the_run(manifest=other))
    record_rows(write_teacher(Path("runs/C_other"), seed=5), Path(other).absolute())
    with pytest.raises(
        FerError,
        match=r"runs/A_tiny has val rows \w{8} of .*manifest.csv, and runs/C_other has val rows \w{8} of "
        r".*other.csv\. .*data.manifest=<file>",
    ):
        scores("runs/A_tiny", "runs/C_other")


def test_another_source_is_named(workshop: Workshop) -> None:
    net = foreign("net", scores("runs/A_tiny").single[0])

    def move(rows: list[Row]) -> None:
        rows[14]["source"] = "raf"

    other = rewrite(workshop, move)
    with pytest.raises(
        FerError,
        match=r"out/foreign/net/val_\w{8}: the source of 1 rows differs: pictures/val000.png is of ferplus "
        r"there, and of raf in other.csv",
    ):
        scores("runs/A_tiny", str(net), run=the_run(manifest=other))


def test_rows_that_a_teacher_was_trained_on_are_refused(workshop: Workshop) -> None:
    def swap(rows: list[Row]) -> None:
        for row in rows[:21]:
            row["split"] = "val" if row["split"] == "train" else "train"

    other = rewrite(workshop, swap)
    write_teacher(Path("runs/C_swapped"), seed=5)
    record_rows(Path("runs/C_swapped"), Path(other).absolute())
    with pytest.raises(FerError, match=r"manifest.csv: the model was trained on 7 of these 21 val rows"):
        scores("runs/A_tiny", "runs/C_swapped", run=the_run(manifest="manifest.csv"))
    train = scores(split="train").single
    assert [stored.record.rows_seen_in_training for stored in train] == [14, 14]


def only_folder() -> Path:
    (folder,) = Path("out/logits").iterdir()
    return folder


def edit(folder: Path, **fields: Any) -> None:
    write_artifact(folder / RECORD_FILE, replace(read_artifact(folder / RECORD_FILE, StoredLogitsRecord), **fields))


def test_another_class_order_view_or_preparation_is_named() -> None:
    stored = scores("runs/A_tiny").single[0]
    folder, record = only_folder(), stored.record
    edit(folder, class_order=list(reversed(EMOTIONS)))
    with pytest.raises(FerError, match=rf"{folder}: class_order has class order"):
        scores(str(folder))
    edit(folder, class_order=record.class_order, view="flip")
    with pytest.raises(
        FerError, match=r"there are no logits of val rows through view single(?s:.*)val rows \w{8} of .*, view flip"
    ):
        scores(str(folder))
    with pytest.raises(
        FerError, match=r"holds no logits of the val rows \w{8} through view single\. It holds\n.*, view flip"
    ):
        scores("runs/B_big", str(folder))
    edit(folder, view="single", canonical=record.canonical | {"clahe": False})
    with pytest.raises(
        FerError,
        match=r"canonical_digest is \w{12}, but pictures prepared as it says \(size 32, clahe False.*"
        r"prepared in another way \(size, CLAHE\)",
    ):
        scores(str(folder))
    edit(folder, canonical=record.canonical, corruption="clahe-off")
    with pytest.raises(FerError, match=r"changed pictures \(clahe-off\)"):
        scores(str(folder))
    net = foreign("net", stored)
    with pytest.raises(FerError, match=r"out/foreign/net holds no logits of the val rows \w{8} through view mirror"):
        scores("runs/B_big", str(net), mirror=True)


@pytest.mark.parametrize("name", [LOGITS_FILE, ROWS_FILE])
def test_truncated_files_are_named(name: str) -> None:
    net = foreign("net", scores("runs/A_tiny").single[0])
    (folder,) = net.iterdir()
    (folder / name).write_bytes((folder / name).read_bytes()[:-30])
    with pytest.raises(FerError, match=rf"ensemble.teachers: {folder / name} is not the file that .*cut short"):
        scores("runs/A_tiny", str(net))


def test_another_checkpoint_under_the_same_name_is_inferred_anew() -> None:
    first = scores("runs/A_tiny").single[0]
    write_teacher(Path("runs/A_tiny"), seed=11)
    second = scores("runs/A_tiny").single[0]
    assert second.record.checkpoint_sha256 != first.record.checkpoint_sha256
    assert not torch.equal(second.logits, first.logits)
    assert len(list(Path("out/logits").iterdir())) == 2


class Lookups:
    """Counts how often scores were put together."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._real = module._of_all
        monkeypatch.setattr(module, "_of_all", self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Count and go on."""
        self.count += 1
        return self._real(*args, **kwargs)


def test_the_next_job_of_a_sweep_gets_the_same_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    net = foreign("net", scores("runs/A_tiny").single[0])
    lookups, given = Lookups(monkeypatch), ("runs/A_tiny", "runs/B_big", str(net))
    first = scores(*given)
    assert scores(*given) is first
    assert scores(*given, names=("x", "y", "z")) is first
    assert lookups.count == 1
    assert scores(*given, split="val", mirror=False) is first
    assert scores("runs/A_tiny", "runs/B_big") is not first
    assert scores(*given, run=the_run(manifest="manifest.csv")) is not first
    assert scores(*given, run=the_run(reuse_logits=False)) is not first
    assert lookups.count == 4


def touched(path: Path) -> None:
    later = time.time_ns() + 10**9
    os.utime(path, ns=(later, later))


@pytest.mark.parametrize(
    "change",
    [
        lambda _: write_teacher(Path("runs/B_big"), seed=12, size=40),
        lambda _: (Path("runs/A_tiny/calibration.json")).write_text("{}"),
        lambda _: touched(Path("manifest.csv")),
        lambda _: touched(Path("runs/A_tiny/alignmentreport.json")),
        lambda _: touched(next(Path("out/logits").glob(f"*/{LOGITS_FILE}"))),
        lambda _: touched(next(Path("out/logits").glob(f"*/{RECORD_FILE}"))),
        lambda net: touched(next(net.glob(f"*/{ROWS_FILE}"))),
        shutil.rmtree,
    ],
)
def test_a_file_that_changed_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    net = foreign("net", scores("runs/A_tiny").single[0])
    given, run = ("runs/A_tiny", "runs/B_big", str(net)), the_run()
    teachers = open_teachers(given, [], option=OPTION)
    lookups = Lookups(monkeypatch)
    teacher_scores(run, teachers, "val", option=OPTION)
    teacher_scores(run, teachers, "val", option=OPTION)
    assert lookups.count == 1
    change(net)
    try:
        teacher_scores(run, open_teachers(given, [], option=OPTION), "val", option=OPTION)
    except FerError:
        assert not net.exists() or Path("runs/A_tiny/calibration.json").exists()
    assert lookups.count == 2 or not net.exists()


def test_a_model_outside_any_run_takes_the_rows_of_the_others(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    Path("loose").mkdir()
    shutil.copy(write_teacher(Path("runs/C_loose"), seed=6) / "best.pt", "loose/best.pt")
    first, second = scores("loose/best.pt", "runs/A_tiny").single
    assert first.row_ids == second.row_ids
    assert (first.record.rows_seen_in_training, second.record.rows_seen_in_training) == (None, 0)
    assert "not checked whether the model was trained on these rows" in caplog.text
    with pytest.raises(FerError, match="data.manifest is not set, and loose is no run directory"):
        scores("loose/best.pt")


def test_runs_that_carved_alike_go_together(workshop: Workshop) -> None:
    rows = three_splits(train=35, val=0)
    with workshop.manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        workshop.draw(row["image_path"])
    for name, seed in (("A_tiny", 3), ("B_big", 3), ("C_other", 4)):
        run_dir = Path("runs") / name
        if name == "C_other":
            write_teacher(run_dir, seed=8)
        record_rows(run_dir, workshop.manifest, val_fraction=0.3, split_seed=seed)
    run = the_run(manifest="manifest.csv")
    for asking in (the_run(), run):
        first, second = scores(run=asking).single
        assert first.row_ids == second.row_ids
    for asking in (the_run(), run):
        with pytest.raises(FerError, match=r"runs/A_tiny has val rows \w{8} .* and runs/C_other has val rows"):
            scores("runs/A_tiny", "runs/C_other", run=asking)


def test_logits_of_two_row_sets_need_a_manifest(workshop: Workshop) -> None:
    plain = scores("runs/A_tiny").single[0]
    net = foreign("net", plain)
    other = rewrite(workshop, lambda rows: rows.__delitem__(slice(20, 23)))
    foreign("net", scores("runs/A_tiny", run=the_run(manifest=other)).single[0])
    with pytest.raises(
        FerError, match=r"logits of several sets of val rows; name the one by data.manifest=<file>\nout/foreign/net:\n"
    ):
        scores(str(net))
    assert scores(str(net), run=the_run(manifest=other)).single[0].record.n == 18
    assert scores(str(net), run=the_run(manifest="manifest.csv")).single[0].record.n == 21
    (one,) = [path for path in net.iterdir() if read_stored_logits(path, option="x").record.n == 21]
    assert scores(str(net), str(foreign("second", plain))).single[0].record.n == 21
    assert scores(str(one)).single[0].record.n == 21
