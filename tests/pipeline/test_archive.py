"""The verb `archive`: what it moves, what it refuses, and what is left when it is killed."""

import errno
import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.errors import FerError, RunLockedError
from fer_lightning.pipeline.archive import archive
from fer_lightning.pipeline.housekeeping.config import ArchiveConfig, ArchiveRun, TriageRun
from fer_lightning.pipeline.triage import triage
from fer_lightning.runs.archive_log import append_entry, read_entries, unfinished_moves
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.lock import RunLock
from tests.runs.finished_ensembles import OTHER_ROWS, write_ensemble, write_softlabels
from tests.runs.finished_runs import metrics, teacher, write_finished_run
from tests.runs.finished_students import student, write_student


def archived(root: Path, *runs: Path | str, tag: str | None = None, **options: object) -> None:
    config = ArchiveConfig(runs=[str(path) for path in runs], **options)  # type: ignore[arg-type]
    archive(ArchiveRun(run=RunConfig(root=str(root), tag=tag), archive=config))


def refusals(root: Path, *runs: Path | str, **options: Any) -> str:
    with pytest.raises(FerError, match="not archived") as caught:
        archived(root, *runs, **options)
    assert caught.value.exit_code == 2
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file, locks aside: a guard stays behind where a lock was taken."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".run.lock")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(files)}


def in_archive(root: Path) -> list[str]:
    """Return the archived runs as kind/name."""
    return sorted(path.relative_to(path.parents[1]).as_posix() for path in (root / "_archive").glob("*/*/*"))


