"""The verb `triage` on ensembles and soft labels written by hand: ranks, what is bad, and what is kept."""

import logging
import os
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from fer_lightning.errors import FerError
from fer_lightning.pipeline.housekeeping.config import TriageConfig, TriageRun
from fer_lightning.pipeline.triage import triage
from fer_lightning.runs.artifacts import read_artifact, write_artifact
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.lock import LOCK_NAME, LockHolder, RunLock
from fer_lightning.runs.triage import Triage
from tests.runs.finished_ensembles import OTHER_ROWS, write_ensemble, write_softlabels
from tests.runs.finished_runs import metrics, teacher, write_finished_run
from tests.runs.finished_students import student, write_student


def triaged(root: Path, **options: object) -> Triage:
    triage(TriageRun(run=RunConfig(root=str(root)), triage=TriageConfig(**options)))  # type: ignore[arg-type]
    return read_artifact(Path(str(options.get("output_dir") or root)) / "_ensemble_triage.json", Triage)


def order(found: Triage, table: int = 0) -> list[str]:
    return [Path(run.run).name for run in found.tables[table].runs]


def kept(found: Triage) -> dict[str, list[str]]:
    return {Path(run.run).name: run.kept_because for table in found.tables for run in table.runs if run.kept_because}


def test_bad_is_told_within_one_set_of_rows_only(tmp_path: Path) -> None:
    """A ranking over all rows would call the best of the other rows bad."""
    write_ensemble(tmp_path, "large-best", 0.80)
    write_ensemble(tmp_path, "large-near", 0.791)
    write_ensemble(tmp_path, "large-weak", 0.70)
    write_ensemble(tmp_path, "small-best", 0.60, rows=OTHER_ROWS, n=9)
    write_ensemble(tmp_path, "small-weak", 0.50, rows=OTHER_ROWS, n=9)
    found = triaged(tmp_path)
    assert [(table.split, table.n, table.row_set_fingerprint[:2]) for table in found.tables] == [
        ("val", 9, "0b"),
        ("val", 51, "fa"),
    ]
    assert order(found, 0) == ["small-best", "small-weak"]
    assert order(found, 1) == ["large-best", "large-near", "large-weak"]
    assert found.bad == ["ensembles/small-weak", "ensembles/large-weak"]
    listed = (tmp_path / "_ensemble_bad_list.txt").read_text("utf-8")
    assert listed == "ensembles/small-weak\nensembles/large-weak\n"
    assert [run.best for run in found.tables[0].runs] == [True, False]
    assert found.tables[0].runs[1].drop == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"minority_f1": 0.6}, {"minority_f1": 0.5, "ece": 0.0, "accuracy": 0.9}),
        ({"ece": 0.1}, {"ece": 0.2, "accuracy": 0.9}),
        ({"accuracy": 0.6}, {"accuracy": 0.5}),
    ],
)
def test_the_documents_order_decides_after_macro_f1(
    tmp_path: Path, better: dict[str, Any], worse: dict[str, Any]
) -> None:
    write_ensemble(tmp_path, "a-worse", 0.7, **worse)
    write_ensemble(tmp_path, "b-better", 0.7, **better)
    found = triaged(tmp_path)
    assert order(found) == ["b-better", "a-worse"]
    assert [run.best for run in found.tables[0].runs] == [True, False]


def test_calibrated_ece_decides_where_every_run_has_it(tmp_path: Path) -> None:
    write_ensemble(tmp_path, "a", 0.7, ece=0.1, scaled=metrics(0.7, ece=0.05))
    write_ensemble(tmp_path, "b", 0.7, ece=0.2, scaled=metrics(0.7, ece=0.02))
    found = triaged(tmp_path)
    assert (found.tables[0].ece, order(found)) == ("ece_scaled", ["b", "a"])
    write_ensemble(tmp_path, "c", 0.7, ece=0.15)
    found = triaged(tmp_path)
    assert (found.tables[0].ece, order(found)) == ("ece", ["a", "c", "b"])
    assert "uncalibrated ECE" in (tmp_path / "_ensemble_triage.md").read_text("utf-8")


