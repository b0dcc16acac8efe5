"""Planted faults are found and named, clean rows are not; what is written, and how an audit ends."""

import csv
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.config import AuditConfig, DataConfig, Severity
from fer_lightning.data.rows.row_id import row_id
from fer_lightning.data.sources.generated import GeneratedSetSpec, generate_set
from fer_lightning.errors import AuditFailedError, FerError
from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.audit_manifest import audit_manifest
from fer_lightning.pipeline.config import AuditManifestRun
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.audit_report import AuditReport
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.predictions import HEADER

REPOSITORY = Path(__file__).parents[2]
SHARES = {"ferplus": 0.4, "rafdb_basic": 0.15, "affectnet_full_balanced": 0.2, "expw_hq": 0.25}
SPEC = GeneratedSetSpec(num_images=150, seed=11, val_share=0.2, test_share=0.2, source_shares=SHARES)
Row = dict[str, str]
Expected = set[tuple[str, frozenset[str]]]


@dataclass(frozen=True)
class Outcome:
    """What an audit wrote."""

    report: AuditReport
    findings: list[Row]
    page: str
    message: str
    """Of the failure; empty where there was none."""

    def kinds(self, *severities: str) -> set[str]:
        return {one["kind"] for one in self.findings if one["severity"] in severities}


def audit(manifest: Path, output: Path, **options: object) -> Outcome:
    run = AuditManifestRun(
        data=DataConfig(manifest=str(manifest), num_workers=1, cache_dir=str(output.parent / "cache")),
        audit=AuditConfig(output_dir=str(output)),
    )
    for name, value in options.items():
        group, _, field = name.partition("__")
        setattr(getattr(run, group), field, value)
    message = ""
    try:
        audit_manifest(run)
    except AuditFailedError as error:
        message = str(error)
    with (output / "findings.csv").open(newline="", encoding="utf-8") as file:
        findings = list(csv.DictReader(file))
    page = (output / "audit.html").read_text(encoding="utf-8")
    return Outcome(read_artifact(output / "audit.json", AuditReport), findings, page, message)


class Planter:
    """A generated set whose rows and files are spoilt one after the other, and what should be found."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
            self.rows: list[Row] = list(csv.DictReader(file))
        self.expected: Expected = set()
        self._used: set[str] = set()

    def pick(self, wanted: Callable[[Row], bool]) -> Row:
        """Return a row of a picture that nothing was done to."""
        row = next(row for row in self.rows if row["image_path"] not in self._used and wanted(row))
        self._used.add(row["image_path"])
        return row

    def expect(self, kind: str, *paths: str) -> None:
        self.expected.add((kind, frozenset(paths)))

    def copy(self, row: Row, split: str, name: str, data: bytes) -> Row:
        """Add a copy of a row as a data set that does not know it would."""
        path = f"{row['source']}/{split}/{name}"
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)
        copied = row | {"image_path": path, "split": split, "subject": f"copy {name}"}
        self.rows.append(copied)
        self._used.add(path)
        return copied

    def file(self, row: Row) -> Path:
        return self.root / row["image_path"]

    def move(self, row: Row, path: str) -> None:
        """Rename a row's file and tell the row."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        self.file(row).rename(self.root / path)
        self.rename(row, path)

    def rename(self, row: Row, path: str) -> None:
        """Tell a row of another file, whether it is there or not."""
        row["image_path"] = path
        self._used.add(path)

    def write(self) -> Path:
        """Write the manifest as Windows programs do."""
        manifest = self.root / "spoilt.csv"
        with manifest.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(self.rows[0]), lineterminator="\r\n")
            writer.writeheader()
            writer.writerows(self.rows)
        return manifest


def encoded(picture: NDArray[np.uint8], suffix: str, *options: int) -> bytes:
    return cv2.imencode(suffix, picture, options)[1].tobytes()


def decoded(path: Path) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path)), dtype=np.uint8)


def is_single(split: str, source: str | None = None) -> Callable[[Row], bool]:
    return lambda row: row["split"] == split and not row["bbox_top"] and source in {None, row["source"]}


def is_boxed(split: str) -> Callable[[Row], bool]:
    return lambda row: row["split"] == split and row["bbox_top"] != ""


