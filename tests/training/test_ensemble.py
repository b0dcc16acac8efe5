"""The ensemble module: its logits, its figures, what a student may do to it, and two ranks."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn

from fer_lightning.data.batches.augment import to_float
from fer_lightning.data.batches.sampling import Sampling
from fer_lightning.data.config import AugmentationConfig, DataConfig, SourceFilterConfig
from fer_lightning.data.datamodule import FerDataModule, eval_loader
from fer_lightning.data.pictures.store import DecodingStore
from fer_lightning.data.selection import Selection, select_rows
from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.functional.reliability import reliability_report
from fer_lightning.training.ensemble import EnsembleModule
from fer_lightning.training.fusion import Fusion, fused_logits
from tests.runs.ensemble_examples import write_pair
from tests.runs.examples import IMAGE_SIZE, tiny_classifier, write_checkpoint

# Lightning 2.6 beside torch 2.13: a deprecated call of its own, silenced in a run but raised first under "error".
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]

WEIGHTS, TEMPERATURES = (0.3, 0.7), (2.0, 0.5)
PICTURES = torch.rand(6, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["logit", "prob"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("root"), space=request.param, weights=WEIGHTS, temperatures=TEMPERATURES)


@pytest.fixture(scope="module")
def selection(toy_manifest: Path) -> Selection:
    return select_rows(DataConfig(manifest=str(toy_manifest)), SourceFilterConfig())


def expected_logits(pictures: Tensor, space: str) -> Tensor:
    """Fuse the logits of the teachers, each built and run on its own."""
    with torch.no_grad():
        own = torch.stack([tiny_classifier(seed).eval()(pictures) for seed in (0, 1)])
    return fused_logits(own.double(), Fusion(space, WEIGHTS, TEMPERATURES))


def quiet_trainer(**options: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **options,
    )


def datamodule(selection: Selection, module: EnsembleModule) -> FerDataModule:
    store = DecodingStore(selection.manifest, module.canonical)
    return FerDataModule(
        selection,
        store,
        AugmentationConfig(),
        batch_size=16,
        sampling=Sampling(),
        seed=0,
        num_workers=0,
    )


def test_its_logits_are_its_teachers_fused(folder: Path) -> None:
    module = EnsembleModule(str(folder))
    logits = module(PICTURES)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), expected_logits(PICTURES, module.ensemble.space), rtol=1e-6, atol=1e-5)


class Student(nn.Module):
    """A network with an ensemble inside, as live distillation has it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.own = nn.Linear(2, 2)
        self.teacher = EnsembleModule(str(folder))


def test_a_student_neither_trains_nor_saves_its_teacher(folder: Path) -> None:
    student = Student(folder).train()
    before = student.teacher(PICTURES)
    assert not any(part.training for part in student.teacher.network.modules())
    assert not before.requires_grad
    assert not any(parameter.requires_grad for parameter in student.teacher.network.parameters())
    assert {name for name, _ in student.named_parameters()} == set(student.state_dict()) == {"own.weight", "own.bias"}
    for parameter in student.parameters():
        parameter.data.zero_()
    student.load_state_dict(student.state_dict())
    assert torch.equal(student.teacher(PICTURES), before)  # no running statistics have moved


def test_it_follows_the_student_to_another_place(folder: Path) -> None:
    student = Student(folder).double()
    assert {parameter.dtype for parameter in student.teacher.network.parameters()} == {torch.float64}
    student.to("meta")
    assert {str(parameter.device) for parameter in student.teacher.network.parameters()} == {"meta"}


@pytest.mark.filterwarnings("ignore:The state dict in .* contains no parameters")
def test_its_checkpoint_holds_plain_values_and_loads_by_them(folder: Path, tmp_path: Path) -> None:
    trainer, module = quiet_trainer(), EnsembleModule(str(folder))
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "module.ckpt")
    content = torch.load(tmp_path / "module.ckpt", weights_only=True)
    sha256 = sha256_of(folder / "ensemble.json")
    assert content["hyper_parameters"] == {"ensemble": str(folder), "ensemble_sha256": sha256}
    assert not content["state_dict"]
    again = EnsembleModule.load_from_checkpoint(tmp_path / "module.ckpt", weights_only=True)
    assert torch.equal(again(PICTURES), module(PICTURES))