def test_a_tie_has_two_best_ones_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_ensemble(tmp_path, name, 0.7)
    found = triaged(tmp_path, max_macro_f1_drop=0.0)
    assert order(found) == ["a", "b"]
    assert [run.best for run in found.tables[0].runs] == [True, True]
    assert found.bad == []


def test_weak_ones_are_kept_where_something_holds_them(tmp_path: Path) -> None:
    write_ensemble(tmp_path, "best", 0.8)
    referred = write_ensemble(tmp_path, "referred", 0.5)
    locked = write_ensemble(tmp_path, "locked", 0.5)
    free = write_ensemble(tmp_path, "free", 0.5)
    write_softlabels(tmp_path, "labels", referred, 0.5)
    stale = LockHolder(pid=2**22 + 1, process_start=1.0, host=socket.gethostname(), command="", heartbeat=1.0)
    write_artifact(free / LOCK_NAME, stale)
    with RunLock(locked):
        found = triaged(tmp_path)
    assert found.bad == ["ensembles/free"]
    assert kept(found) == {
        "referred": ["referred to by softlabels/labels"],
        "locked": [f"locked by pid {os.getpid()} on {socket.gethostname()}"],
        "labels": ["the best of softlabels on these rows"],
    }
    page = (tmp_path / "_ensemble_triage.md").read_text("utf-8")
    assert "## Kept although weak: 3" in page
    assert "referred to by softlabels/labels" in page
    assert psutil.pid_exists(stale.pid) is False


def test_test_rows_have_a_table_of_their_own_and_train_rows_call_nothing_bad(tmp_path: Path) -> None:
    for split in ("val", "test", "train"):
        write_ensemble(tmp_path, f"{split}-good", 0.8, split=split)
        write_ensemble(tmp_path, f"{split}-weak", 0.6, split=split)
    found = triaged(tmp_path)
    assert [table.split for table in found.tables] == ["val", "test", "train"]
    assert found.bad == ["ensembles/val-weak", "ensembles/test-weak"]
    labels = [table.label for table in found.tables]
    assert labels[0] is None
    assert "chosen on the rows it is reported on" in str(labels[1])
    assert kept(found) == {"train-weak": ["judged on train rows only, which its teachers have seen"]}


def test_what_cannot_be_ranked_is_named_with_its_reason_and_never_bad(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_ensemble(tmp_path, "good", 0.8)
    broken, incomplete, other, unlabelled, undefined = (
        write_ensemble(tmp_path, name, 0.1) for name in ("broken", "incomplete", "other", "unlabelled", "undefined-")
    )
    (broken / "ensemble_metrics.json").write_text("{", encoding="utf-8")
    (incomplete / "ensemble.json").unlink()
    (other / "ensemble.json").write_text((other / "ensemble.json").read_text("utf-8") + " ", encoding="utf-8")
    (unlabelled / "ensemble_metrics.json").unlink()
    text = (undefined / "ensemble_metrics.json").read_text("utf-8")
    (undefined / "ensemble_metrics.json").write_text(text.replace('"macro_f1": 0.1', '"macro_f1": "NaN"'), "utf-8")
    caplog.set_level(logging.INFO)
    found = triaged(tmp_path)
    assert order(found) == ["good"]
    assert found.bad == []
    reasons = {item.run: item.reason for item in found.left_out}
    assert "is not a valid EnsembleMetrics" in reasons["ensembles/broken"]
    assert reasons["ensembles/incomplete"] == "incomplete, it has no ensemble.json"
    assert "is of another ensemble.json" in reasons["ensembles/other"]
    assert "no ensemble_metrics.json" in reasons["ensembles/unlabelled"]
    assert "macro_f1 on val is not a number" in reasons["ensembles/undefined-"]
    assert caplog.text.count("not ranked: ") == 5


def test_nothing_is_bad_while_a_file_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ensemble(tmp_path, "good", 0.8)
    write_ensemble(tmp_path, "weak", 0.5)
    shut = write_finished_run(tmp_path, teacher(1)) / "alignmentreport.json"
    read = Path.read_bytes

    def refusing(path: Path) -> bytes:
        if path == shut:
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refusing)
    found = triaged(tmp_path)
    assert found.bad == []
    assert "cannot be told" in kept(found)["weak"][0]
    assert [item.reason for item in found.not_searched] == ["Permission denied"]


