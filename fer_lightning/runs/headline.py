"""The figures that every leaderboard shows, by name."""

from fer_lightning.runs.artifacts import Metrics


def headline_figures(raw: Metrics, scaled: Metrics | None) -> dict[str, float | None]:
    """Return the figures of a table.

    Args:
        raw: uncalibrated.
        scaled: calibrated; None where there is no calibration, and then its figures are None.
    """
    return {
        "macro_f1": raw.macro_f1,
        "minority_f1": raw.minority_f1,
        "accuracy": raw.accuracy,
        "ece": raw.ece,
        "ece_scaled": None if scaled is None else scaled.ece,
        "nll": raw.nll,
        "nll_scaled": None if scaled is None else scaled.nll,
    }
