"""References among runs written by hand: every way to name a run, and what cannot be read."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from fer_lightning.files import sha256_of
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.evaluation import GateReport
from fer_lightning.runs.leaderboard import ComparedRecipe, Leaderboard, LeaderboardTable
from fer_lightning.runs.references import References, references
from fer_lightning.runs.run_folders import RunFolder, enclosing_run, find_runs, run_at
from fer_lightning.runs.stored_logits_record import RECORD_FILE
from tests.runs.examples import example
from tests.runs.finished_ensembles import write_ensemble, write_softlabels
from tests.runs.finished_evaluations import write_evaluation
from tests.runs.finished_runs import teacher, write_finished_run
from tests.runs.finished_students import student as student_run
from tests.runs.finished_students import taught_by, write_lesson
from tests.runs.finished_students import write_student as write_finished_student


def run_of(refs: References, path: Path) -> RunFolder:
    return next(run for run in refs.found.runs if run.real == os.path.realpath(path))


def protectors(refs: References, path: Path) -> list[str]:
    return [item.by.name for item in refs.protecting(run_of(refs, path))]


def everyone(refs: References, path: Path) -> list[str]:
    return [item.by.name for item in refs.of(run_of(refs, path))]


def write_student(root: Path, name: str, **distillation: str) -> Path:
    path = root / "students" / name
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump({"distillation": distillation}), encoding="utf-8")
    return path


def test_the_chain_from_teacher_to_student(tmp_path: Path) -> None:
    first, second = (write_finished_run(tmp_path, teacher(seed)) for seed in (1, 2))
    ensemble = write_ensemble(tmp_path, "both", teachers=[first])
    labels = write_softlabels(tmp_path, "labels", ensemble)
    student = write_student(tmp_path, "student", softlabels=str(labels / "softlabels.npz"))
    refs = references(tmp_path)
    assert [run.kind for run in refs.found.runs] == ["ensembles", "softlabels", "students", "teachers", "teachers"]
    assert protectors(refs, first) == ["both"]
    assert protectors(refs, ensemble) == ["labels"]
    assert protectors(refs, labels) == ["student"]
    assert everyone(refs, second) == everyone(refs, student) == []
    assert refs.protecting(run_of(refs, labels), without={os.path.realpath(student)}) == []


@pytest.mark.parametrize("how", ["absolute", "from here", "from the folder", "through a link", "moved root"])
def test_every_way_to_spell_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    root = tmp_path / "experiments"
    named = write_finished_run(root, teacher(1))
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    text = {
        "absolute": str(named),
        "from here": f"experiments/teachers/{named.name}/best.pt",
        "from the folder": f"../../teachers/{named.name}",
        "through a link": f"{tmp_path}/link/teachers/{named.name}",
        "moved root": f"/gone/elsewhere/teachers/{named.name}/best.pt",
    }[how]
    write_student(root, "s", teacher=text)
    assert protectors(references(root), named) == ["s"]


def test_the_same_name_elsewhere_is_no_reference_while_that_exists(tmp_path: Path) -> None:
    here, there = (write_finished_run(tmp_path / name, teacher(1)) for name in ("here", "there"))
    (there / "best.pt").write_bytes(b"other")
    write_student(tmp_path / "here", "s", teacher=str(there))
    refs = references(tmp_path / "here")
    assert everyone(refs, here) == []


def test_digests_alone_refer_also_to_unfinished_runs_and_new_checkpoints(tmp_path: Path) -> None:
    finished = write_finished_run(tmp_path, teacher(1))
    unfinished = write_finished_run(tmp_path, teacher(2))
    (unfinished / "reliabilitymetrics.json").unlink()
    resumed = write_finished_run(tmp_path, teacher(3))
    (resumed / "best.pt").write_bytes(b"trained on")
    os.utime(resumed / "best.pt", ns=(2**62, 2**62))
    for path in (finished, unfinished, resumed):
        write_student(tmp_path, f"of-{path.name}", digest=sha256_of(path / "best.pt"))
    refs = references(tmp_path)
    for path in (finished, unfinished, resumed):
        assert protectors(refs, path) == [f"of-{path.name}"]


def test_equal_files_do_not_make_two_runs_refer_to_each_other(tmp_path: Path) -> None:
    first = write_finished_run(tmp_path / "a", teacher(1))
    second = write_finished_run(tmp_path / "b", teacher(1))
    refs = references(tmp_path)
    assert sha256_of(first / "best.pt") == sha256_of(second / "best.pt")
    assert everyone(refs, first) == everyone(refs, second) == []


def test_soft_labels_with_a_copy_of_their_ensemble_refer_to_it_by_its_digest(tmp_path: Path) -> None:
    ensemble = write_ensemble(tmp_path, "e")
    labels = write_softlabels(tmp_path, "labels", ensemble)
    record = (labels / "hash_manifest.json").read_text("utf-8")
    (labels / "hash_manifest.json").write_text(record.replace(str(ensemble), "gone"), encoding="utf-8")
    (labels / "ensemble.json").write_bytes((ensemble / "ensemble.json").read_bytes())
    refs = references(tmp_path)
    assert protectors(refs, ensemble) == ["labels"]
    assert everyone(refs, labels) == []


def test_what_is_made_from_a_run_is_listed_and_does_not_protect_it(tmp_path: Path) -> None:
    run = write_finished_run(tmp_path, teacher(1))
    write_evaluation(tmp_path / "evaluations" / "e", run / "best.pt")
    logits = tmp_path / "logits" / "l"
    logits.mkdir(parents=True)
    digest = sha256_of(run / "best.pt")
    (logits / RECORD_FILE).write_text(f'{{"checkpoint_sha256": "{digest}", "run_dir": "{run}"}}', encoding="utf-8")
    refs = references(tmp_path)
    assert everyone(refs, run) == ["e", "l"]
    assert protectors(refs, run) == []


def test_the_reference_of_gates_and_the_baseline_of_a_leaderboard_are_protected(tmp_path: Path) -> None:
    first, second, third = (write_finished_run(tmp_path, teacher(seed)) for seed in (1, 2, 3))
    gates = replace(example(GateReport), reference=str(second), reference_sha256=sha256_of(second / "best.pt"))
    write_evaluation(tmp_path / "evaluations" / "e", first / "best.pt", gates=gates)
    recipes = [replace(example(ComparedRecipe), name=path.name, runs=[path.name]) for path in (first, second, third)]
    table = replace(example(LeaderboardTable), baseline=third.name, recipes=recipes)
    write_artifact(tmp_path / "teachers" / "leaderboard.json", replace(example(Leaderboard), tables=[table]))
    refs = references(tmp_path)
    assert everyone(refs, first) == ["e", "leaderboard.json"]
    assert protectors(refs, first) == []
    assert protectors(refs, second) == ["e"]
    assert protectors(refs, third) == ["leaderboard.json"]


def test_a_folder_of_a_foreign_model_is_one_run(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign" / "theirs"
    (foreign / "val_12345678").mkdir(parents=True)
    record = '{"kind": "foreign", "checkpoint_sha256": "' + "5e" * 32 + '"}'
    (foreign / "val_12345678" / RECORD_FILE).write_text(record, encoding="utf-8")
    write_ensemble(tmp_path, "by-path", teachers=[foreign])
    write_student(tmp_path, "by-digest", digest="5e" * 32)
    refs = references(tmp_path)
    assert run_of(refs, foreign).kind == "foreign"
    assert protectors(refs, foreign) == ["by-path", "by-digest"]


@pytest.mark.parametrize("file", ["ensemble.json", "config.yaml"])
def test_broken_records_refer_to_all_that_they_name(tmp_path: Path, file: str) -> None:
    first, second = (write_finished_run(tmp_path, teacher(seed)) for seed in (1, 2))
    ensemble = write_ensemble(tmp_path, "e", teachers=[first])
    for name in ("ensemble.json", "config.yaml"):
        (ensemble / name).unlink()
    (ensemble / file).write_bytes(b"\xff: [{" + str(first).encode())
    refs = references(tmp_path)
    assert protectors(refs, first) == ["e"]
    assert everyone(refs, second) == []
    assert [path.name for path, _ in refs.plain] == [file]


def test_a_name_counts_in_plain_text_as_a_whole_word_only_and_a_digest_too(tmp_path: Path) -> None:
    whole, part, digest = (write_ensemble(tmp_path, name) for name in ("mix", "mi", "other"))
    broken = write_student(tmp_path, "s")
    text = f"{{ mix-2 _mix {sha256_of(digest / 'ensemble.json')} 'x/mix'"
    (broken / "config.yaml").write_text(text, encoding="utf-8")
    refs = references(tmp_path)
    assert (protectors(refs, whole), protectors(refs, part), protectors(refs, digest)) == (["s"], [], ["s"])


def test_files_too_large_for_json_are_searched_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_lightning.runs.referring_text._LARGEST_JSON", 100)
    monkeypatch.setattr("fer_lightning.runs.referring_text._CHUNK", 64)
    run = write_finished_run(tmp_path, teacher(1))
    write_ensemble(tmp_path, "e", teachers=[run])
    refs = references(tmp_path)
    assert protectors(refs, run) == ["e"]
    assert "too large" in dict(refs.plain)[tmp_path / "ensembles" / "e" / "ensemble.json"]


def test_what_cannot_be_read_leaves_open_what_it_refers_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_ensemble(tmp_path, "e")
    shut = write_ensemble(tmp_path, "shut")
    read = Path.read_bytes

    def refusing(path: Path) -> bytes:
        if path == shut / "ensemble.json":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refusing)
    refs = references(tmp_path)
    assert refs.unknown == ((shut / "ensemble.json", "Permission denied"),)
    assert refs.unknown_besides(run_of(refs, run)) == [shut / "ensemble.json"]
    assert refs.unknown_besides(run_of(refs, shut)) == []


def test_references_from_other_folders_count_and_archived_ones_do_not(tmp_path: Path) -> None:
    root = tmp_path / "experiments"
    run = write_finished_run(root, teacher(1))
    write_ensemble(tmp_path / "multirun" / "today", "swept", teachers=[run])
    write_ensemble(root / "_archive" / "archive_then", "old", teachers=[run])
    assert everyone(references(root), run) == []
    assert protectors(references(root, also=[tmp_path / "multirun", root]), run) == ["swept"]


def test_links_are_followed_once_and_kinds_are_told_by_files(tmp_path: Path) -> None:
    ensemble = write_ensemble(tmp_path, "e")
    (tmp_path / "ensembles" / "again").symlink_to(ensemble)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    begun = tmp_path / "softlabels" / "begun"
    begun.mkdir(parents=True)
    (begun / "config.yaml").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "config.yaml").touch()
    found = find_runs(tmp_path)
    assert sorted((run.kind, Path(run.real).name) for run in found.runs) == [
        ("ensembles", "e"),
        ("softlabels", "begun"),
    ]
    assert enclosing_run(ensemble / "plots" / "new", tmp_path) == ensemble
    assert enclosing_run(tmp_path / "elsewhere", tmp_path) is None
    assert run_at(tmp_path / "notes") is None


def test_own_digests_are_those_of_the_files(tmp_path: Path) -> None:
    ensemble = write_ensemble(tmp_path, "e")
    digest = hashlib.sha256((ensemble / "ensemble.json").read_bytes()).hexdigest()
    write_student(tmp_path, "s", any=digest)
    refs = references(tmp_path)
    (reference,) = refs.of(run_of(refs, ensemble))
    assert reference.how == "config.yaml: distillation.any"


def test_a_student_protects_all_that_taught_it(tmp_path: Path) -> None:
    start = write_finished_student(tmp_path, student_run(1))
    first, second = (write_finished_run(tmp_path, teacher(seed)) for seed in (1, 2))
    ensemble = write_ensemble(tmp_path, "both", teachers=[first, second])
    labels = write_softlabels(tmp_path, "labels", ensemble)
    run = student_run(2, softlabels=str(labels))
    run.stage.init_from = str(start)
    student = write_finished_student(tmp_path, run)
    write_lesson(
        student,
        taught_by([first / "best.pt", second / "best.pt"]),
        source="moved/away",
        source_sha256=sha256_of(labels / "hash_manifest.json"),
        ensemble_sha256=sha256_of(ensemble / "ensemble.json"),
    )
    refs = references(tmp_path)
    assert protectors(refs, labels) == [student.name]
    assert protectors(refs, ensemble) == ["labels", student.name]
    assert protectors(refs, first) == ["both", student.name]
    assert protectors(refs, start) == [student.name]
    assert everyone(refs, student) == []
