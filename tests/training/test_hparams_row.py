"""The hparams view as TensorBoard's own reader answers it: every run a row, options that differ first."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch.loggers import TensorBoardLogger

from fer_lightning.training.hparams_row import log_hparams_row
from tests.training.hparams_view import hparams_view

COMMON = {f"augmentation.number_{number}": 0.5 for number in range(8)}


def write_run(folder: Path, figures: dict[str, float], **options: Any) -> None:
    logger = TensorBoardLogger(folder, name="", version="", default_hp_metric=False)
    log_hparams_row(logger, COMMON | options, figures)
    logger.finalize("success")


def test_every_run_is_a_row_and_what_differs_comes_first(tmp_path: Path) -> None:
    for seed, f1 in ((1, 0.5), (2, 0.25)):
        options = {"optimizer.lr": 10.0**-seed, "run.seed": seed, "data.clahe": True, "data.groups": ["a", "b"]}
        write_run(tmp_path / f"run{seed}", {"final/macro_f1": f1}, **options)
    view = hparams_view(tmp_path)
    assert view.options[:2] == ["optimizer.lr", "run.seed"]
    assert set(view.options) == {*COMMON, "optimizer.lr", "run.seed", "data.clahe", "data.groups"}
    assert view.differing == {"optimizer.lr", "run.seed"}
    assert view.metrics == ["final/macro_f1"]
    assert {name: (row["optimizer.lr"], row["data.clahe"], row["data.groups"]) for name, row in view.rows.items()} == {
        "run1": (0.1, "true", "['a', 'b']"),
        "run2": (0.01, "true", "['a', 'b']"),
    }
    assert {name: row["final/macro_f1"] for name, row in view.rows.items()} == {"run1": 0.5, "run2": 0.25}


def test_runs_with_other_options_and_unset_ones_stand_side_by_side(tmp_path: Path) -> None:
    write_run(tmp_path / "teacher", {"final/macro_f1": 0.5}, **{"optimizer.backbone_lr": None})
    write_run(tmp_path / "student", {"final/macro_f1": 0.5}, **{"optimizer.backbone_lr": 0.1, "distillation.alpha": 2})
    view = hparams_view(tmp_path)
    assert "distillation.alpha" in view.options
    assert view.differing == {"optimizer.backbone_lr"}
    assert view.rows["teacher"]["optimizer.backbone_lr"] == "null"
    assert view.rows["student"]["distillation.alpha"] == 2.0
    assert "distillation.alpha" not in view.rows["teacher"]


@pytest.mark.parametrize("value", [None, 3])
def test_the_options_are_kept_as_a_file_too(tmp_path: Path, value: int | None) -> None:
    write_run(tmp_path, {"final/nll": 1.0}, **{"stage.patience": value})
    assert yaml.safe_load((tmp_path / "hparams.yaml").read_text())["stage.patience"] == value
