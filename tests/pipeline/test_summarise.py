"""The verb `summarise` on runs written by hand: every kind, every state, tables by rows."""

import csv
import io
import os
from dataclasses import replace
from pathlib import Path

import pytest

from fer_lightning.errors import FerError
from fer_lightning.pipeline.archive import archive
from fer_lightning.pipeline.housekeeping.config import ArchiveConfig, ArchiveRun, SummariseRun, SummaryConfig
from fer_lightning.pipeline.summarise import summarise
from fer_lightning.reports.summary_page import size_text
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.lock import RunLock
from fer_lightning.runs.summary import RunSummary, Summary
from tests.runs.finished_ensembles import OTHER_ROWS, write_ensemble, write_softlabels
from tests.runs.finished_evaluations import write_evaluation
from tests.runs.finished_runs import metrics, teacher, write_finished_run
from tests.runs.finished_students import student, write_student


def summarised(root: Path, output: Path | None = None) -> Summary:
    config = SummaryConfig(output_dir=None if output is None else str(output))
    summarise(SummariseRun(run=RunConfig(root=str(root)), summary=config))
    return read_artifact((output or root) / "summary.json", Summary)


def named(summary: Summary, path: Path) -> RunSummary:
    return next(run for run in summary.runs if Path(run.run).name == path.name)


def test_every_kind_in_tables_of_one_set_of_rows(tmp_path: Path) -> None:
    first, second = (write_finished_run(tmp_path, teacher(seed), metrics(seed / 10)) for seed in (7, 8))
    other = write_finished_run(tmp_path, teacher(9), metrics(0.9), val_rows=OTHER_ROWS, n=9)
    ensemble = write_ensemble(tmp_path, "e", 0.85, teachers=[first, second])
    labels = write_softlabels(tmp_path, "s", ensemble, 0.85)
    evaluation = write_evaluation(tmp_path / "evaluations" / "v", first / "best.pt").parent
    logits = tmp_path / "logits" / "l"
    logits.mkdir(parents=True)
    record = '{"split": "val", "n": 51, "row_set_fingerprint": "' + "fa" * 32 + '", "run_dir": "../../teachers/x"}'
    (logits / "storedlogits.json").write_text(record, encoding="utf-8")
    found = summarised(tmp_path)
    tables = [(table.kind, table.split, table.n, [Path(run.run).name for run in table.runs]) for table in found.tables]
    assert tables == [
        ("teachers", "val", 9, [other.name]),
        ("teachers", "val", 51, [second.name, first.name]),
        ("ensembles", "val", 51, ["e", "s"]),
        ("evaluations", "test", 40, ["v"]),
    ]
    assert [run.run for run in found.without_figures] == ["logits/l"]
    assert (found.without_figures[0].n, found.without_figures[0].split) == (51, "val")
    best = {Path(run.run).name for run in found.runs if run.best}
    assert best == {other.name, second.name, "e", "s", "v"}
    assert (named(found, first).seeds, named(found, ensemble).seeds) == ([7], [7, 8])
    assert named(found, first).needed_by == ["ensembles/e"]
    assert named(found, first).named_by == ["evaluations/v"]
    assert named(found, ensemble).needed_by == ["softlabels/s"]
    assert named(found, evaluation).figures["macro_f1"] == 0.7
    size = sum(path.stat().st_size for path in labels.iterdir())
    assert named(found, labels).size_bytes == size
    assert {run.state for run in found.runs} == {"finished"}


def test_states(tmp_path: Path) -> None:
    trained, begun, resumed, broken, locked = (write_finished_run(tmp_path, teacher(seed)) for seed in range(1, 6))
    (begun / "reliabilitymetrics.json").unlink()
    later = (resumed / "reliabilitymetrics.json").stat().st_mtime_ns - 10**9
    os.utime(resumed / "reliabilitymetrics.json", ns=(later, later))
    (broken / "reliabilitymetrics.json").write_text("{", encoding="utf-8")
    weak = write_ensemble(tmp_path, "weak", 0.1)
    write_ensemble(tmp_path, "good", 0.9)
    archive(ArchiveRun(run=RunConfig(root=str(tmp_path)), archive=ArchiveConfig(runs=[str(weak)])))
    with RunLock(locked):
        found = summarised(tmp_path)
    states = {path: named(found, path).state for path in (trained, begun, resumed, broken, locked, weak)}
    assert [*states.values()] == ["finished", "unfinished", "unfinished", "unreadable", "locked", "archived"]
    assert "is not a valid ReliabilityMetrics" in str(named(found, broken).reason)
    assert str(named(found, locked).locked_by).startswith("pid ")
    assert [run.figures["macro_f1"] for run in found.archived] == [0.1]
    assert not found.archived[0].best
    assert [Path(item.run).name for item in found.searched_as_text] == ["reliabilitymetrics.json"]


def test_the_three_files_say_the_same(tmp_path: Path) -> None:
    write_ensemble(tmp_path, "a", 0.8, scaled=replace(metrics(0.8), ece=0.02))
    write_ensemble(tmp_path, "b", 0.7)
    found = summarised(tmp_path, tmp_path / "out")
    page = (tmp_path / "out" / "summary.md").read_text("utf-8")
    assert "## ensembles: 2 on val rows fafafafa (n=51)" in page
    assert "| 1 | `../ensembles/a` | ensembles | finished | .8000 |" in page
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out" / "summary.csv").read_text("utf-8"))))
    assert [line["run"] for line in lines] == [run.run for run in found.runs] == ["../ensembles/a", "../ensembles/b"]
    assert [line["ece_scaled"] for line in lines] == ["0.02", ""]
    assert [line["best"] for line in lines] == ["True", "False"]


def test_it_can_be_made_again_and_changes_no_run(tmp_path: Path) -> None:
    write_ensemble(tmp_path, "a", 0.8)
    write_finished_run(tmp_path, teacher(1))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    first = summarised(tmp_path)
    assert summarised(tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 30, "3.0 GiB")])
def test_sizes_for_people(size: int, text: str) -> None:
    assert size_text(size) == text


def test_a_mistake_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FerError, match="no run below"):
        summarised(tmp_path)
    with pytest.raises(FerError, match=r"run\.root: no folder"):
        summarised(tmp_path / "nowhere")
    ensemble = write_ensemble(tmp_path, "e")
    with pytest.raises(FerError, match=r"summary\.output_dir: .*lies in, the run"):
        summarised(tmp_path, ensemble)
    (tmp_path / "taken").touch()
    with pytest.raises(FerError, match=r"cannot write to .*taken"):
        summarised(tmp_path, tmp_path / "taken")


def test_students_have_a_table_of_their_own_and_need_what_taught_them(tmp_path: Path) -> None:
    ensemble = write_ensemble(tmp_path, "e", 0.85)
    labels = write_softlabels(tmp_path, "s", ensemble)
    weak, good = (write_student(tmp_path, student(seed, softlabels=str(labels)), metrics(seed / 10)) for seed in (6, 7))
    found = summarised(tmp_path)
    tables = [(table.kind, [Path(run.run).name for run in table.runs]) for table in found.tables]
    assert tables == [("students", [good.name, weak.name]), ("ensembles", ["e", "s"])]
    assert (named(found, good).seeds, named(found, good).best, named(found, weak).best) == ([7], True, False)
    assert named(found, labels).needed_by == [f"students/{run.name}" for run in (weak, good)]
