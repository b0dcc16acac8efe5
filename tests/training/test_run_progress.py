"""The table on the console: one aligned row per epoch, the best epoch at the end."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.runs.artifacts import Metrics, read_artifact
from fer_lightning.runs.history import EpochRecord, EpochTiming, History, Rollback
from fer_lightning.training.callbacks import run_progress
from fer_lightning.training.epoch_table import best_line, epoch_header, epoch_row
from tests.conftest import toy_run
from tests.training.epochs import epoch_record

HEADER = (
    "  epoch  phase           loss    acc  val nll     acc  macro-F1   ECE (scaled)       T  LR backb.      head  margin   img/s"
    "  wait      s"
)
ROW = (
    "   7/60  late blocks   1.2346  0.668   1.2500  0.7862    0.7808  0.205 (0.012)   1.733   3.00e-05  3.00e-04   0.350    1235"
    "    7%   1024"
)


def fixed_record() -> EpochRecord:
    metrics = Metrics(
        accuracy=0.78621,
        macro_f1=0.78083,
        macro_f1_present=0.78083,
        minority_f1=0.6543,
        per_class_f1={},
        nll=1.25,
        ece=0.2049,
        brier=0.3,
        mean_confidence=0.9,
    )
    return replace(
        epoch_record(6, 0.0, phase="late blocks"),
        train_loss=1.23456,
        train_accuracy=0.6677,
        margin_rad=0.35,
        lr_backbone=3e-5,
        lr_head=3e-4,
        calibration_temperature=1.7333,
        val_raw=metrics,
        val_scaled=replace(metrics, nll=0.7, ece=0.0123),
    )


TIMING = EpochTiming(epoch=6, epoch_seconds=1023.6, images_per_second=1234.6, data_wait_share=0.067)


def test_a_row_stands_under_its_header() -> None:
    assert epoch_header() == HEADER
    assert epoch_row(fixed_record(), TIMING, num_epochs=60) == ROW
    assert len(HEADER) == len(ROW)


def test_a_row_says_what_became_of_the_epoch() -> None:
    best = replace(fixed_record(), is_best=True)
    assert epoch_row(best, TIMING, num_epochs=60) == ROW + "  best"
    rollback = Rollback(reason="", to_epoch=3, margin_factor=0.5, lr_factor=0.5)
    row = epoch_row(replace(fixed_record(), rollback=rollback), TIMING, num_epochs=60)
    assert row == ROW + "  rolled back to 4"
    assert len(row) <= 155


def test_a_row_without_calibration_or_with_a_broken_loss_keeps_its_columns() -> None:
    record = replace(fixed_record(), val_scaled=None, train_loss=float("nan"))
    row = epoch_row(record, TIMING, num_epochs=60)
    assert row == ROW.replace("0.205 (0.012)", "        0.205").replace("1.2346", "   nan")


def test_the_last_line_names_the_best_epoch_and_how_far_the_last_one_fell() -> None:
    best = fixed_record()
    last = replace(best, epoch=59, val_raw=replace(best.val_raw, macro_f1=0.75))
    figures = (
        "best.pt is epoch 7: val macro-F1 0.7808, minority-F1 0.6543, accuracy 0.7862, NLL and ECE 1.2500 and 0.2049 "
        "(scaled 0.7000 and 0.0123)"
    )
    assert best_line(best, last) == f"{figures}; the last one, epoch 60, lies 0.0308 below"
    assert best_line(best, best) == f"{figures}, which is also the last one"


# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")
def test_a_run_shows_its_table_and_repeats_the_header(
    toy_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_progress, "_ROWS_UNDER_HEADER", 2)
    run = toy_run(toy_manifest, tmp_path, epochs=3)
    run.optimizer.backbone_lr = 5e-4
    run.trainer.gradient_norms = True
    with caplog.at_level(logging.INFO):
        train_teacher(run)
    shown = [record.message for record in caplog.records if record.name == run_progress.__name__]
    history = read_artifact(run.directory / "history.json", History).epochs
    rows = [index for index, line in enumerate(shown) if line.lstrip().startswith(("1/3", "2/3", "3/3"))]
    headers = [index for index, line in enumerate(shown) if line == HEADER]
    assert headers == [rows[0] - 1, rows[2] - 1]
    for index, record in zip(rows, history, strict=True):
        cells = shown[index].split()
        assert cells[1] == "all"
        assert cells[6] == f"{record.val_raw.macro_f1:.4f}"
        assert float(cells[10]) == pytest.approx(record.lr_backbone, rel=5e-3)
        assert float(cells[11]) == pytest.approx(record.lr_head, rel=5e-3)
        assert record.lr_backbone == pytest.approx(record.lr_head / 4)
        assert record.gradient_norms is not None
        assert record.gradient_norms.largest >= record.gradient_norms.mean > 0
    best = [record for record in history if record.is_best][-1]
    assert shown[-1] == best_line(best, history[-1])
    assert shown[-1] in (run.directory / "run.log").read_text()
