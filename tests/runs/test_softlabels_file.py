"""Soft labels come back as they went, and whatever was changed since is named."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fer_lightning.errors import FerError
from fer_lightning.runs.artifacts import read_artifact, write_artifact
from fer_lightning.runs.softlabel_proofs import FILES, examine_softlabels, report_digests
from fer_lightning.runs.softlabels import ClassOrder, HashManifest, SoftLabelAlignment
from fer_lightning.runs.softlabels_file import kept_logits, read_softlabels
from tests.runs.softlabel_examples import CROP, FLIP, two_teachers, write_example, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of soft labels of two teachers with a mirrored and a cropped view."""
    manifest = write_manifest(tmp_path / "manifest.csv")
    write_example(tmp_path / "soft", manifest, views=(FLIP, CROP), teachers=two_teachers(), ensemble_temperature=1.5)
    return tmp_path / "soft"


def refuse(folder: Path, *messages: str) -> None:
    with pytest.raises(FerError) as refusal:
        read_softlabels(folder, option="diagnose.softlabels")
    for message in ("diagnose.softlabels", str(folder), *messages):
        assert message in str(refusal.value)


def vouch_again(folder: Path, **changes: Any) -> None:
    """Record the digests of the files as they are, as a writer that was wrong from the start would have."""
    record = read_artifact(folder / "hash_manifest.json", HashManifest)
    digests = {
        "softlabels_sha256": hashlib.sha256((folder / "softlabels.npz").read_bytes()).hexdigest(),
        "index_sha256": hashlib.sha256((folder / "softlabels_index.jsonl").read_bytes()).hexdigest(),
    }
    write_artifact(folder / "hash_manifest.json", replace(record, **digests | changes))
    report = read_artifact(folder / "alignmentreport.json", SoftLabelAlignment)
    write_artifact(folder / "alignmentreport.json", replace(report, digests=report_digests(folder)))


