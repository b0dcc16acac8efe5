"""The order of the documents, by which models are ranked everywhere: macro-F1, minority-F1, ECE, accuracy."""

from fer_lightning.runs.artifacts import EvaluatedCheckpoint

DOCUMENT_ORDER = (
    "macro_f1, higher",
    "minority_f1, higher",
    "ece as deployed (scaled where there is a calibration), lower",
    "accuracy, higher",
)
"""What decides, the first one first: the words of `document_place`."""
_DIGITS = 9
"""What is behind them is rounding."""


def document_place(
    *, macro_f1: float, minority_f1: float, ece: float, accuracy: float
) -> tuple[float, float, float, float]:
    """Return what models are ordered by, smaller first; figures that agree to nine digits are equal."""
    return round(-macro_f1, _DIGITS), round(-minority_f1, _DIGITS), round(ece, _DIGITS), round(-accuracy, _DIGITS)


def place_of(result: EvaluatedCheckpoint) -> tuple[float, float, float, float]:
    """Return the place of a judged model, by its ECE as deployed."""
    raw, deployed = result.raw, result.raw if result.scaled is None else result.scaled
    return document_place(macro_f1=raw.macro_f1, minority_f1=raw.minority_f1, ece=deployed.ece, accuracy=raw.accuracy)
