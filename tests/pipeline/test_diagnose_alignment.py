"""The verb `diagnose_alignment`: every fault told, not only the first, and exit code 3 whatever it is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.errors import CheckFailedError, FerError
from fer_lightning.pipeline.diagnose_alignment import diagnose_alignment
from fer_lightning.pipeline.evaluation.config import EvaluationTarget
from fer_lightning.pipeline.export_softlabels import export_softlabels
from fer_lightning.pipeline.softlabels.config import DiagnoseAlignmentRun, DiagnosisConfig
from fer_lightning.runs.artifacts import read_artifact, write_artifact
from fer_lightning.runs.diagnosis import Diagnosis
from fer_lightning.runs.softlabels import ClassOrder
from tests.data.conftest import Workshop
from tests.pipeline.exported_softlabels import export_run, only_export, write_ensemble
from tests.pipeline.recorded_teachers import record_rows, three_splits, write_teacher
from tests.runs.test_softlabels_file import change_arrays

A, B = "runs/A_tiny", "runs/B_tiny"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Soft labels of two teachers, in the working directory."""
    monkeypatch.chdir(tmp_path)
    made = Workshop(tmp_path)
    made.write(three_splits(), draw=True)
    record_rows(write_teacher(Path(A), seed=1), made.manifest)
    record_rows(write_teacher(Path(B), seed=2, size=40), made.manifest)
    write_ensemble(Path("AB"), [A, B], weights=[0.7, 0.3], temperatures=[2.0, 1.0])
    export_softlabels(export_run("AB", splits=["train", "val"], crops=1, verify_rows=0))
    return only_export()


def the_run(folder: Path | None, *, data: DataConfig | None = None, **diagnose: Any) -> DiagnoseAlignmentRun:
    return DiagnoseAlignmentRun(
        evaluate=EvaluationTarget(accelerator="cpu"),
        data=data or DataConfig(),
        diagnose=DiagnosisConfig(softlabels=None if folder is None else str(folder), **diagnose),
    )


def faults(folder: Path, **options: Any) -> dict[str, str]:
    """Diagnose, and return what failed: name -> what was found."""
    with pytest.raises(CheckFailedError) as refusal:
        diagnose_alignment(the_run(folder, **options))
    assert refusal.value.exit_code == 3
    diagnosis = read_artifact(folder / "diagnosis.json", Diagnosis)
    failed = {check.name: check.found for check in diagnosis.failed}
    assert f"{len(failed)} of {len(diagnosis.checks)} checks failed" in str(refusal.value)
    assert all(name in str(refusal.value) for name in failed)
    return failed


def rewrite(change: Callable[[str], str], *, to: str = "manifest.csv") -> None:
    text = Path("manifest.csv").read_text(encoding="utf-8")
    Path(to).write_text(change(text), encoding="utf-8")


