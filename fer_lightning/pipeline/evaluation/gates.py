"""Holds a candidate against its limits: absolute ones, and drops below a reference on the same rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fer_lightning.errors import GateFailedError
from fer_lightning.pipeline.evaluation.config import GatesConfig
from fer_lightning.runs.evaluation import DetailedFigures, Evaluation, GateOutcome, GateReport, Range
from fer_lightning.runs.stored_logits import StoredLogits

if TYPE_CHECKING:
    from torch import Tensor

    from fer_lightning.functional.paired import PairedComparison
    from fer_lightning.training.evaluation import JudgedScores

_ABSOLUTE: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "max_ece": ("ece", lambda candidate, limit: candidate <= limit),
    "min_macro_f1": ("macro_f1", lambda candidate, limit: candidate >= limit),
}
_RELATIVE: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "max_macro_f1_drop": ("macro_f1", lambda difference, limit: -difference <= limit),
    "max_minority_f1_drop": ("minority_f1", lambda difference, limit: -difference <= limit),
    "max_ece_increase": ("ece", lambda difference, limit: difference <= limit),
}


@dataclass(frozen=True)
class Deployed:
    """A model as it would be deployed."""

    judged: "JudgedScores"
    calibrated: bool
    """A calibration is kept with it."""


def hold_against_gates(
    limits: GatesConfig,
    candidate: Deployed,
    reference: Deployed | None,
    stored: StoredLogits,
    *,
    num_resamples: int,
    confidence: float,
) -> GateReport | None:
    """Compare as deployed: calibrated where a calibration is kept with the model, not where one was fitted just now.

    Args:
        limits: what is asked.
        candidate: the candidate.
        reference: the reference on the same rows; None where no limit needs one.
        stored: rows of the candidate.
        num_resamples: of the paired bootstrap; 0: none.
        confidence: of its intervals.

    Returns:
        The report; None where there is no limit.
    """
    if not limits.absolute and not limits.relative:
        return None
    figures, compared = _as_deployed(candidate), None
    outcomes = [_absolute(name, getattr(limits, name), figures) for name in limits.absolute]
    if reference is not None:
        compared = _paired(candidate, reference, stored, num_resamples=num_resamples, confidence=confidence)
        outcomes += [
            _relative(name, getattr(limits, name), figures, _as_deployed(reference), compared)
            for name in limits.relative
        ]
    return GateReport(
        reference=None if reference is None else limits.reference,
        reference_sha256=None if reference is None else reference.judged.result.checkpoint_sha256,
        passed=all(outcome.passed for outcome in outcomes),
        mcnemar_p=None if compared is None else compared.mcnemar_p,
        gates=outcomes,
    )


def refuse_failed(evaluations: "Sequence[Evaluation]") -> None:
    """End the command where a limit is broken.

    Raises:
        GateFailedError: which limits, on which rows, and by how much.
    """
    broken = []
    for evaluation in evaluations:
        gates = [] if evaluation.gates is None else evaluation.gates.gates
        failed = [gate_line(gate) for gate in gates if not gate.passed]
        if failed:
            where = f"{evaluation.model} on {evaluation.result.split} rows of {evaluation.manifest}"
            broken.append("\n  ".join([f"{where} breaks {len(failed)} of {len(gates)} gates:", *failed]))
    if broken:
        raise GateFailedError("\n".join(broken))


def gate_line(gate: GateOutcome) -> str:
    """Return one gate as a line, e.g. `max_macro_f1_drop=0.01: .7810 against .7935, a difference of -.0125 [-.02, -.005]`."""
    if gate.reference is None:
        return f"{gate.figure}={gate.limit:g}: {gate.candidate:.4f}"
    difference = gate.candidate - gate.reference
    text = f"{gate.figure}={gate.limit:g}: {gate.candidate:.4f} against {gate.reference:.4f}, a difference of {difference:+.4f}"
    if gate.difference_range is not None:
        text += f" [{gate.difference_range.low:+.4f}, {gate.difference_range.high:+.4f}]"
    return text if gate.p_value is None else f"{text}, p={gate.p_value:.2g}"


def _as_deployed(candidate: "Deployed") -> DetailedFigures:
    scaled = candidate.judged.scaled if candidate.calibrated else None
    return candidate.judged.raw if scaled is None else scaled


def _log_probs_of(candidate: "Deployed") -> "Tensor":
    scaled = candidate.judged.scaled_log_probs if candidate.calibrated else None
    return candidate.judged.raw_log_probs if scaled is None else scaled


def _absolute(name: str, limit: float, figures: DetailedFigures) -> GateOutcome:
    figure, holds = _ABSOLUTE[name]
    value = getattr(figures, figure)
    return GateOutcome(
        figure=name,
        candidate=value,
        reference=None,
        limit=limit,
        passed=holds(value, limit),
        difference_range=None,
        p_value=None,
    )


def _paired(
    candidate: Deployed,
    reference: Deployed,
    stored: StoredLogits,
    *,
    num_resamples: int,
    confidence: float,
) -> "PairedComparison | None":
    from fer_lightning.functional.paired import paired_comparison
    from fer_lightning.training.slices import all_linked

    if num_resamples == 0 or all_linked(stored.groups):
        return None

    return paired_comparison(
        _log_probs_of(reference),
        _log_probs_of(candidate),
        stored.labels,
        groups=stored.groups,
        num_resamples=num_resamples,
        confidence=confidence,
        num_bins=candidate.judged.result.num_bins,
    )


def _relative(
    name: str,
    limit: float,
    candidate: DetailedFigures,
    reference: DetailedFigures,
    compared: "PairedComparison | None",
) -> GateOutcome:
    figure, holds = _RELATIVE[name]
    values = getattr(candidate, figure), getattr(reference, figure)
    found = None if compared is None else compared.differences[figure]
    return GateOutcome(
        figure=name,
        candidate=values[0],
        reference=values[1],
        limit=limit,
        passed=holds(values[0] - values[1], limit),
        difference_range=None if found is None else Range(low=found.low, high=found.high),
        p_value=None if found is None else found.p_value,
    )