def test_folders_named_one_by_one_or_as_sweeps(tmp_path: Path) -> None:
    root = tmp_path / "experiments"
    first = write_ensemble(root, "first", 0.8)
    write_ensemble(root, "unnamed", 0.9)
    write_ensemble(tmp_path / "sweeps" / "one", "second", 0.7)
    out = tmp_path / "out"
    found = triaged(root, folders=[str(first), str(tmp_path / "sweeps"), str(first)], output_dir=str(out))
    assert order(found) == ["first", "second"]
    assert found.bad == ["../sweeps/one/ensembles/second"]
    assert sorted(path.name for path in out.iterdir()) == [
        "_ensemble_bad_list.txt",
        "_ensemble_triage.json",
        "_ensemble_triage.md",
    ]


def test_the_same_folders_give_the_same_bytes(tmp_path: Path) -> None:
    for number in range(4):
        write_ensemble(tmp_path, f"e{number}", 0.5 + (number % 2) / 10)
    files = ("_ensemble_triage.json", "_ensemble_triage.md", "_ensemble_bad_list.txt")
    triaged(tmp_path)
    first = [(tmp_path / name).read_bytes() for name in files]
    with RunLock(tmp_path / "ensembles" / "e0"):
        triaged(tmp_path)
        locked = [(tmp_path / name).read_bytes() for name in files]
        triaged(tmp_path)
        assert [(tmp_path / name).read_bytes() for name in files] == locked
    triaged(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in files] == first != locked


def test_a_mistake_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FerError, match="has neither ensembles nor softlabels"):
        triaged(tmp_path)
    (tmp_path / "ensembles").mkdir()
    with pytest.raises(FerError, match="no ensemble, soft labels or student below"):
        triaged(tmp_path)
    ensemble = write_ensemble(tmp_path, "e")
    with pytest.raises(FerError, match=r"triage\.folders: no folder .*nowhere"):
        triaged(tmp_path, folders=[str(tmp_path / "nowhere")])
    with pytest.raises(FerError, match=r"triage\.output_dir: .*lies in, the run"):
        triaged(tmp_path, output_dir=str(ensemble / "triage"))
    (tmp_path / "taken").touch()
    with pytest.raises(FerError, match=r"cannot write to .*taken"):
        triaged(tmp_path, output_dir=str(tmp_path / "taken"))


def test_students_are_ranked_among_students_where_they_are_named(tmp_path: Path) -> None:
    write_ensemble(tmp_path, "e", 0.9)
    good, weak, held = (write_student(tmp_path, student(seed), metrics(0.8 - seed / 10)) for seed in (1, 2, 3))
    unfinished = write_student(tmp_path, student(4))
    (unfinished / "reliabilitymetrics.json").unlink()
    write_ensemble(tmp_path, "of-a-student", 0.85, teachers=[held])
    assert [run.kind for run in triaged(tmp_path).tables[0].runs] == ["ensembles", "ensembles"]
    found = triaged(tmp_path, folders=[str(tmp_path / "students"), str(tmp_path / "ensembles")])
    assert [(table.runs[0].kind, len(table.runs)) for table in found.tables] == [("students", 3), ("ensembles", 2)]
    assert order(found, 0) == [good.name, weak.name, held.name]
    assert found.bad == [f"students/{weak.name}", "ensembles/of-a-student"]
    assert kept(found) == {held.name: ["referred to by ensembles/of-a-student"]}
    assert [(item.run, item.reason) for item in found.left_out] == [
        (f"students/{unfinished.name}", "it has no reliabilitymetrics.json: unfinished")
    ]
