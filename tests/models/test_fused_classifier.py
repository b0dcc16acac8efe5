"""The fused network against the functions it is made of."""

import pytest
import torch

from fer_lightning.functional.fusion import fuse_log_probs, fuse_logits
from fer_lightning.models.fused_classifier import FusedClassifier
from tests.runs.examples import IMAGE_SIZE, tiny_classifier

PICTURES = torch.rand(3, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("space", "fuse"), [("logit", fuse_logits), ("prob", fuse_log_probs)])
def test_it_equals_fusing_its_classifiers_logits(space: str, fuse: object) -> None:
    weights, temperatures = [0.2, 0.5, 0.3], [1.0, 4.0, 0.25]
    network = FusedClassifier(
        [tiny_classifier(seed) for seed in range(3)], space=space, weights=weights, temperatures=temperatures
    ).eval()
    with torch.no_grad():
        scaled = network.teacher_logits(PICTURES).double() / torch.tensor(temperatures).view(-1, 1, 1)
        expected = fuse(scaled, weights)  # type: ignore[operator]
        fused = network(PICTURES)
    assert fused.dtype == torch.float32
    torch.testing.assert_close(fused.double(), expected, rtol=1e-6, atol=1e-5)
    assert {name.partition(".")[0] for name in network.state_dict()} == {"classifiers"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space": "mean"}, "space must be one of logit, prob, got 'mean'"),
        ({"weights": [0.5, 0.6]}, "weights must sum to 1"),
        ({"weights": [1.5, -0.5]}, "weights must be finite and non-negative"),
        ({"weights": [float("nan"), 1.0]}, "weights must be finite and non-negative"),
        ({"weights": [1.0]}, r"weights must have shape \(2,\)"),
        ({"weights": [1.0, 0.0]}, "a classifier of weight 0 has no part in the network"),
        ({"temperatures": [1.0, 0.0]}, "temperatures must be 2 positive, finite numbers"),
        ({"temperatures": [1.0, float("inf")]}, "temperatures must be 2 positive, finite numbers"),
        ({"temperatures": [1.0]}, "temperatures must be 2 positive, finite numbers"),
    ],
)
def test_what_is_no_fusion_is_refused(changes: dict[str, object], said: str) -> None:
    plain: dict[str, object] = {"space": "logit", "weights": [0.5, 0.5], "temperatures": [1.0, 1.0]}
    with pytest.raises(ValueError, match=said):
        FusedClassifier([tiny_classifier(), tiny_classifier()], **plain | changes)  # type: ignore[arg-type]
