"""The student's own logits: a table for each epoch, the last time of a row counts, and a state that goes on."""

import math

import pytest
import torch

from fer_lightning.training.distillation import own_logits
from fer_lightning.training.distillation.own_logits import OwnLogits

ROWS = torch.arange(5)


def logits(value: float, num_rows: int) -> torch.Tensor:
    return torch.full((num_rows, 7), value)


def firsts(own: OwnLogits) -> list[float | None]:
    """Return the first logit of each row, None where there is none."""
    taught = own.of(ROWS)
    assert taught.shape == (5, 1, 7)
    assert taught.dtype == torch.float32
    return [None if math.isnan(value) else value for value in taught[:, 0, 0].tolist()]


def test_an_epoch_is_taught_by_the_one_before() -> None:
    own = OwnLogits(5)
    assert firsts(own) == [None] * 5
    own.keep(torch.tensor([3, 1]), logits(1.0, 2))
    own.keep(torch.tensor([4]), logits(2.0, 1))
    assert firsts(own) == [None] * 5  # the epoch is not over
    own.turn(world_size=1)
    assert firsts(own) == [None, 1.0, None, 1.0, 2.0]
    own.keep(torch.tensor([0, 1]), logits(3.0, 2))
    assert firsts(own) == [None, 1.0, None, 1.0, 2.0]
    own.turn(world_size=1)
    assert firsts(own) == [3.0, 3.0, None, None, None]  # no older ones


def test_the_last_time_of_a_row_counts() -> None:
    own = OwnLogits(5)
    own.keep(torch.tensor([2, 0, 2]), torch.arange(3.0)[:, None].expand(3, 7))
    own.keep(torch.tensor([0]), logits(9.0, 1))
    own.turn(world_size=1)
    assert firsts(own) == [9.0, None, 2.0, None, None]


def test_kept_logits_are_constants() -> None:
    own, weight = OwnLogits(5), torch.ones((), requires_grad=True)
    own.keep(ROWS, (weight * logits(1.0, 5)).to(torch.bfloat16))
    own.turn(world_size=1)
    assert not own.of(ROWS).requires_grad


def test_a_collapsed_epoch_teaches_nothing() -> None:
    own = OwnLogits(5)
    own.keep(ROWS, logits(1.0, 5))
    own.turn(world_size=1)
    own.keep(ROWS, logits(math.inf, 5))
    own.forget_epoch()
    own.turn(world_size=1)
    assert firsts(own) == [1.0] * 5


def test_ranks_share_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks in one process: each exchange returns what both have handed in."""
    ranks = [OwnLogits(5), OwnLogits(5)]
    ranks[0].keep(torch.tensor([0, 1]), logits(1.0, 2))
    ranks[1].keep(torch.tensor([4, 1]), logits(2.0, 2))
    handed = [rank.state(world_size=1)["kept"][0] for rank in ranks]
    monkeypatch.setattr(own_logits, "of_all_ranks", lambda _value, *, world_size: handed[:world_size])
    state = ranks[0].state(world_size=2)
    for rank in ranks:
        rank.turn(world_size=2)
        assert firsts(rank) == [1.0, 2.0, None, None, 2.0]
    resumed = OwnLogits(5)
    resumed.load_state(state, rank=1)
    assert firsts(resumed) == [None] * 5
    monkeypatch.undo()
    resumed.turn(world_size=1)
    assert firsts(resumed) == [None, 2.0, None, None, 2.0]


def test_a_state_goes_on_inside_an_epoch(tmp_path: object) -> None:
    own, resumed = OwnLogits(5), OwnLogits(5)
    own.keep(ROWS, logits(1.0, 5))
    own.turn(world_size=1)
    own.keep(torch.tensor([2, 3]), logits(2.0, 2))
    file = f"{tmp_path}/state.pt"
    torch.save(own.state(world_size=1), file)
    resumed.load_state(torch.load(file, weights_only=True), rank=0)
    assert firsts(resumed) == [1.0] * 5
    for table in (own, resumed):
        table.keep(torch.tensor([3]), logits(3.0, 1))
        table.turn(world_size=1)
        assert firsts(table) == [None, None, 2.0, 3.0, None]
