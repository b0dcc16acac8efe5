"""The verb `inspect_softlabels` on stored logits and on soft labels: its figures, its page, its refusals."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.inspect_softlabels import inspect_softlabels
from fer_lightning.pipeline.softlabels.config import InspectConfig, InspectSoftlabelsRun
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.sharpness_report import SharpnessReport
from tests.runs.softlabel_examples import write_example, write_manifest
from tests.runs.stored_scores import overconfident, write_scores


def run_on(folder: str | Path | None, **options: Any) -> InspectSoftlabelsRun:
    run = options.pop("run", RunConfig())
    return InspectSoftlabelsRun(
        run=run, inspect=InspectConfig(softlabels=None if folder is None else str(folder), **options)
    )


def report_in(folder: Path) -> SharpnessReport:
    return read_artifact(folder / "sharpness.json", SharpnessReport)


def test_stored_logits_at_every_temperature(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    logits, labels = overconfident(300)
    folder = Path(write_scores(tmp_path / "val", logits, labels))
    inspect_softlabels(run_on(folder, temperatures=[4.0, 1.0], target_entropy=0.6))
    report = report_in(folder)
    assert (folder / "sharpness.png").read_bytes()[1:4] == b"PNG"
    assert (report.kind, report.n, report.kd_temperatures) == ("stored logits", 300, [1.0, 4.0])
    (part,) = report.parts
    assert part.split == "val"
    for figures, temperature in zip(part.figures, (1.0, 4.0), strict=True):
        probs = scipy.special.softmax(logits.double().numpy() / temperature, axis=1)
        assert figures.max_prob.mean == pytest.approx(probs.max(1).mean(), abs=1e-12)
        assert figures.max_prob.quantiles["95"] == pytest.approx(np.quantile(probs.max(1), 0.95), abs=1e-12)
        assert figures.entropy.mean == pytest.approx(scipy.stats.entropy(probs, axis=1).mean(), abs=1e-12)
        assert figures.mean_true_prob == pytest.approx(probs[np.arange(300), labels].mean(), abs=1e-12)
        happy = probs[labels.numpy() == EMOTIONS.index("Happy")]
        of_class = part.classes["Happy"][part.figures.index(figures)]
        assert of_class.n == len(happy)
        assert of_class.max_prob.mean == pytest.approx(happy.max(1).mean(), abs=1e-12)
    probs = scipy.special.softmax(logits.double().numpy() / part.target.kd_temperature, axis=1)
    assert scipy.stats.entropy(probs, axis=1).mean() / np.log(7) == pytest.approx(0.6, abs=1e-9)
    assert (
        f"val: mean entropy .600 of that of 7 equal classes at KD temperature {part.target.kd_temperature:.4g}"
        in caplog.text
    )
    assert "project's documents describe had a mean largest probability of .983 at T=1" in caplog.text


def test_soft_labels_split_by_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    soft = write_example(tmp_path / "soft", write_manifest(tmp_path / "manifest.csv"))
    inspect_softlabels(
        run_on(tmp_path / "soft/softlabels.npz", output_dir=str(tmp_path / "out/deep"), temperatures=[1.0, 0.25])
    )
    report = report_in(tmp_path / "out/deep")
    assert not (tmp_path / "soft/sharpness.json").exists()
    assert (report.kind, report.logits_sha256) == ("soft labels", soft.record.softlabels_sha256)
    assert [(part.split, part.n) for part in report.parts] == [
        ("train", soft.splits.count("train")),
        ("val", soft.splits.count("val")),
        ("all", len(soft.splits)),
    ]
    probs = scipy.special.softmax(soft.logits.double().numpy() / 0.25, axis=1)
    train = np.array(soft.splits) == "train"
    assert report.parts[0].figures[0].max_prob.mean == pytest.approx(probs[train].max(1).mean(), abs=1e-12)
    assert report.parts[2].figures[0].second_prob.mean == pytest.approx(np.sort(probs, axis=1)[:, -2].mean(), abs=1e-12)
    assert "nearly one-hot: they say little more than labels do" in caplog.text


def test_a_class_without_rows_is_left_out(tmp_path: Path) -> None:
    folder = Path(write_scores(tmp_path / "val", torch.randn(9, 7), torch.arange(9) % 3))
    inspect_softlabels(run_on(folder))
    assert list(report_in(folder).parts[0].classes) == list(EMOTIONS[:3])


def test_an_entropy_out_of_reach_is_loud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    equal = torch.zeros(20, 7)
    folder = Path(write_scores(tmp_path / "val", equal, torch.arange(20) % 7))
    inspect_softlabels(run_on(folder))
    assert not report_in(folder).parts[0].target.reached
    assert "CANNOT BE REACHED: it is 1.000 even at KD temperature 0.01" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "holds no soft labels"),
        ({"temperatures": [1.0, 2.0, 1.0]}, "inspect.temperatures names one twice"),
        ({"run": RunConfig(seed=1)}, "run.seed=1 would have no effect"),
    ],
)
def test_what_has_no_meaning_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(FerError, match=said):
        inspect_softlabels(run_on(tmp_path, **options))


def test_a_folder_must_be_named() -> None:
    with pytest.raises(FerError, match="needs inspect.softlabels="):
        inspect_softlabels(run_on(None))
