"""Gates: a candidate against its limits and against a reference on the same rows."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_lightning.errors import FerError, GateFailedError
from fer_lightning.functional.reliability import classification_scores
from fer_lightning.pipeline.evaluate import evaluate
from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationTarget, GatesConfig
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.evaluation import Evaluation, GateReport
from fer_lightning.runs.stored_logits import read_stored_logits, write_stored_logits
from tests.runs.examples import calibration_record
from tests.runs.stored_scores import overconfident, write_scores


@pytest.fixture
def models(tmp_path: Path) -> dict[str, str]:
    """Stored logits of a good model, of one that is worse, and of one on other rows."""
    logits, labels = overconfident(400)
    noise = 9 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    other, other_labels = overconfident(300, seed=2)
    return {
        "good": write_scores(tmp_path / "good", logits, labels, calibration=calibration_record(3.0)),
        "worse": write_scores(tmp_path / "worse", logits + noise, labels, checkpoint_sha256="6b" * 32),
        "elsewhere": write_scores(tmp_path / "elsewhere", other, other_labels, prefix="other"),
    }


def run_of(candidate: str, folder: Path, **gates: Any) -> EvaluateRun:
    target = EvaluationTarget(
        checkpoint=candidate,
        num_resamples=200,
        gates=GatesConfig(**gates),
        output_dir=str(folder / "out"),
    )
    return EvaluateRun(run=RunConfig(root=str(folder)), evaluate=target)


def report_in(folder: Path) -> GateReport:
    gates = read_artifact(folder / "out" / "evaluation.json", Evaluation).gates
    assert gates is not None
    return gates


def test_a_worse_candidate_fails_with_the_reason_and_leaves_its_files(models: dict[str, str], tmp_path: Path) -> None:
    run = run_of(models["worse"], tmp_path, reference=models["good"], max_macro_f1_drop=0.01, max_minority_f1_drop=1.0)
    with pytest.raises(
        GateFailedError, match=r"val rows of .* breaks 1 of 2 gates:\n  max_macro_f1_drop=0\.01: 0\.\d{4} against 0\."
    ) as caught:
        evaluate(run)
    assert caught.value.exit_code == 3
    report = report_in(tmp_path)
    by_name = {gate.figure: gate for gate in report.gates}
    assert (report.passed, by_name["max_macro_f1_drop"].passed, by_name["max_minority_f1_drop"].passed) == (
        False,
        False,
        True,
    )
    assert report.reference == models["good"]
    assert report.reference_sha256 == "5a" * 32
    drop = by_name["max_macro_f1_drop"]
    expected = []
    for name in ("worse", "good"):
        logits, labels = overconfident(400)
        noise = 9 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
        scored = logits.float() + noise if name == "worse" else logits.float()
        expected.append(classification_scores(scored.argmax(1), labels).macro_f1)
    assert drop.candidate == pytest.approx(expected[0])
    assert drop.reference == pytest.approx(expected[1])
    assert drop.difference_range is not None
    assert drop.difference_range.low <= expected[0] - expected[1] <= drop.difference_range.high < 0
    assert drop.p_value is not None
    assert drop.p_value < 0.01


def test_a_candidate_as_good_as_its_reference_passes_limits_of_nothing(models: dict[str, str], tmp_path: Path) -> None:
    limits = {"max_macro_f1_drop": 0.0, "max_minority_f1_drop": 0.0, "max_ece_increase": 0.0}
    evaluate(run_of(models["good"], tmp_path, reference=models["good"], **limits))
    report = report_in(tmp_path)
    assert report.passed
    assert [gate.candidate - (gate.reference or 0) for gate in report.gates] == [0.0, 0.0, 0.0]


def test_the_better_one_passes_where_the_worse_one_is_the_reference(models: dict[str, str], tmp_path: Path) -> None:
    evaluate(run_of(models["good"], tmp_path, reference=models["worse"], max_macro_f1_drop=0.0))
    assert report_in(tmp_path).passed


@pytest.mark.parametrize(
    ("gates", "passes"),
    [
        ({"max_ece": 0.2}, True),
        ({"max_ece": 0.0}, False),
        ({"min_macro_f1": 0.1}, True),
        ({"min_macro_f1": 1.0}, False),
    ],
)
def test_absolute_limits_need_no_reference(
    models: dict[str, str], tmp_path: Path, gates: dict[str, float], passes: bool
) -> None:
    run = run_of(models["good"], tmp_path, **gates)
    if passes:
        evaluate(run)
    else:
        with pytest.raises(GateFailedError, match="breaks 1 of 1 gates"):
            evaluate(run)
    evaluation = read_artifact(tmp_path / "out" / "evaluation.json", Evaluation)
    assert evaluation.gates is not None
    (gate,) = evaluation.gates.gates
    assert evaluation.scaled is not None
    deployed = evaluation.scaled.ece if "max_ece" in gates else evaluation.scaled.macro_f1
    assert (gate.reference, gate.passed, gate.candidate) == (None, passes, deployed)


def test_a_calibration_that_is_kept_nowhere_does_not_help_a_gate(models: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(GateFailedError, match=r"max_ece=0\.2: 0\.\d{4}"):
        evaluate(run_of(models["worse"], tmp_path, max_ece=0.2))
    evaluation = read_artifact(tmp_path / "out" / "evaluation.json", Evaluation)
    assert evaluation.scaled is not None
    assert evaluation.scaled.ece < 0.2 < evaluation.raw.ece
    assert report_in(tmp_path).gates[0].candidate == evaluation.raw.ece


def test_a_reference_on_other_rows_is_refused(models: dict[str, str], tmp_path: Path) -> None:
    run = run_of(models["good"], tmp_path, reference=models["elsewhere"], max_macro_f1_drop=0.5)
    with pytest.raises(
        FerError, match=r"was scored on other rows \(val \w{8}, n=300\).*on the same rows only"
    ) as caught:
        evaluate(run)
    assert caught.value.exit_code == 2


def test_without_resamples_the_difference_stands_alone(models: dict[str, str], tmp_path: Path) -> None:
    run = run_of(models["good"], tmp_path, reference=models["worse"], max_macro_f1_drop=0.0)
    run.evaluate.num_resamples = 0
    evaluate(run)
    (gate,) = report_in(tmp_path).gates
    assert (gate.difference_range, gate.p_value) == (None, None)


def test_the_command_ends_with_exit_code_3(models: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fer_lightning", "task=evaluate", f"evaluate.checkpoint={models['worse']}"]
    options = [f"evaluate.gates.reference={models['good']}", "evaluate.gates.max_macro_f1_drop=0.01"]
    options += [f"run.root={tmp_path}", "evaluate.num_resamples=0", f"evaluate.output_dir={tmp_path / 'out'}"]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 3, done.stderr
    assert "gate FAILED: max_macro_f1_drop=0.01" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["gates"]["passed"] is False


def test_rows_of_a_reference_in_another_order_are_compared_row_by_row(models: dict[str, str], tmp_path: Path) -> None:
    good = read_stored_logits(Path(models["good"]), option="test")
    order = torch.randperm(400, generator=torch.Generator().manual_seed(3)).tolist()
    shuffled = good.in_order_of([good.row_ids[row] for row in order])
    assert shuffled.row_ids != good.row_ids
    assert torch.equal(shuffled.logits, good.logits[order])
    write_stored_logits(tmp_path / "shuffled", shuffled)
    limits = {"max_macro_f1_drop": 0.0, "max_ece_increase": 0.0}
    evaluate(run_of(models["good"], tmp_path, reference=str(tmp_path / "shuffled"), **limits))
    report = report_in(tmp_path)
    assert report.passed
    assert report.mcnemar_p == 1.0
    for gate in report.gates:
        assert gate.difference_range is not None
        assert gate.difference_range.low == gate.difference_range.high == 0.0


def test_a_reference_through_another_view_is_refused(models: dict[str, str], tmp_path: Path) -> None:
    flipped = write_scores(tmp_path / "flipped", *overconfident(400), view="flip")
    with pytest.raises(FerError, match="was scored through view flip, .* through single"):
        evaluate(run_of(models["good"], tmp_path, reference=flipped, max_macro_f1_drop=0.5))