def test_everything_holds(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    diagnose_alignment(the_run(folder))
    diagnosis = read_artifact(folder / "diagnosis.json", Diagnosis)
    assert not diagnosis.failed
    assert diagnosis.manifest == "manifest.csv"
    names = [check.name for check in diagnosis.checks]
    assert len(set(names)) == len(names)
    expected = {"files", "manifest SHA-256", "labels of the manifest", "teacher A_tiny", "ensemble as it is now"}
    assert expected | {"35 random rows inferred again"} <= set(names)
    assert f"all {len(names)} checks passed" in caplog.text
    diagnose_alignment(the_run(folder, output="elsewhere/report.json", verify_rows=3))
    assert read_artifact(Path("elsewhere/report.json"), Diagnosis).checks[-1].name == "3 random rows inferred again"


def test_all_faults_at_once(folder: Path) -> None:
    rewrite(lambda text: text.replace("train004.png,Sad,", "train004.png,Fear,"))
    write_teacher(Path(B), seed=5, size=40)
    order = read_artifact(folder / "classorder.json", ClassOrder).emotions
    write_artifact(folder / "classorder.json", ClassOrder(emotions=order[::-1]))
    write_ensemble(Path("AB"), [A, B], weights=[0.6, 0.4])
    failed = faults(folder)
    assert failed.keys() == {
        "class order of classorder.json",
        "SHA-256 of classorder.json",
        "manifest SHA-256",
        "labels of the manifest",
        "teacher B_tiny",
        "ensemble as it is now",
        "35 random rows inferred again",
    }
    assert failed["labels of the manifest"].endswith("train004.png: label is Fear, was Sad")
    assert failed["35 random rows inferred again"].startswith("not possible")


def test_rows_gone_moved_and_renamed(folder: Path) -> None:
    rewrite(
        lambda text: text.replace("train001.png", "new.png").replace(
            "train002.png,Fear,train", "train002.png,Fear,test"
        )
    )
    failed = faults(folder)
    assert "train001.png" in failed["rows of the manifest"]
    assert "split is test, was train" in failed["splits of the manifest"]


def test_rows_in_another_order_are_the_same_rows(folder: Path) -> None:
    rewrite(lambda text: "\n".join([text.splitlines()[0], *text.splitlines()[:0:-1]]) + "\n")
    assert faults(folder).keys() == {"manifest SHA-256"}


def test_a_moved_manifest_is_named(folder: Path) -> None:
    Path("manifest.csv").rename("moved.csv")
    failed = faults(folder)
    assert "data.manifest=<file>" in failed["manifest SHA-256"]
    assert failed["labels of the manifest"].startswith("not possible")
    diagnose_alignment(the_run(folder, data=DataConfig(manifest="moved.csv")))


def test_other_logits_whose_digests_were_made_anew(folder: Path) -> None:
    change_arrays(folder, lambda arrays: arrays["logits"].__setitem__(4, arrays["logits"][5]))
    failed = faults(folder)
    assert failed.keys() == {"logits against teacher_logits", "35 random rows inferred again"}
    assert failed["logits against teacher_logits"] == "other logits in 1 of 35 rows of view single, e.g. row 4"
    assert "train004.png (row 4, single)" in failed["35 random rows inferred again"]


def test_other_logits_of_a_teacher_whose_digests_were_made_anew(folder: Path) -> None:
    """Two teachers are off by as much as cancels out: the fused logits are those of the pictures."""

    def shift(arrays: dict[str, Any]) -> None:
        own = arrays["teacher_logits"]
        own[1, 0, 4, 2] += 3 * 2.0  # weights .7 and .3, temperatures 2 and 1
        own[1, 1, 4, 2] -= 7

    change_arrays(folder, shift)
    failed = faults(folder)
    assert failed.keys() == {"35 random rows inferred again"}
    assert "train004.png (row 4, crop-0, teacher B_tiny): a logit is " in failed["35 random rows inferred again"]
    assert failed["35 random rows inferred again"].count("(row ") == 1


def test_other_draws_whose_digests_were_made_anew(folder: Path) -> None:
    change_arrays(folder, lambda arrays: arrays["view_draws"].__setitem__(..., arrays["view_draws"][:, ::-1].copy()))
    failed = faults(folder)
    assert "crop-0" in failed["35 random rows inferred again"]
    assert "single" not in failed["35 random rows inferred again"]


def test_a_picture_that_changed(folder: Path) -> None:
    Workshop(Path()).draw("pictures/other.png")
    Path("pictures/other.png").replace("pictures/val003.png")
    assert "val003.png" in faults(folder)["35 random rows inferred again"]


def test_a_picture_and_a_teacher_that_are_gone(folder: Path) -> None:
    Path("pictures/val003.png").unlink()
    assert "val003.png" in faults(folder)["35 random rows inferred again"]
    (Path(A) / "best.pt").unlink()
    failed = faults(folder, verify_rows=0)
    assert failed == {"teacher A_tiny": f"not possible: nothing lies at {A}"}


@pytest.mark.parametrize("name", ["softlabels.npz", "softlabels_index.jsonl", "hash_manifest.json"])
def test_what_cannot_be_read_fails_the_rest_too(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    failed = faults(folder)
    assert any(name in check for check in failed)
    assert failed["manifest, teachers and pictures"].startswith("not possible")


def test_a_label_that_is_none(folder: Path) -> None:
    change_arrays(folder, lambda arrays: arrays["y"].__setitem__(np.s_[:], 200))
    assert {"y", "manifest, teachers and pictures"} <= faults(folder).keys()


def test_refusals(folder: Path) -> None:
    with pytest.raises(FerError, match="diagnose.softlabels=<folder"):
        diagnose_alignment(the_run(None))
    with pytest.raises(FerError, match="runs holds no soft labels"):
        diagnose_alignment(the_run(Path("runs")))
    with pytest.raises(FerError, match=r"source_filter\.exclude"):
        diagnose_alignment(replace(the_run(folder), source_filter=SourceFilterConfig(exclude=["web"])))
    with pytest.raises(FerError, match=r"data\.clahe"):
        diagnose_alignment(the_run(folder, data=DataConfig(clahe=False)))