def plant_copies(plan: Planter) -> None:
    original = plan.pick(is_single("train", "ferplus"))
    copy = plan.copy(original, "test", "twin.png", plan.file(original).read_bytes())
    plan.expect("leak_content", original["image_path"], copy["image_path"])

    original = plan.pick(is_single("train", "affectnet_full_balanced"))
    picture = decoded(plan.file(original))
    copy = plan.copy(original, "val", "encoded.jpg", encoded(picture, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 65))
    plan.expect("leak_near_content", original["image_path"], copy["image_path"])

    original = plan.pick(is_single("test", "affectnet_full_balanced"))
    small = cv2.resize(decoded(plan.file(original)), None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    copy = plan.copy(original, "train", "resized.png", encoded(np.asarray(small, np.uint8), ".png"))
    plan.expect("leak_near_content", original["image_path"], copy["image_path"])


def plant_boxes(plan: Planter) -> None:
    row = plan.pick(is_boxed("train"))
    photo = decoded(plan.file(row))
    top, left, right, bottom = (int(row[f"bbox_{side}"]) for side in ("top", "left", "right", "bottom"))
    crop = plan.copy(row, "train", "crop.png", encoded(photo[top:bottom, left:right], ".png"))
    crop["orig_image"] = Path(row["image_path"]).name
    plan.expect("crop_with_box", crop["image_path"])

    row = plan.pick(is_boxed("train"))
    row["bbox_bottom"] = "100000"
    plan.expect("box_outside", row["image_path"])

    row = plan.pick(is_boxed("train"))
    assert sum(other["image_path"] == row["image_path"] for other in plan.rows) > 1
    row |= {"split": "test", "subject": "of no other photo"}
    plan.expect("leak_image", row["image_path"])
    plan.expect("leak_orig_image", row["image_path"])


def plant_files(plan: Planter) -> None:
    row = plan.pick(is_single("train", "rafdb_basic"))
    name = Path(row["image_path"]).name
    plan.move(row, f"rafdb_basic/Image/aligned/aligned/{name}")
    plan.rename(row, f"rafdb_basic/Image/aligned/{name}")
    plan.expect("missing_file", row["image_path"])

    row = plan.pick(lambda row: is_single("train")(row) and row["image_path"].endswith(".jpg"))
    data = plan.file(row).read_bytes()
    plan.file(row).write_bytes(data[: len(data) * 2 // 3])
    plan.expect("truncated", row["image_path"])

    row = plan.pick(is_single("val"))
    plan.file(row).write_bytes(b"")
    plan.expect("empty_file", row["image_path"])


def plant_columns(plan: Planter) -> None:
    row = plan.pick(is_single("train"))
    row["label"] = "Hapy"
    plan.expect("unknown_label", row["image_path"])
    row = plan.pick(is_single("train"))
    (plan.root.parent / "outside.png").write_bytes(plan.file(row).read_bytes())
    plan.rename(row, "../outside.png")
    plan.expect("leaves_root", row["image_path"])
    row = plan.pick(is_single("train"))
    plan.move(row, f"{row['source']}/表情/Zoë <b>.png")


def found(outcome: Outcome, rows: list[Row]) -> Expected:
    """Errors and warnings as kind and the files of all their rows."""
    found = set()
    for one in outcome.findings:
        if one["severity"] != "note":
            lines = [int(line) for line in [one["line"], *one["related_lines"].split()]]
            found.add((one["kind"], frozenset(rows[line - 2]["image_path"] for line in lines)))
    return found


@pytest.fixture(scope="module")
def clean_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_set(tmp_path_factory.mktemp("clean") / "set", SPEC).manifest


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Planter]:
    folder = tmp_path_factory.mktemp("planted")
    plan = Planter(generate_set(folder / "set", SPEC).manifest.parent)
    for plant in (plant_boxes, plant_copies, plant_files, plant_columns):
        plant(plan)
    return audit(plan.write(), folder / "out"), plan


@pytest.fixture
def small_set(tmp_path: Path) -> Path:
    """Twelve pictures of noise; labels and splits go round."""
    random = np.random.default_rng(0)
    lines = ["image_path,label,split,source,subject"]
    for number in range(12):
        coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (48, 48), interpolation=cv2.INTER_CUBIC)
        (tmp_path / f"{number}.png").write_bytes(encoded(picture.astype(np.uint8), ".png"))
        split, source = ("train", "train", "val", "test")[number % 4], ("ferplus", "rafdb_basic")[number // 6]
        lines.append(f"{number}.png,{('Sad', 'Fear')[number % 2]},{split},{source},s{number}")
    (tmp_path / "faces.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "faces.csv"


def test_a_clean_set_has_neither_errors_nor_warnings(clean_set: Path, tmp_path: Path) -> None:
    outcome = audit(clean_set, tmp_path / "out")
    assert [one for one in outcome.findings if one["severity"] != "note"] == []
    assert (outcome.message, outcome.report.failed) == ("", False)
    assert (outcome.report.rows_audited, outcome.report.faulty_rows) == (SPEC.num_images, 0)
    counts = outcome.report.class_counts
    assert sum(count for splits in counts.values() for one in splits.values() for count in one.values()) == 150
    assert {sizes.source: sizes.median for sizes in outcome.report.picture_sizes}["ferplus"] == 48
    assert any("audit.predictions" in said for said in outcome.report.not_checked)


def test_every_planted_fault_is_found_and_named_and_nothing_else(planted: tuple[Outcome, Planter]) -> None:
    outcome, plan = planted
    assert found(outcome, plan.rows) == plan.expected
    assert outcome.kinds("note") >= {"byte_order_mark", "crlf", "non_ascii_names"}
    assert outcome.report.failed
    assert outcome.report.findings_by_severity["error"] == len(plan.expected)


def test_planted_faults_are_explained(planted: tuple[Outcome, Planter]) -> None:
    outcome, plan = planted
    detail = {one["kind"]: one["detail"] for one in outcome.findings}
    assert "it is in rafdb_basic/Image/aligned/aligned" in detail["missing_file"]
    assert "still carries the box of its photo" in detail["crop_with_box"]
    assert "bottom 100000" in detail["box_outside"]
    assert "'Hapy'" in detail["unknown_label"]
    assert "Zoë <b>.png" in detail["non_ascii_names"]
    assert f"{len(plan.rows) + 1} lines end in CR LF" in detail["crlf"]
    assert f"{len(plan.expected)} errors, 0 warnings" in outcome.message
    assert "audit.html" in outcome.message


def test_page_shows_the_planted_pairs(planted: tuple[Outcome, Planter]) -> None:
    outcome, _ = planted
    for kind in ("leak_content", "leak_near_content", "crop_with_box", "box_outside"):
        section = outcome.page.split(f'id="{kind}"')[1].split("</section>")[0]
        assert section.count("data:image/jpeg;base64,") >= (2 if kind.startswith("leak") else 1)
    assert "Zoë &lt;b&gt;.png" in outcome.page


def test_same_input_same_bytes(small_set: Path, tmp_path: Path) -> None:
    (tmp_path / "7.png").write_bytes((tmp_path / "2.png").read_bytes())
    (tmp_path / "9.png").write_bytes(b"")
    for name, options in (("a", {}), ("a2", {}), ("b", {"data__num_workers": 2, "data__cache_dir": "elsewhere"})):
        audit(small_set, tmp_path / name, **options)
    for file in ("audit.json", "audit.html", "findings.csv"):
        contents = {(tmp_path / name / file).read_bytes() for name in ("a", "a2", "b")}
        assert len(contents) == 1, file


@pytest.fixture(autouse=True)
def _own_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_severity_decides_how_it_ends(small_set: Path, tmp_path: Path) -> None:
    (tmp_path / "4.png").write_bytes((tmp_path / "0.png").read_bytes())  # both Sad, train, ferplus
    outcome = audit(small_set, tmp_path / "error")
    assert (outcome.kinds("error", "warning"), outcome.message) == ({"exact_copies"}, "")
    assert "0 errors, 1 warning" in audit(small_set, tmp_path / "warning", audit__fail_on=Severity.warning).message
    assert AuditFailedError.exit_code == 3


def test_without_pictures_columns_files_and_names_are_checked(small_set: Path, tmp_path: Path) -> None:
    (tmp_path / "3.png").unlink()
    (tmp_path / "4.png").write_bytes(b"")
    text = small_set.read_text().replace("val,ferplus,s2", "val,ferplus,s1")
    small_set.write_text(text)
    outcome = audit(small_set, tmp_path / "out", audit__images=False)
    assert outcome.kinds("error") == {"missing_file", "leak_subject"}
    assert (outcome.report.picture_sizes, outcome.report.shared_pictures) == ([], [])
    assert any("audit.images=false" in said for said in outcome.report.not_checked)
    assert not (tmp_path / "cache").exists()


def test_sources_left_out_are_not_looked_at(small_set: Path, tmp_path: Path) -> None:
    (tmp_path / "7.png").unlink()
    text = small_set.read_text()
    small_set.write_text(f"{text}x.png,Joy,train,rafdb_basic,\ny.png,Joy,train,ferplus,\nz.png,Joy,train,,\nbroken\n")
    outcome = audit(small_set, tmp_path / "out", source_filter__include=["ferplus"])
    errors = [(one["kind"], one["line"]) for one in outcome.findings if one["severity"] == "error"]
    assert sorted(errors) == [
        ("empty_source", "16"),
        ("unknown_label", "15"),
        ("unknown_label", "16"),
        ("wrong_field_count", "17"),
    ]
    assert list(outcome.report.class_counts) == ["ferplus"]
    assert (outcome.report.rows_in_manifest, outcome.report.rows_audited, outcome.report.faulty_rows) == (16, 6, 3)
    with pytest.raises(FerError, match="includes expw_hq, which has no row"):
        audit(small_set, tmp_path / "none", source_filter__include=["expw_hq"])


def test_predictions_are_compared(small_set: Path, tmp_path: Path) -> None:
    with (tmp_path / "p.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER, restval="0")
        writer.writeheader()
        for number in range(10):
            label = ("Sad", "Fear")[number % 2]
            says = "Happy" if number == 6 else label
            probs = {f"prob_{name}": "0.94" if name == says else "0.01" for name in EMOTIONS}
            writer.writerow(
                {"row_id": row_id(f"{number}.png", None), "image_path": f"{number}.png", "label": label, **probs}
            )
    outcome = audit(small_set, tmp_path / "out", audit__predictions=str(tmp_path / "p.csv"))
    assert outcome.kinds("error", "warning") == set()  # no row is labelled Happy: the class has no threshold
    assert outcome.report.label_comparison is not None
    assert outcome.report.label_comparison.rows_without_prediction == 2
    assert "not trained on these rows" in outcome.page


@pytest.mark.parametrize(
    "content", ["image_path,label,split,source\na.png\n", "image_path,label,split,source\na.png,Joy,train,s\n"]
)
def test_a_manifest_of_faulty_rows_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "faces.csv").write_text(content)
    outcome = audit(tmp_path / "faces.csv", tmp_path / "out")
    assert outcome.report.findings_by_severity["error"] == 1
    assert (outcome.report.rows_in_manifest, outcome.report.rows_audited) == (1, 0)


def test_default_folder_is_named_after_the_manifest(small_set: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = AuditManifestRun(run=RunConfig(root="runs"), data=DataConfig(manifest=str(small_set), num_workers=1))
    with caplog.at_level(logging.INFO):
        audit_manifest(run)
    (folder,) = Path("runs/audits").iterdir()
    report = read_artifact(folder / "audit.json", AuditReport)
    assert folder.name == f"faces_{report.manifest_sha256[:8]}"
    assert {file.name for file in folder.iterdir()} >= {"audit.json", "audit.html", "findings.csv"}
    assert f"Look at {folder / 'audit.html'}" in caplog.text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"max_bad_rows": 3}, r"data.max_bad_rows=3 would have no effect"),
        ({"val_fraction": 0.2}, r"data.val_fraction=0.2 would have no effect"),
        ({"allow_leaks": ["subject"]}, r"data.allow_leaks=\['subject'\] would have no effect"),
        ({"clahe": False}, r"data.clahe=False would have no effect"),
        ({"manifest": None}, r"task=audit_manifest needs data.manifest"),
        ({"manifest": "none.csv"}, r"no manifest at none.csv"),
        ({"root": "none"}, r"data.root: no folder none"),
        ({"group_columns": ["subjct"]}, r"data.group_columns names subjct, which is no column of"),
    ],
)
def test_refusals_write_nothing(small_set: Path, data: dict[str, object], message: str) -> None:
    run = AuditManifestRun(data=replace(DataConfig(manifest=str(small_set)), **data))  # type: ignore[arg-type]
    with pytest.raises(FerError, match=message):
        audit_manifest(run)
    assert not Path("experiments").exists()


def test_a_run_directory_is_no_place_for_an_audit(small_set: Path) -> None:
    Path("run").mkdir()
    Path("run/config.yaml").write_text("task: train_teacher\n")
    with pytest.raises(FerError, match="audit.output_dir: run is a run directory"):
        audit(small_set, Path("run"))


def test_exit_codes_of_the_command_line(small_set: Path, tmp_path: Path) -> None:
    def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        words = [sys.executable, "-m", "fer_lightning", "task=audit_manifest", f"data.manifest={small_set}", *arguments]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=120)

    (tmp_path / "2.png").unlink()
    failed = command("audit.images=false", "audit.fail_on=error")
    assert failed.returncode == 3, failed.stderr
    assert "Traceback" not in failed.stderr
    assert "1 error, 0 warnings" in failed.stderr
    assert "Files that are not there" in failed.stderr
    assert command("data.max_bad_rows=1").returncode == 2