def test_another_ensemble_than_recorded_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FerError, match=r"ensemble\.json is not the one recorded: its sha256 is .*, recorded 000000000000"
    ):
        EnsembleModule(str(folder), "0" * 64)
    own = write_pair(tmp_path)
    write_checkpoint(tmp_path / "run0" / "best.pt", seed=5)
    with pytest.raises(FerError, match="is no longer the teacher T0"):
        EnsembleModule(str(own))


def test_predictions_name_their_rows(folder: Path, selection: Selection) -> None:
    module = EnsembleModule(str(folder))
    store = DecodingStore(selection.manifest, module.canonical)
    loader = eval_loader(selection, "val", store, batch_size=16, num_workers=0)
    batches: Any = quiet_trainer().predict(module, dataloaders=loader)
    rows = torch.cat([batch["rows"] for batch in batches])
    assert rows.tolist() == selection.rows["val"].tolist()
    pictures = torch.cat([to_float(batch.pictures) for batch in loader])
    logits = torch.cat([batch["logits"] for batch in batches])
    torch.testing.assert_close(logits.double(), expected_logits(pictures, module.ensemble.space), rtol=1e-5, atol=1e-4)


def test_a_test_logs_the_figures_of_its_rows(folder: Path, selection: Selection) -> None:
    module = EnsembleModule(str(folder))
    data = datamodule(selection, module)
    (logged,) = quiet_trainer().test(module, datamodule=data, verbose=False)
    batches = list(data.test_dataloader())
    logits = torch.cat([expected_logits(to_float(batch.pictures), module.ensemble.space) for batch in batches])
    labels = torch.cat([batch.labels for batch in batches])
    report = reliability_report(logits.log_softmax(1), labels)
    assert logged == pytest.approx(
        {"test/accuracy": report.scores.accuracy, "test/macro_f1": report.scores.macro_f1, "test/nll": report.nll},
        rel=1e-5,
    )
    assert module.report is not None
    assert module.report.n == len(selection.rows["test"])


def test_a_loader_of_its_own_is_judged_by_what_it_holds(folder: Path, selection: Selection) -> None:
    module = EnsembleModule(str(folder))
    quiet_trainer().test(module, dataloaders=datamodule(selection, module).val_dataloader(), verbose=False)
    assert module.report is not None
    assert module.report.n == len(selection.rows["val"])


def test_rows_that_are_not_all_are_an_error(folder: Path, selection: Selection) -> None:
    module = EnsembleModule(str(folder))
    with pytest.raises(RuntimeError, match="16 rows were scored, which are not the 63 rows of the split"):
        quiet_trainer(limit_test_batches=1).test(module, datamodule=datamodule(selection, module), verbose=False)


_TWO_RANKS = """
import sys, torch
from fer_lightning.data.config import DataConfig, SourceFilterConfig
from fer_lightning.data.selection import select_rows
from fer_lightning.training.ensemble import EnsembleModule
from fer_lightning.training.ranks import part_from_ranks
from tests.training.test_ensemble import datamodule, quiet_trainer
folder, manifest, out = sys.argv[1:]
module = EnsembleModule(folder)
selection = select_rows(DataConfig(manifest=manifest), SourceFilterConfig())
trainer = quiet_trainer(devices=2, strategy="ddp", use_distributed_sampler=False)
(logged,) = trainer.test(module, datamodule=datamodule(selection, module), verbose=False)
torch.save([logged, module.report.n, module.report.nll], f"{out}/{trainer.global_rank}.pt")
part_from_ranks()
"""


@pytest.mark.slow
def test_two_ranks_log_what_one_does(selection: Selection, toy_manifest: Path, tmp_path: Path) -> None:
    folder = write_pair(tmp_path)
    module = EnsembleModule(str(folder))
    (alone,) = quiet_trainer().test(module, datamodule=datamodule(selection, module), verbose=False)
    (tmp_path / "two.py").write_text(_TWO_RANKS)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "two.py"), str(folder), str(toy_manifest), str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        logged, n, _ = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert n == len(selection.rows["test"])
        assert logged == pytest.approx(dict(alone), rel=1e-6)