def events(root: Path) -> list[tuple[str, str]]:
    return [(entry.event, entry.run) for entry in read_entries(root)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sets of rows: a global ranking would archive the best of the smaller one."""
    root = tmp_path / "experiments"
    for name, macro_f1 in (("best", 0.8), ("weak", 0.5), ("weaker", 0.4)):
        write_ensemble(root, name, macro_f1)
    write_ensemble(root, "small-best", 0.3, rows=OTHER_ROWS, n=9)
    return root


def test_a_run_is_moved_whole_with_two_lines_in_the_log(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    weak = root / "ensembles" / "weak"
    before = contents(weak)
    archived(root, weak, tag="tidy")
    (target,) = (root / "_archive").glob("tidy_*/ensembles/weak")
    assert contents(target) == before
    assert [path.name for path in target.iterdir() if path.name.startswith(".run.lock")] == []
    assert not weak.exists()
    assert events(root) == [("started", "ensembles/weak"), ("done", "ensembles/weak")]
    assert unfinished_moves(read_entries(root)) == []
    assert target.parents[1].name[len("tidy_") :].count("-") == 4
    assert "1 runs archived, 0 refused" in caplog.text


def test_the_bad_list_of_a_triage_is_taken_from_the_root_also_twice(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    triage(TriageRun(run=RunConfig(root=str(root))))
    archived(root, list="_ensemble_bad_list.txt")
    assert in_archive(root) == ["ensembles/weak", "ensembles/weaker"]
    archived(root, list=str(root / "_ensemble_bad_list.txt"))
    assert caplog.text.count("is archived already: ") == 2
    assert len(events(root)) == 4
    triage(TriageRun(run=RunConfig(root=str(root))))
    archived(root, list="_ensemble_bad_list.txt")
    assert sorted(path.name for path in (root / "ensembles").iterdir()) == ["best", "small-best"]


def test_the_best_of_its_rows_is_refused_whatever_an_old_list_says(root: Path) -> None:
    (root / "old.txt").write_text("ensembles/best\nensembles/small-best\n\nensembles/weak\n", encoding="utf-8")
    message = refusals(root, list="old.txt")
    assert "ensembles/best: the best of ensembles on val rows fafafafa (n=51)" in message
    assert "ensembles/small-best: the only one of ensembles judged on val rows 0b0b0b0b (n=9)" in message
    assert "2 runs are not archived" in message
    assert in_archive(root) == ["ensembles/weak"]


def test_ties_are_all_the_best(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_ensemble(tmp_path, name, 0.7)
    message = refusals(tmp_path, *(tmp_path / "ensembles").iterdir())
    assert message.count("with others that tie with it") == 2
    assert in_archive(tmp_path) == []


def test_what_is_referred_to_stays_until_what_needs_it_goes(root: Path) -> None:
    weak = root / "ensembles" / "weak"
    kept = write_softlabels(root, "kept", root / "ensembles" / "best", 0.8)
    labels = write_softlabels(root, "labels", weak, 0.5)
    message = refusals(root, weak)
    assert "softlabels/labels (ensemble_metrics.json: evaluated.checkpoint_sha256)" in message
    archived(root, weak, labels)
    assert in_archive(root) == ["ensembles/weak", "softlabels/labels"]
    assert [run for event, run in events(root) if event == "done"] == ["softlabels/labels", "ensembles/weak"]
    assert "the only one of softlabels" in refusals(root, kept)


def test_a_sweep_beside_the_root_protects(root: Path) -> None:
    weak = root / "ensembles" / "weak"
    write_softlabels(root.parent / "multirun" / "today", "labels", weak)
    assert "multirun/today/softlabels/labels" in refusals(root, weak)


def test_a_locked_run_is_refused_and_the_lock_of_a_dead_process_is_not_one(root: Path) -> None:
    weak, weaker = root / "ensembles" / "weak", root / "ensembles" / "weaker"
    script = "import sys, os, signal; from pathlib import Path; from fer_lightning.runs.lock import RunLock\n"
    script += "RunLock(Path(sys.argv[1])).__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", script, str(weaker)], check=False)
    assert (weaker / ".run.lock").exists()
    with RunLock(weak):
        message = refusals(root, weak, weaker)
    assert f"{weak}: locked by pid {os.getpid()}" in message
    assert in_archive(root) == ["ensembles/weaker"]
    assert weak.is_dir()


def test_a_lock_deep_inside_counts(root: Path) -> None:
    weak = root / "ensembles" / "weak"
    (weak / "shards").mkdir()
    with RunLock(weak / "shards"):
        assert "locked by pid" in refusals(root, weak)


def test_paths_that_are_no_run_of_this_root(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = write_ensemble(tmp_path / "elsewhere", "e", 0.1)
    (root / "ensembles" / "out").symlink_to(outside)
    (root / "ensembles" / "in").symlink_to(root / "ensembles" / "weak")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "notes").mkdir()
    (root / "file").touch()
    weak = root / "ensembles" / "weak"
    (weak / "plots").mkdir()
    monkeypatch.chdir(root)
    expected = {
        str(outside): "lies outside run.root",
        "ensembles/../../elsewhere/ensembles/e": "lies outside run.root",
        "ensembles/out": "is a link to",
        "ensembles/in/": "is a link to",
        "linked/ensembles/e": "lies outside run.root",
        ".": "is run.root",
        "..": "holds run.root",
        "/": "holds run.root",
        "ensembles": "is a folder of 5 runs",
        "notes": "holds no file of a run",
        "file": "is no folder",
        "ensembles/weak/plots": "lies in the run",
        "nowhere": "there is no such folder",
    }
    before = contents(tmp_path)
    message = refusals(root, *expected)
    for given, reason in expected.items():
        assert f"\n  {given}: {reason}" in message
    assert {name: file for name, file in contents(tmp_path).items() if "_archive" not in name} == before
    assert in_archive(root) == []


def test_a_link_that_would_break_is_refused_and_others_are_kept(root: Path) -> None:
    weak, weaker = root / "ensembles" / "weak", root / "ensembles" / "weaker"
    (weak / "best.json").symlink_to("../best/ensemble.json")
    (weaker / "own").symlink_to("ensemble.json")
    (weaker / "far").symlink_to(root / "ensembles" / "best")
    assert "best.json -> ../best/ensemble.json" in refusals(root, weak, weaker)
    (target,) = (root / "_archive").glob("*/ensembles/weaker")
    assert str((target / "own").readlink()) == "ensemble.json"


def test_a_dry_run_says_the_same_and_changes_nothing(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    weak, best = root / "ensembles" / "weak", root / "ensembles" / "best"
    labels = write_softlabels(root, "labels", weak, 0.5)
    write_softlabels(root, "more", best, 0.8)
    everything = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    message = refusals(root, weak, labels, best, dry_run=True)
    assert "the best of ensembles" in message
    assert "1 runs are not archived" in message
    assert caplog.text.count("would move") == 2
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == everything


def test_teachers_are_ranked_among_teachers(tmp_path: Path) -> None:
    best, weak = (write_finished_run(tmp_path, teacher(seed), metrics(seed / 10)) for seed in (9, 2))
    other = write_finished_run(tmp_path, teacher(1), metrics(0.1), val_rows=OTHER_ROWS)
    write_ensemble(tmp_path, "e", 0.99)
    message = refusals(tmp_path, best, weak, other)
    assert f"{best}: the only one of teachers" in message  # by now
    assert f"{other}: the only one of teachers" in message
    assert in_archive(tmp_path) == [f"teachers/{weak.name}"]


def test_a_run_whose_figures_cannot_be_read_may_be_the_best(root: Path) -> None:
    weak, begun = root / "ensembles" / "weak", root / "ensembles" / "begun"
    (weak / "ensemble_metrics.json").write_text("{}", encoding="utf-8")
    begun.mkdir()
    (begun / "config.yaml").touch()
    assert f"{weak}: whether it is the best on its rows cannot be told" in refusals(root, weak, begun)
    assert in_archive(root) == ["ensembles/begun"]


def test_runs_of_one_name_do_not_meet(tmp_path: Path) -> None:
    write_ensemble(tmp_path, "best", 0.9)
    pair = [write_ensemble(tmp_path / sweep, "e", 0.5) for sweep in ("one", "two")]
    archived(tmp_path, *pair, pair[0])
    assert in_archive(tmp_path) == ["ensembles/e", "ensembles/e-2"]


def test_nothing_named_is_an_error_and_an_empty_list_is_not(root: Path) -> None:
    with pytest.raises(FerError, match=r"name runs with archive\.runs"):
        archived(root)
    with pytest.raises(FerError, match=r"archive\.list: no file nowhere\.txt"):
        archived(root, list="nowhere.txt")
    with pytest.raises(FerError, match=r"run\.root: no folder"):
        archived(root / "nowhere", "x")
    (root / "empty.txt").touch()
    archived(root, list="empty.txt")
    assert not (root / "_archive").exists()


def test_an_archive_that_cannot_be_written_moves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weak = root / "ensembles" / "weak"
    (root / "_archive").touch()
    with pytest.raises(FerError, match=r"cannot write to .*_archive"):
        archived(root, weak)
    (root / "_archive").unlink()

    def refusing(*_: Path) -> Path:
        raise OSError(errno.EROFS, "Read-only file system")

    before = contents(weak)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refusing)
        assert f"{weak}: cannot be moved: Read-only file system" in refusals(root, weak)
    assert contents(weak) == before
    assert not (weak / ".run.lock").exists()
    assert [event for event, _ in events(root)] == ["started", "given_up"]
    archived(root, weak)


def test_two_commands_at_once(root: Path) -> None:
    (root / "_archive").mkdir()
    with RunLock(root / "_archive"), pytest.raises(RunLockedError):
        archived(root, root / "ensembles" / "weak")


# What is left when it is killed: at every step of a rename, and of a copy to another disk.

_KILLED = """
import errno, os, shutil, signal, sys
from pathlib import Path
from fer_lightning.pipeline.archive import archive
from fer_lightning.pipeline.housekeeping.config import ArchiveConfig, ArchiveRun
from fer_lightning.runs import archive as moving
from fer_lightning.runs.config import RunConfig

root, run, moment = sys.argv[1:]
rename, rmtree = Path.rename, shutil.rmtree

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def patched(self, target):
    if str(self) != run:
        renamed = rename(self, target)
        if moment == "copied, not logged":
            die()
        return renamed
    if moment == "logged, not moved":
        die()
    if moment == "moved, not logged":
        rename(self, target)
        die()
    raise OSError(errno.EXDEV, "another disk")

def copying(source, target, **options):
    os.makedirs(target)
    (Path(target) / "half").write_text("half")
    die()

def removing(path, **options):
    if str(path) == run:
        next(Path(run).glob("*.json")).unlink()
        die()
    rmtree(path, **options)

Path.rename = patched
if moment == "copying":
    shutil.copytree = copying
if moment == "deleting":
    shutil.rmtree = removing
archive(ArchiveRun(run=RunConfig(root=root), archive=ArchiveConfig(runs=[run])))
"""


@pytest.mark.parametrize(
    "moment", ["logged, not moved", "moved, not logged", "copying", "copied, not logged", "deleting"]
)
@pytest.mark.parametrize("again", [True, False])
def test_a_killed_move_is_told_and_continued(
    root: Path, moment: str, again: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The same command again, or one that names nothing."""
    weak = root / "ensembles" / "weak"
    before = contents(weak)
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_KILLED), str(root), str(weak), moment],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    copies = [folder for folder in (weak, *(root / "_archive").glob("*/ensembles/weak")) if folder.is_dir()]
    assert before in [contents(folder) for folder in copies]
    (begun,) = unfinished_moves(read_entries(root))
    assert (begun.run, begun.event) == ("ensembles/weak", "copied" if moment == "deleting" else "started")
    caplog.set_level(logging.INFO)
    archived(root, *([weak] if again else []))
    assert "interrupted move" in caplog.text
    assert not weak.exists()
    assert contents(root / begun.target) == before
    assert unfinished_moves(read_entries(root)) == []
    assert in_archive(root) == ["ensembles/weak"]
    assert [path for path in (root / "_archive").rglob(".*") if not path.name.startswith(".run.lock")] == []
    assert not list((root / "_archive").glob("*/ensembles/weak/.run.lock*"))


