"""Leave one source out: honest runs, continued where they were left, and a matrix that says what was never seen."""

import csv
import logging
import shutil
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from fer_lightning.data.config import SourceFilterConfig
from fer_lightning.data.rows.manifest import read_manifest
from fer_lightning.errors import FerError, FinishedRunError, RunLockedError
from fer_lightning.files import sha256_of
from fer_lightning.pipeline import leave_one_source_out
from fer_lightning.pipeline.config import TrainTeacherRun
from fer_lightning.pipeline.leave_one_source_out import leave_one_source_out as leave_out
from fer_lightning.pipeline.logits import infer_logits
from fer_lightning.pipeline.teachers.leave_one_out_config import LeaveOneSourceOutRun, LeaveOut
from fer_lightning.pipeline.teachers.left_out_teachers import plan_teachers, reference_run, run_without
from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.runs.artifacts import AlignmentReport, ReliabilityMetrics, read_artifact
from fer_lightning.runs.config import OnExisting
from fer_lightning.runs.lock import RunLock
from fer_lightning.runs.run_dir import plain_values, read_config
from fer_lightning.runs.source_matrix import SourceCell, SourceMatrix
from fer_lightning.runs.stored_logits import read_stored_logits
from tests.conftest import toy_run
from tests.pipeline.test_ddp import WATCH, finish, options

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")

REFERENCE = "TOY_test_resnet_seed1337_toy_img32"
LEFT_OUT = ["ferplus", "rafdb_basic"]
FILES = {"source_matrix.json", "source_matrix.md", "source_matrix.csv", "source_matrix.png"}


def make_run(
    manifest: Path, root: Path, *, cache: Path | None = None, on_existing: OnExisting = OnExisting.fail
) -> LeaveOneSourceOutRun:
    """One epoch at 32 px each."""
    groups = {name: value for name, value in vars(toy_run(manifest, root, epochs=1)).items() if name != "task"}
    run = LeaveOneSourceOutRun(**groups, leave_out=LeaveOut(sources=[*LEFT_OUT], num_resamples=100))
    run.run.on_existing = on_existing
    if cache is not None:
        run.data.cache_dir = str(cache)
    return run


