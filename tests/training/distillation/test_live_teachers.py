"""Live teachers: their own logits, and that nothing a student does reaches them."""

import copy
from pathlib import Path

import pytest
import torch

from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.training.distillation.live_teachers import LiveTeachers, open_live_teachers
from tests.runs.ensemble_examples import write_pair
from tests.runs.examples import IMAGE_SIZE, tiny_classifier, write_checkpoint

PICTURES = torch.rand(6, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))


def opened(folder: Path) -> LiveTeachers:
    return open_live_teachers(folder, sha256_of(folder / "ensemble.json"))


def test_each_teachers_undivided_logits(tmp_path: Path) -> None:
    teachers = opened(write_pair(tmp_path, temperatures=(2.0, 0.5)))
    logits = teachers.logits(PICTURES.requires_grad_())
    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    for number in range(2):
        with torch.no_grad():
            own = tiny_classifier(number).eval()(PICTURES)
        torch.testing.assert_close(logits[:, number], own, rtol=1e-5, atol=1e-4)


def test_a_teacher_without_a_share_is_left_out(tmp_path: Path) -> None:
    assert opened(write_pair(tmp_path, weights=(0.0, 1.0))).logits(PICTURES).shape == (6, 1, 7)


def test_a_copy_shares_them(tmp_path: Path) -> None:
    teachers = opened(write_pair(tmp_path))
    assert copy.deepcopy(teachers) is teachers
    assert not any(parameter.requires_grad for parameter in teachers.network.parameters())
    assert not any(part.training for part in teachers.network.modules())


def test_they_go_where_the_pictures_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teachers = opened(write_pair(tmp_path))
    devices = []

    def spied(pictures: torch.Tensor) -> torch.Tensor:
        devices.append({tensor.device for tensor in teachers.network.state_dict().values()} | {pictures.device})
        return torch.zeros(2, len(pictures), 7)

    monkeypatch.setattr(teachers.network, "teacher_logits", spied)
    for device in ("cpu", "meta", "meta"):
        teachers.logits(PICTURES.to(device))
    assert devices == [{torch.device(device)} for device in ("cpu", "meta", "meta")]


def test_another_file_than_recorded_is_refused(tmp_path: Path) -> None:
    folder = write_pair(tmp_path)
    with pytest.raises(
        FerError, match=r"distillation\.ensemble: .*ensemble\.json is not the one .* recorded 000000000000"
    ):
        open_live_teachers(folder, "0" * 64)
    write_checkpoint(tmp_path / "run0" / "best.pt", seed=5)
    with pytest.raises(FerError, match=r"distillation\.ensemble: .* is no longer the teacher T0"):
        opened(folder)