def change_arrays(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    with np.load(folder / "softlabels.npz") as file:
        arrays = dict(file)
    change(arrays)
    np.savez(folder / "softlabels.npz", **arrays)
    vouch_again(folder)


def change_index(folder: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    file = folder / "softlabels_index.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    change(rows)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    vouch_again(folder)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("views", [(), (FLIP, CROP)])
@pytest.mark.parametrize(
    ("teachers", "num_teachers"), [((), 1), (two_teachers(), 2), (two_teachers(weights=(0, 1)), 1)]
)
@pytest.mark.parametrize("space", ["logit", "prob"])
def test_round_trip(
    tmp_path: Path, dtype: str, views: tuple[Any, ...], teachers: Any, num_teachers: int, space: str
) -> None:
    options: dict[str, Any] = {"dtype": dtype, "views": views, "teachers": teachers, "space": space}
    written = write_example(tmp_path / "soft", write_manifest(tmp_path / "m.csv"), **options)
    read = read_softlabels(tmp_path / "soft", option="x")
    assert read.record == written.record
    assert read.logits.dtype == getattr(torch, dtype)
    absent = {"view_logits": not views, "view_draws": not views, "teacher_logits": num_teachers == 1}
    for name in ("logits", "labels", *absent):
        ours, theirs = getattr(read, name), getattr(written, name)
        assert (ours is None) == (theirs is None) == absent.get(name, False)
        assert ours is None or torch.equal(ours, theirs)
    if read.teacher_logits is not None:
        assert read.teacher_logits.shape == (1 + len(views), 2, 28, 7)
        assert read.teacher_logits.dtype == read.logits.dtype
    for name in ("row_ids", "sources", "splits", "image_paths"):
        assert getattr(read, name) == getattr(written, name)
    assert read_softlabels(tmp_path / "soft" / "hash_manifest.json", option="x").row_ids == read.row_ids


def test_the_same_soft_labels_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_example(tmp_path / name, write_manifest(tmp_path / "m.csv"), views=(FLIP, CROP), teachers=two_teachers())
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_file_holds_what_the_documents_name(folder: Path) -> None:
    with np.load(folder / "softlabels.npz") as file:
        assert {name: (str(file[name].dtype), file[name].shape) for name in file.files} == {
            "logits": ("float16", (28, 7)),
            "y": ("uint8", (28,)),
            "row_ids": ("|S64", (28,)),
            "view_logits": ("float16", (2, 28, 7)),
            "view_draws": ("float64", (2, 28, 5)),
            "teacher_logits": ("float16", (3, 2, 28, 7)),
        }
    first = json.loads((folder / "softlabels_index.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first.keys() == {"i", "image_path", "source", "y", "row_id", "split"}
    assert (first["i"], first["image_path"], first["source"], first["y"]) == (0, "images/0.png", "web", 0)


def test_all_proofs_hold(folder: Path) -> None:
    examined = examine_softlabels(folder)
    assert not examined.failed
    assert len(examined.proofs) > 25


@pytest.mark.parametrize("name", [name for name in FILES if name != "alignmentreport.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refuse(folder, name, "missing")


def test_no_soft_labels_and_unfinished_ones(folder: Path, tmp_path: Path) -> None:
    (folder / "alignmentreport.json").unlink()
    refuse(folder, "not finished")
    with pytest.raises(FerError, match="holds no soft labels"):
        read_softlabels(tmp_path, option="x")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_arrays(folder: Path, share: float) -> None:
    file = folder / "softlabels.npz"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    refuse(folder, "softlabels.npz", "damaged or cut short")


@pytest.mark.parametrize("place", [50, 300, 3000])
def test_a_flipped_bit(folder: Path, place: int) -> None:
    file = folder / "softlabels.npz"
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    refuse(folder, "softlabels.npz")


def test_one_array_instead_of_an_archive(folder: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((28, 7), np.float16))
    (folder / "softlabels.npz").write_bytes(buffer.getvalue())
    refuse(folder, "softlabels.npz", "no archive of arrays")


@pytest.mark.parametrize("name", ["softlabels_index.jsonl", "ensemble.json"])
def test_other_bytes_of_a_text_file(folder: Path, name: str) -> None:
    file = folder / name
    file.write_text(file.read_text(encoding="utf-8") + " ", encoding="utf-8")
    refuse(folder, f"SHA-256 of {name}")


def test_class_order_permuted(folder: Path) -> None:
    order = read_artifact(folder / "classorder.json", ClassOrder).emotions
    write_artifact(folder / "classorder.json", ClassOrder(emotions=[order[1], order[0], *order[2:]]))
    refuse(folder, "class order of classorder.json", "['Disgust', 'Angry'", "['Angry', 'Disgust'")


def test_class_order_permuted_in_the_record(folder: Path) -> None:
    record = read_artifact(folder / "hash_manifest.json", HashManifest)
    write_artifact(folder / "hash_manifest.json", replace(record, class_order=record.class_order[::-1]))
    refuse(folder, "class order of hash_manifest.json")


def test_one_label_changed_in_the_arrays(folder: Path) -> None:
    change_arrays(folder, lambda arrays: arrays["y"].__setitem__(3, (arrays["y"][3] + 1) % 7))
    refuse(folder, "1 rows differ", "line 4 says i=3")


def test_one_label_changed_in_both(folder: Path) -> None:
    change_arrays(folder, lambda arrays: arrays["y"].__setitem__(0, 5))
    change_index(folder, lambda rows: rows[0].__setitem__("y", 5))
    refuse(folder, "row_set_fingerprints")


def test_rows_of_the_index_reordered(folder: Path) -> None:
    change_index(folder, lambda rows: rows.reverse())
    refuse(folder, "28 rows differ")


def test_a_row_twice(folder: Path) -> None:
    change_arrays(folder, lambda arrays: arrays["row_ids"].__setitem__(1, arrays["row_ids"][0]))
    refuse(folder, "each row once", "1 more than once")


def test_a_line_missing(folder: Path) -> None:
    change_index(folder, lambda rows: rows.pop())
    refuse(folder, "rows of softlabels_index.jsonl: found 27; expected 28")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("row_id"), "line 3 must have"),
        (lambda row: row.__setitem__("extra", 1), "line 3 must have"),
        (lambda row: row.__setitem__("y", True), "line 3: y is True"),
        (lambda row: row.__setitem__("i", 2.0), "line 3: i is 2.0"),
    ],
)
def test_a_line_of_another_kind(folder: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    change_index(folder, lambda rows: change(rows[2]))
    refuse(folder, message)


@pytest.mark.parametrize("name", ["logits", "view_logits"])
def test_probabilities_instead_of_logits(folder: Path, name: str) -> None:
    def soften(arrays: dict[str, Any]) -> None:
        arrays[name] = torch.from_numpy(arrays[name]).float().softmax(-1).half().numpy()

    change_arrays(folder, soften)
    refuse(folder, f"{name}: found probabilities", "second one")


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_values_that_are_not_finite(folder: Path, value: float) -> None:
    change_arrays(folder, lambda arrays: arrays["logits"].__setitem__((5, 2), value))
    refuse(folder, "not finite in 1 of 28 rows")


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.__setitem__("logits", arrays["logits"].astype(np.float32)),
        lambda arrays: arrays.__setitem__("logits", arrays["logits"][:, :6]),
        lambda arrays: arrays.__setitem__("y", arrays["y"][:-1]),
        lambda arrays: arrays.pop("view_draws"),
        lambda arrays: arrays.pop("teacher_logits"),
        lambda arrays: arrays.__setitem__("teacher_logits", arrays["teacher_logits"][:, :1]),
        lambda arrays: arrays.__setitem__("teacher_logits", arrays["teacher_logits"][:2]),
        lambda arrays: arrays.__setitem__("teacher_logits", arrays["teacher_logits"].astype(np.float32)),
        lambda arrays: arrays.__setitem__("more", np.zeros(3)),
    ],
)
def test_arrays_of_another_kind(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    change_arrays(folder, change)
    refuse(folder, "arrays of softlabels.npz")


def test_draws_outside_their_range(folder: Path) -> None:
    change_arrays(folder, lambda arrays: arrays["view_draws"].__setitem__((0, 0, 0), 1.0))
    refuse(folder, "view_draws")


def test_another_class_index(folder: Path) -> None:
    change_arrays(folder, lambda arrays: arrays["y"].__setitem__(0, 7))
    refuse(folder, "y: found 0..7")


def test_report_of_other_rows(folder: Path) -> None:
    report = read_artifact(folder / "alignmentreport.json", SoftLabelAlignment)
    write_artifact(folder / "alignmentreport.json", replace(report, rows_exported={"train": 1}))
    refuse(folder, "rows of alignmentreport.json")


def _numbers_and_texts(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _numbers_and_texts(value, (*path, key))
    else:
        yield path, content


def _other(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    return f"{value} " if isinstance(value, str) else value + 1


@pytest.mark.parametrize("name", ["hash_manifest.json", "ensemble.json", "classorder.json", "ensemble_metrics.json"])
def test_whatever_is_edited_by_hand_is_refused(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    paths = [path for path, _ in _numbers_and_texts(json.loads(content))]
    assert len(paths) >= 8
    for path in paths:
        edited = json.loads(content)
        inner = edited
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = _other(inner[path[-1]])
        (folder / name).write_text(json.dumps(edited, indent=2) + "\n", encoding="utf-8")
        refuse(folder)
    (folder / name).write_bytes(content)
    read_softlabels(folder, option="x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": {"web": 28}}, "sources of alignmentreport.json"),
        ({"rows_requested": {"train": 99, "val": 6}}, "rows requested less those left out"),
        ({"rows_left_out": {"train": 1, "val": 0}}, "rows requested less those left out"),
        ({"verified_rows": 29}, "checks told by alignmentreport.json"),
        ({"max_abs_difference": 0.2}, "checks told by alignmentreport.json"),
        ({"digests": {}}, "SHA-256 of hash_manifest.json"),
    ],
)
def test_a_report_that_contradicts_the_files_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    report = read_artifact(folder / "alignmentreport.json", SoftLabelAlignment)
    write_artifact(folder / "alignmentreport.json", replace(report, **changes))
    refuse(folder, message)


def test_teachers_other_than_those_of_the_ensemble(folder: Path) -> None:
    record = read_artifact(folder / "hash_manifest.json", HashManifest)
    teachers = [replace(record.teachers[0], weight=0.5), record.teachers[1]]
    write_artifact(folder / "hash_manifest.json", replace(record, teachers=teachers))
    refuse(folder, "teachers")


def test_logits_that_are_not_those_of_the_teachers(folder: Path) -> None:
    change_arrays(folder, lambda arrays: arrays["view_logits"].__setitem__((1, 6), arrays["view_logits"][1, 7]))
    refuse(folder, "logits against teacher_logits: found other logits in 1 of 28 rows of view crop-0, e.g. row 6")


def test_teachers_in_another_order(folder: Path) -> None:
    change_arrays(folder, lambda arrays: arrays.__setitem__("teacher_logits", arrays["teacher_logits"][:, ::-1].copy()))
    refuse(folder, "logits against teacher_logits", "28 of 28 rows of view single")


def test_one_teacher_of_probabilities_is_named(folder: Path) -> None:
    def soften(arrays: dict[str, Any]) -> None:
        own = torch.from_numpy(arrays["teacher_logits"][:, 1]).float().softmax(-1)
        arrays["teacher_logits"][:, 1] = own.half().numpy()

    change_arrays(folder, soften)
    refuse(folder, "teacher_logits of B3: found probabilities", "second one")


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_teacher_logits_that_are_not_finite(folder: Path, value: float) -> None:
    change_arrays(folder, lambda arrays: arrays["teacher_logits"].__setitem__((2, 0, 5, 2), value))
    refuse(folder, "teacher_logits of RN18: found not finite in 1 of 84 rows")


def test_another_temperature_than_that_of_the_ensemble(folder: Path) -> None:
    vouch_again(folder, ensemble_temperature=1.6)
    refuse(folder, "ensemble_temperature: found 1.6; expected 1.5")


@pytest.mark.parametrize("temperatures", [[1.0], [1.0, 0.0], [1.0, float("inf")], [None, -2.0]])
def test_temperatures_that_divide_nothing(folder: Path, temperatures: list[float | None]) -> None:
    vouch_again(folder, teacher_temperatures=temperatures)
    refuse(folder, "teacher_temperatures recorded: found unusable")


def test_soft_labels_of_an_earlier_version(folder: Path) -> None:
    record = json.loads((folder / "hash_manifest.json").read_text(encoding="utf-8"))
    for added in ("ensemble_temperature", "teacher_temperatures"):
        del record[added]
    record["schema_version"] = 1
    (folder / "hash_manifest.json").write_text(json.dumps(record), encoding="utf-8")
    refuse(
        folder,
        "hash_manifest.json is no HashManifest of schema version 2 but of 1: it was written by another version of this program",
        "Remove the folder and export again: task=export_softlabels",
    )
    with pytest.raises(FerError, match="export again"):
        read_artifact(folder / "hash_manifest.json", HashManifest)


def test_half_precision_overflow_names_rows() -> None:
    logits = torch.zeros(3, 7, dtype=torch.float64)
    logits[1, 4], logits[2, 0] = 65504.0, -65505.0
    with pytest.raises(FerError, match=r"float16.* 1 of 3 rows: c\.png \(65505\)"):
        kept_logits(logits, "float16", image_paths=["a.png", "b.png", "c.png"], where="soft")
    kept = kept_logits(logits[:2], "float16", image_paths=["a.png", "b.png"], where="soft")
    assert kept[1, 4] == 65504
    assert kept_logits(logits, "float32", image_paths=["a.png", "b.png", "c.png"], where="soft")[2, 0] == -65505


def test_probabilities_are_not_kept() -> None:
    probs = torch.randn(20, 7, generator=torch.Generator().manual_seed(0)).double().softmax(1)
    with pytest.raises(FerError, match="second one"):
        kept_logits(probs, "float16", image_paths=["a.png"] * 20, where="soft")
    assert kept_logits(probs.log(), "float16", image_paths=["a.png"] * 20, where="soft").shape == (20, 7)