def test_ctrl_c_leaves_a_whole_run_without_its_lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weak = root / "ensembles" / "weak"
    before = contents(weak)

    def interrupted(*_: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            archived(root, weak)
    assert contents(weak) == before
    assert not (weak / ".run.lock").exists()
    archived(root)
    assert in_archive(root) == ["ensembles/weak"]


def test_the_command_line_ends_with_2_and_names_every_refusal(root: Path) -> None:
    command = [sys.executable, "-m", "fer_lightning", "task=archive", f"run.root={root}"]
    given = f"archive.runs=[{root}/ensembles/best,{root}/ensembles/weak]"
    ended = subprocess.run([*command, given], capture_output=True, text=True, check=False, cwd=root.parent)
    assert ended.returncode == 2, ended.stderr
    assert f"{root}/ensembles/best: the best of ensembles on val rows fafafafa (n=51)" in ended.stderr
    assert in_archive(root) == ["ensembles/weak"]


def test_another_disk_is_copied_compared_and_deleted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weak = root / "ensembles" / "weak"
    (weak / "plots").mkdir()
    (weak / "plots" / "a.png").write_bytes(b"a")
    (weak / "link").symlink_to("config.yaml")
    before = contents(weak)
    rename = Path.rename

    def elsewhere(path: Path, target: Path) -> Path:
        if path == weak:
            raise OSError(errno.EXDEV, "another disk")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", elsewhere)
    archived(root, weak)
    (target,) = (root / "_archive").glob("*/ensembles/weak")
    assert contents(target) == before
    assert (target / "link").is_symlink()
    assert not weak.exists()
    assert [event for event, _ in events(root)] == ["started", "copied", "done"]


def test_a_copy_that_differs_deletes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weak = root / "ensembles" / "weak"
    before = contents(weak)

    def elsewhere(*_: Path) -> Path:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(Path, "rename", elsewhere)
    monkeypatch.setattr("fer_lightning.runs.archive.sha256_of", str)
    assert "differ in" in refusals(root, weak)
    assert contents(weak) == before
    assert in_archive(root) == []


def test_a_new_run_in_the_place_of_a_moved_one_is_not_deleted(root: Path) -> None:
    weak = root / "ensembles" / "weak"
    archived(root, weak)
    (target,) = (root / "_archive").glob("*/ensembles/weak")
    relative = target.relative_to(root).as_posix()
    append_entry(root, "started", run="ensembles/weak", kind="ensembles", target=relative)
    weak.mkdir()
    (weak / "config.yaml").write_bytes((target / "config.yaml").read_bytes())
    assert "ensembles/weak: its move was interrupted, and cannot be finished" in refusals(root)
    assert (weak / "config.yaml").is_file()
    assert target.is_dir()


def test_an_interrupted_move_of_what_must_stay_now_is_given_up(root: Path) -> None:
    target = "_archive/archive_then/ensembles/weak"
    (root / "_archive").mkdir()
    append_entry(root, "started", run="ensembles/weak", kind="ensembles", target=target)
    write_softlabels(root, "labels", root / "ensembles" / "weak", 0.5)
    assert "referred to by" in refusals(root)
    assert events(root)[-1] == ("given_up", "ensembles/weak")
    append_entry(root, "started", run="ensembles/gone", kind="ensembles", target=f"{target}-2")
    assert "there is no such folder" in refusals(root)
    assert unfinished_moves(read_entries(root)) == []


def test_half_a_line_in_the_log_is_passed_over(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "_archive").mkdir()
    (root / "_archive" / "archive_log.jsonl").write_text('{"schema_version": 1, "ti', encoding="utf-8")
    archived(root, root / "ensembles" / "weak")
    assert events(root) == [("started", "ensembles/weak"), ("done", "ensembles/weak")]
    assert "line 1" in caplog.text


def test_what_taught_a_student_stays_until_the_student_goes(root: Path) -> None:
    weak = root / "ensembles" / "weak"
    labels = write_softlabels(root, "labels", weak, 0.5)
    write_softlabels(root, "best-labels", root / "ensembles" / "best", 0.8)
    best, worse = (
        write_student(root, student(seed, softlabels=str(labels)), metrics(macro_f1))
        for seed, macro_f1 in ((1, 0.7), (2, 0.6))
    )
    message = refusals(root, labels, best)
    assert f"labels: referred to by {root}/students/{best.name}" in message
    assert "the best of students on val rows fafafafa (n=51)" in message
    archived(root, worse)
    assert in_archive(root) == [f"students/{worse.name}"]
    write_student(root, student(3), metrics(0.9))
    archived(root, weak, labels, best)
    assert "softlabels/labels" in in_archive(root)
