"""Class weights from class counts."""

import pytest

from fer_lightning.errors import FerError
from fer_lightning.training.config import ClassWeights, ImbalanceConfig
from fer_lightning.training.imbalance import class_weights

COUNTS = [100, 10, 20, 300, 60, 50, 200]


def test_none_gives_no_weights() -> None:
    assert class_weights(ImbalanceConfig(), COUNTS) is None


def test_inverse_frequency_by_hand() -> None:
    weights = class_weights(ImbalanceConfig(class_weights=ClassWeights.inverse_frequency, power=0.6), COUNTS)
    raw = [(count / sum(COUNTS)) ** -0.6 for count in COUNTS]
    assert weights == pytest.approx([value * 7 / sum(raw) for value in raw])


def test_effective_number_by_hand() -> None:
    weights = class_weights(ImbalanceConfig(class_weights=ClassWeights.effective_number, beta=0.99), COUNTS)
    raw = [0.01 / (1 - 0.99**count) for count in COUNTS]
    assert weights == pytest.approx([value * 7 / sum(raw) for value in raw])


def test_an_absent_class_is_named() -> None:
    config = ImbalanceConfig(class_weights=ClassWeights.effective_number)
    with pytest.raises(FerError, match="none of Fear"):
        class_weights(config, [5, 5, 0, 5, 5, 5, 5])


def test_both_corrections_only_by_name() -> None:
    with pytest.raises(ValueError, match="imbalance.allow_both=true"):
        ImbalanceConfig(min_per_class=1, class_weights=ClassWeights.effective_number)
    assert ImbalanceConfig(min_per_class=1, class_weights=ClassWeights.effective_number, allow_both=True).allow_both