@pytest.fixture(scope="module")
def root(toy_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of three finished teachers and their matrix."""
    root = tmp_path_factory.mktemp("left_out")
    leave_out(make_run(toy_manifest, root))
    return root


@pytest.fixture
def folder(root: Path) -> Path:
    return root / "source_matrix" / REFERENCE


@pytest.fixture
def matrix(folder: Path) -> SourceMatrix:
    return read_artifact(folder / "source_matrix.json", SourceMatrix)


def rewritten(manifest: Path, folder: Path, change: Any) -> Path:
    """Return another manifest of the same pictures, whose rows a function has changed or taken out (None)."""
    rows = list(csv.DictReader(manifest.read_text(encoding="utf-8").splitlines()))
    kept = [row for row in map(change, rows) if row is not None]
    path = folder / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    return path


def test_each_teacher_is_the_run_it_would_be_by_itself(root: Path, toy_manifest: Path, tmp_path: Path) -> None:
    alone = toy_run(toy_manifest, tmp_path, epochs=1, tag="without-ferplus")
    alone.data.cache_dir = str(root / "cache")
    alone.source_filter = SourceFilterConfig(name="all-without-ferplus", exclude=["ferplus"])
    train_teacher(alone)
    path = root / "teachers" / f"{REFERENCE}_without-ferplus"
    assert (alone.directory / "history.json").read_bytes() == (path / "history.json").read_bytes()
    recorded, expected = read_config(path), plain_values(alone)
    assert {**recorded, "run": None, "data": None} == {**expected, "run": None, "data": None}  # which name places
    assert read_config(root / "teachers" / REFERENCE)["task"] == "train_teacher"


def test_a_source_left_out_is_in_no_part_of_its_teacher(root: Path, matrix: SourceMatrix) -> None:
    reference = read_artifact(root / "teachers" / REFERENCE / "alignmentreport.json", AlignmentReport)
    for source, row in zip(LEFT_OUT, matrix.rows[1:], strict=True):
        path = (root / "source_matrix" / REFERENCE / row.run).resolve()
        report = read_artifact(path / "alignmentreport.json", AlignmentReport)
        assert source not in report.source_counts_after_filter
        assert report.source_counts_left_out == {source: sum(reference.source_counts_after_filter[source].values())}
        best = read_artifact(path / "reliabilitymetrics.json", ReliabilityMetrics).best
        assert best.row_set_fingerprint == row.val_fingerprint == report.row_set_fingerprints["val"]
        assert best.checkpoint_sha256 == row.checkpoint_sha256
        assert row.calibration is not None
        assert row.calibration.fitted_on_fingerprint == row.val_fingerprint
        assert row.val_rows == matrix.n - sum(matrix.support[source].values())


def test_cells_are_figures_of_the_reference_val_rows(root: Path, matrix: SourceMatrix, toy_manifest: Path) -> None:
    manifest = read_manifest(toy_manifest)
    assert [row.left_out for row in matrix.rows] == [None, *LEFT_OUT]
    assert matrix.sources == sorted({*manifest.sources[manifest.splits == "val"].tolist()})
    for row in matrix.rows:
        (logits,) = (root / "logits").glob(f"{Path(row.run).name}__best.pt_*")
        stored = read_stored_logits(logits, option="test")
        assert row.logits_sha256 == stored.record.logits_sha256
        predictions, labels = stored.logits.argmax(1).numpy(), stored.labels.numpy()
        assert [cell.source for cell in row.cells] == [*matrix.sources, "all"]
        for cell in row.cells:
            chosen = np.asarray([cell.source in (source, "all") for source in stored.sources])
            present = sorted(set(labels[chosen].tolist()))
            f1 = f1_score(labels[chosen], predictions[chosen], labels=present, average="macro", zero_division=0)
            assert (cell.n, cell.classes_present) == (chosen.sum(), len(present))
            assert cell.macro_f1_present == pytest.approx(f1)
            assert cell.accuracy == pytest.approx(accuracy_score(labels[chosen], predictions[chosen]))
            assert cell.rows_seen_in_training == 0
            if cell.macro_f1_present_range is not None:
                limits = cell.macro_f1_present_range
                assert limits.low <= cell.macro_f1_present <= limits.high


def test_costs_are_reference_less_without(matrix: SourceMatrix) -> None:
    def cell(row: int, source: str) -> SourceCell:
        return next(cell for cell in matrix.rows[row].cells if cell.source == source)

    assert [cost.source for cost in matrix.costs] == LEFT_OUT
    for number, cost in enumerate(matrix.costs, start=1):
        assert cost.n == sum(matrix.support[cost.source].values())
        for name in ("accuracy", "macro_f1_present"):
            figure = getattr(cost, name)
            assert figure.reference == pytest.approx(getattr(cell(0, cost.source), name))
            assert figure.without == pytest.approx(getattr(cell(number, cost.source), name))
            assert figure.cost == pytest.approx(figure.reference - figure.without)
            none = cost.num_groups < 10 or not cost.differing_predictions
            assert (figure.range is None, figure.p_value is None) == (none, none)


def test_all_files_are_there_and_say_the_same(folder: Path, matrix: SourceMatrix) -> None:
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".run.lock")} == FILES
    rows = list(csv.DictReader((folder / "source_matrix.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == sum(len(row.cells) for row in matrix.rows)
    unseen = [row for row in rows if row["unseen"] == "True"]
    assert [(row["left_out"], row["source"]) for row in unseen] == [(name, name) for name in LEFT_OUT]
    page = (folder / "source_matrix.md").read_text(encoding="utf-8")
    assert "| without ferplus |" in page
    assert matplotlib.image.imread(folder / "source_matrix.png").std() > 0.05


def test_finished_teachers_are_used_and_the_matrix_is_written_again(
    root: Path, folder: Path, toy_manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: sha256_of(folder / name) for name in FILES - {"source_matrix.png"}}
    (folder / "source_matrix.json").unlink()
    monkeypatch.setattr(infer_logits, "infer_logits", lambda *_, **__: pytest.fail("inferred again"))
    with pytest.raises(FinishedRunError, match="all 3 teachers are complete.*written anew"):
        leave_out(make_run(toy_manifest, root, on_existing=OnExisting.resume))
    assert {name: sha256_of(folder / name) for name in before} == before


def test_an_interrupted_command_goes_on_and_ends_where_an_uninterrupted_one_does(
    root: Path, folder: Path, toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def interrupted(run: TrainTeacherRun) -> None:
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(run.name)
        train_teacher(run)

    monkeypatch.setattr(leave_one_source_out, "train_teacher", interrupted)
    with pytest.raises(KeyboardInterrupt):
        leave_out(make_run(toy_manifest, tmp_path, cache=root / "cache"))
    assert trained == [REFERENCE, f"{REFERENCE}_without-ferplus"]
    assert not (tmp_path / "source_matrix").exists()
    monkeypatch.undo()
    with pytest.raises(FerError, match="the reference: .*Continue it with run.on_existing=resume"):
        leave_out(make_run(toy_manifest, tmp_path, cache=root / "cache"))
    leave_out(make_run(toy_manifest, tmp_path, cache=root / "cache", on_existing=OnExisting.resume))
    there = tmp_path / "source_matrix" / REFERENCE
    for name in ("source_matrix.csv", "source_matrix.md"):
        ours, theirs = (
            path.read_text(encoding="utf-8").split("## Teachers")[0] for path in (there / name, folder / name)
        )
        assert ours == theirs
    for path in (root / "teachers").iterdir():
        assert (tmp_path / "teachers" / path.name / "history.json").read_bytes() == (path / "history.json").read_bytes()


def test_names_and_filters_of_the_teachers(toy_manifest: Path, tmp_path: Path) -> None:
    run = make_run(toy_manifest, tmp_path)
    run.run.tag = "mine"
    run.source_filter = SourceFilterConfig(name="two", include=["ferplus", "rafdb_basic"])
    without = run_without(reference_run(run), "ferplus")
    assert without.name == f"{REFERENCE}_mine_without-ferplus"
    assert (without.source_filter.include, without.source_filter.exclude) == (["rafdb_basic"], [])
    run.source_filter = SourceFilterConfig(exclude=["expw_hq"])
    without = run_without(reference_run(run), "a set/of mine")
    assert without.name == f"{REFERENCE}_mine_without-a-set-of-mine"
    assert without.source_filter.exclude == ["expw_hq", "a set/of mine"]
    assert without.run.seed == run.run.seed


def test_without_names_every_source_with_train_and_val_rows_is_left_out(
    toy_manifest: Path, root: Path, tmp_path: Path
) -> None:
    def change(row: dict[str, str]) -> dict[str, str] | None:
        return None if (row["source"], row["split"]) == ("rafdb_basic", "val") else row

    path = rewritten(toy_manifest, tmp_path, change)
    run = make_run(path, tmp_path, cache=root / "cache")
    run.data.root, run.leave_out.sources = str(toy_manifest.parent), []
    names = [teacher.left_out for teacher in plan_teachers(run)]
    manifest = read_manifest(toy_manifest)
    val = {*manifest.sources[manifest.splits == "val"].tolist()} - {"rafdb_basic"}
    assert names == [None, *sorted(val)]
    run.leave_out.sources = ["rafdb_basic"]
    with pytest.raises(FerError, match="leave_out.sources names rafdb_basic, without train and val rows"):
        plan_teachers(run)


def test_a_manifest_without_val_rows_is_refused(toy_manifest: Path, root: Path, tmp_path: Path) -> None:
    def change(row: dict[str, str]) -> dict[str, str]:
        return {**row, "split": "train"} if row["split"] == "val" else row

    path = rewritten(toy_manifest, tmp_path, change)
    run = make_run(path, tmp_path, cache=root / "cache")
    run.data.root = str(toy_manifest.parent)
    with pytest.raises(FerError, match="has no val rows .*each teacher would carve its own.*build=merge"):
        leave_out(run)


def test_one_source_or_val_rows_of_one_source_are_too_few(toy_manifest: Path, root: Path, tmp_path: Path) -> None:
    run = make_run(toy_manifest, tmp_path, cache=root / "cache")
    run.source_filter = SourceFilterConfig(include=["ferplus"])
    with pytest.raises(FerError, match="needs train rows of at least two; .* has those of ferplus"):
        leave_out(run)

    def change(row: dict[str, str]) -> dict[str, str] | None:
        return None if row["split"] == "val" and row["source"] != "ferplus" else row

    run = make_run(rewritten(toy_manifest, tmp_path, change), tmp_path, cache=root / "cache")
    run.data.root, run.leave_out.sources = str(toy_manifest.parent), []
    with pytest.raises(FerError, match="the teacher without ferplus: all val rows are of ferplus"):
        leave_out(run)


def test_near_copies_of_a_left_out_source_are_named(
    toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A val picture of one source, copied into the train rows of another, is refused, or counted where allowed."""
    monkeypatch.chdir(tmp_path)  # where the list of leaks goes
    folder = tmp_path / "set"
    shutil.copytree(toy_manifest.parent, folder)
    rows = list(csv.DictReader((folder / "manifest.csv").read_text(encoding="utf-8").splitlines()))
    shown = next(row for row in rows if (row["source"], row["split"]) == ("ferplus", "val"))
    copy = f"rafdb_basic/train/copy{Path(shown['image_path']).suffix}"
    shutil.copy(folder / shown["image_path"], folder / copy)
    other = next(row for row in rows if (row["source"], row["split"]) == ("rafdb_basic", "train"))
    with (folder / "manifest.csv").open("a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, list(rows[0])).writerow({**other, "image_path": copy, "label": shown["label"]})
    run = make_run(folder / "manifest.csv", tmp_path)
    with pytest.raises(FerError, match="content"):
        plan_teachers(run)
    run.data.allow_leaks = ["content"]
    seen = {teacher.left_out: len(teacher.seen) for teacher in plan_teachers(run)}
    assert seen == {None: 1, "ferplus": 1, "rafdb_basic": 0}


def test_starting_weights_that_have_seen_the_source_are_refused(root: Path, toy_manifest: Path, tmp_path: Path) -> None:
    run = make_run(toy_manifest, tmp_path, cache=root / "cache")
    run.stage.init_from = str(root / "teachers" / f"{REFERENCE}_without-ferplus")
    with pytest.raises(FerError, match="trained on rafdb_basic: leaving that out would show nothing"):
        plan_teachers(run)
    run.leave_out.sources = ["ferplus"]
    assert [teacher.left_out for teacher in plan_teachers(run)] == [None, "ferplus"]


def test_names_that_make_one_folder_are_refused(toy_manifest: Path, root: Path, tmp_path: Path) -> None:
    renamed = {"ferplus": "my set", "rafdb_basic": "my/set"}
    path = rewritten(toy_manifest, tmp_path, lambda row: {**row, "source": renamed.get(row["source"], row["source"])})
    run = make_run(path, tmp_path, cache=root / "cache")
    run.data.root, run.leave_out.sources = str(toy_manifest.parent), list(renamed.values())
    with pytest.raises(FerError, match="differ only in characters that no folder name may have"):
        plan_teachers(run)


def test_a_rendition_that_stays_is_warned_of(
    toy_manifest: Path, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = rewritten(
        toy_manifest,
        tmp_path,
        lambda row: {**row, "source": "expw_full"} if row["source"] == "rafdb_basic" else row,
    )
    run = make_run(path, tmp_path, cache=root / "cache")
    run.data.root, run.leave_out.sources = str(toy_manifest.parent), ["expw_hq"]
    with caplog.at_level(logging.WARNING):
        plan_teachers(run)
    assert "expw_hq is left out, but expw_full is of the same data set and stays in training" in caplog.text


def test_a_matrix_being_written_is_locked(root: Path, folder: Path, toy_manifest: Path) -> None:
    with RunLock(folder), pytest.raises(RunLockedError):
        leave_out(make_run(toy_manifest, root, on_existing=OnExisting.resume))


@pytest.mark.slow
def test_two_processes_train_all_teachers_and_one_judges(root: Path, toy_manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    writes, path = tmp_path / "writes", tmp_path / "teachers"  # below a folder of this name writes are noted
    arguments = [
        *options(toy_manifest, path, "task=leave_one_source_out", "stage.epochs=1", "loss.ramp_end_epoch=1"),
        *("leave_out.sources=[ferplus,rafdb_basic]", "leave_out.num_resamples=100", f"data.cache_dir={root / 'cache'}"),
    ]
    code, said = finish(*arguments, folder=tmp_path, WRITES=str(writes))
    assert code == 0, said
    assert said.count("everything is in") == 3
    assert said.count("source_matrix.json") == 1
    assert {line.split()[0] for line in writes.read_text().splitlines()} == {"0"}
    matrix = read_artifact(path / "source_matrix" / REFERENCE / "source_matrix.json", SourceMatrix)
    alone = read_artifact(root / "source_matrix" / REFERENCE / "source_matrix.json", SourceMatrix)
    assert [row.left_out for row in matrix.rows] == [None, *LEFT_OUT]
    assert matrix.row_set_fingerprint == alone.row_set_fingerprint
    before = matrix.rows
    code, said = finish(*arguments, "run.on_existing=resume", folder=tmp_path, WRITES=str(writes))
    assert code == FinishedRunError.exit_code, said
    assert "all 3 teachers are complete" in said
    assert read_artifact(path / "source_matrix" / REFERENCE / "source_matrix.json", SourceMatrix).rows == before
