"""Votes as targets, against rows worked by hand."""

import logging

import numpy as np
import pytest

from fer_lightning.data.batches.targets import RowTargets, read_targets, read_votes, vote_shares
from fer_lightning.data.config import TargetKind, TargetsConfig
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS
from tests.data.conftest import Row, Workshop, make_row

NO_VOTES = [""] * 7


def voted_row(name: str, label: str, votes: list[str]) -> Row:
    columns = {f"vote_{emotion}": count for emotion, count in zip(EMOTIONS, votes, strict=True)}
    return make_row(name, label, **columns)


def voted_manifest(workshop: Workshop) -> Manifest:
    # Angry, Disgust, Fear, Happy, Sad, Surprise, Neutral
    return workshop.read(
        [
            voted_row("a.png", "Happy", ["0", "0", "0", "6", "0", "1", "3"]),  # the single vote goes
            voted_row("b.png", "Sad", ["1", "1", "1", "0", "1", "", "1"]),  # single votes only: all stay
            voted_row("c.png", "Fear", NO_VOTES),
            voted_row("d.png", "Angry", ["4", "0", "0", "0", "6", "0", "0"]),  # most votes are not for the label
            voted_row("e.png", "Neutral", ["0"] * 7),
        ]
    )


SHARES: list[list[float]] = [
    [0, 0, 0, 6 / 9, 0, 0, 3 / 9],
    [1 / 5, 1 / 5, 1 / 5, 0, 1 / 5, 0, 1 / 5],
    [0, 0, 1, 0, 0, 0, 0],
    [0.4, 0, 0, 0, 0.6, 0, 0],
    [0, 0, 0, 0, 0, 0, 1],
]


def test_shares_by_hand(workshop: Workshop) -> None:
    manifest = voted_manifest(workshop)
    votes = read_votes(manifest, np.arange(5))
    assert vote_shares(votes, manifest.labels, min_votes=2) == pytest.approx(np.array(SHARES))
    kept = vote_shares(votes, manifest.labels, min_votes=1)
    assert kept[0] == pytest.approx([0, 0, 0, 0.6, 0, 0.1, 0.3])
    assert np.array_equal(kept, vote_shares(votes, manifest.labels, min_votes=0))


def test_a_distribution_is_the_target_beside_the_label(workshop: Workshop) -> None:
    manifest = voted_manifest(workshop)
    rows = np.array([3, 0, 2])
    targets = read_targets(manifest, rows, TargetsConfig(kind=TargetKind.distribution))
    positions, uniforms = np.array([1, 0, 1]), np.zeros(3)
    shown = targets.targets(positions, uniforms)
    assert shown is not None
    assert shown.dtype == np.float32
    assert shown == pytest.approx(np.array([SHARES[0], SHARES[3], SHARES[0]]))
    assert targets.labels(positions, uniforms).tolist() == [3, 0, 3]
    assert targets.weights(positions) is None


def test_a_label_is_drawn_by_the_shares(workshop: Workshop) -> None:
    targets = read_targets(voted_manifest(workshop), np.arange(5), TargetsConfig(kind=TargetKind.probability))
    assert targets.targets(np.arange(2), np.zeros(2)) is None
    for row, shares in enumerate(SHARES):
        uniforms = (np.arange(9000) + 0.5) / 9000
        drawn = targets.labels(np.full(9000, row), uniforms)
        assert drawn.dtype == np.int64
        assert np.bincount(drawn, minlength=7) / 9000 == pytest.approx(np.array(shares), abs=2 / 9000)
        ends = targets.labels(np.full(2, row), np.array([0.0, np.nextafter(1, 0)]))
        voted_for = np.flatnonzero(np.array(shares))
        assert ends.tolist() == [voted_for[0], voted_for[-1]]


def test_a_draw_never_lands_on_an_emotion_without_votes() -> None:
    random = np.random.default_rng(0)
    votes = random.integers(0, 4, (500, 7)).astype(np.float64)
    votes[:, 0] = votes[:, 6] = 0  # both ends
    votes[:, 3] += 1
    shares = vote_shares(votes, np.full(500, 3), min_votes=1)
    targets = RowTargets(np.full(500, 3), shares=shares, drawn=True)
    for uniform in (0.0, float(np.nextafter(1, 0)), *random.random(20)):
        drawn = targets.labels(np.arange(500), np.full(500, uniform))
        assert (shares[np.arange(500), drawn] > 0).all()


def test_label_targets_are_the_label_column(workshop: Workshop) -> None:
    manifest = workshop.read([make_row("a.png", "Sad"), make_row("b.png", "Fear")])
    targets = read_targets(manifest, np.arange(2), TargetsConfig())
    assert targets.labels(np.array([1, 0, 1]), np.full(3, 0.9)).tolist() == [2, 4, 2]
    assert targets.targets(np.arange(2), np.zeros(2)) is None
    assert targets.weights(np.arange(2)) is None


def test_loss_weights_have_mean_one_over_the_split(workshop: Workshop) -> None:
    rows = [make_row(f"{index}.png", weight=text) for index, text in enumerate(["1", "", "4", "0", "99"])]
    targets = read_targets(workshop.read(rows), np.arange(4), TargetsConfig(), weigh_loss=True)
    weights = targets.weights(np.array([2, 3, 0, 1]))
    assert weights is not None
    assert weights.dtype == np.float32
    assert weights == pytest.approx(np.array([4, 0, 1, 1]) / 1.5)


def test_the_log_says_how_many_rows_have_votes(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        read_targets(voted_manifest(workshop), np.arange(5), TargetsConfig(kind=TargetKind.distribution))
    assert "votes: 3 of 5 train rows have them; most votes are not for the label in 1" in caplog.messages


def test_refusals(workshop: Workshop) -> None:
    kind = TargetsConfig(kind=TargetKind.probability)
    with pytest.raises(FerError, match=r"needs the columns of votes, and .* lacks vote_Angry, .*vote_Neutral"):
        read_targets(workshop.read([make_row("a.png")]), np.arange(1), kind)
    with pytest.raises(FerError, match="lacks vote_Disgust"):
        read_targets(workshop.read([make_row("a.png", vote_Angry="3")]), np.arange(1), kind)
    with pytest.raises(FerError, match="targets.kind=probability needs votes, and none of the 2 train rows"):
        read_targets(voted_manifest(workshop), np.array([2, 4]), kind)


@pytest.mark.parametrize("count", ["-1", "many", "nan", "inf"])
def test_a_vote_that_is_none_is_refused(workshop: Workshop, count: str) -> None:
    rows = [voted_row("a.png", "Sad", ["1"] * 7), voted_row("b.png", "Sad", [*["1"] * 6, count])]
    with pytest.raises(FerError, match=f"line 3.*{count}"):  # by the reader of manifests, or here
        read_votes(workshop.read(rows), np.arange(2))
