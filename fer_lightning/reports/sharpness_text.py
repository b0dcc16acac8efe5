"""Console tables of `task=inspect_softlabels`: by temperature, by split, by class."""

from fer_lightning.labels import NUM_CLASSES
from fer_lightning.reports.tables import text_table
from fer_lightning.runs.sharpness_report import PartSharpness, SharpnessFigures, SharpnessReport

_NEARLY_ONE_HOT = 0.95  # mean largest probability
_COLUMNS = "means over rows, and quantiles of the column before; entropy: share of log 7, that of seven equal classes"
_DOCUMENTED = (
    "for comparison: soft labels of the three teachers that the project's documents describe had a mean largest probability of "
    ".983 at T=1, nearly one-hot, and were softened by T=4 to 6"
)


def _number(value: float, digits: int = 3) -> str:
    """Write a share without the zero before its point."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith("0.") else text


def _row(figures: SharpnessFigures) -> list[str]:
    largest, entropy = figures.max_prob, figures.entropy_share
    return [
        f"T={figures.kd_temperature:g}",
        _number(largest.mean),
        *(_number(largest.quantiles[percent]) for percent in ("5", "50", "95")),
        _number(figures.second_prob.mean),
        "" if figures.mean_true_prob is None else _number(figures.mean_true_prob),
        _number(figures.entropy.mean),
        _number(entropy.mean),
        *(_number(entropy.quantiles[percent]) for percent in ("5", "50", "95")),
    ]


def temperature_table(part: PartSharpness) -> str:
    """Return one line for each temperature."""
    header = ["largest", "5 %", "50 %", "95 %", "second", "true class", "nats", "entropy", "5 %", "50 %", "95 %"]
    return text_table([f"{part.split}, n={part.n}", *header], [_row(figures) for figures in part.figures])


def class_table(part: PartSharpness) -> str:
    """Return mean largest probability and mean entropy of each class at each temperature."""
    temperatures = [f"T={figures.kd_temperature:g}" for figures in part.figures]
    rows = [
        [
            name,
            str(of_class[0].n),
            *(f"{_number(figures.max_prob.mean)} {_number(figures.entropy_share.mean)}" for figures in of_class),
        ]
        for name, of_class in part.classes.items()
    ]
    return text_table([f"{part.split}: largest, entropy", "rows", *temperatures], rows)


def target_line(part: PartSharpness) -> str:
    """Return the temperature for the wanted entropy, or that there is none."""
    target = part.target
    wanted = f"{part.split}: mean entropy {_number(target.target_entropy)} of that of {NUM_CLASSES} equal classes"
    if target.reached:
        return f"{wanted} at KD temperature {target.kd_temperature:.4g}"
    return f"{wanted} CANNOT BE REACHED: it is {_number(target.entropy_share)} even at KD temperature {target.kd_temperature:g}"


def _verdict(part: PartSharpness) -> str:
    """Say how near to one-hot the sharpest targets are."""
    first = part.figures[0]
    near = first.max_prob.mean >= _NEARLY_ONE_HOT
    meaning = "nearly one-hot: they say little more than labels do" if near else "not one-hot"
    return (
        f"at T={first.kd_temperature:g} the mean largest probability is {_number(first.max_prob.mean)}, the mean second one "
        f"{_number(first.second_prob.mean)}: {meaning}"
    )


def sharpness_text(report: SharpnessReport) -> str:
    """Return everything for the console; entropies are shares of log 7."""
    parts = [f"{temperature_table(part)}\n\n{class_table(part)}" for part in report.parts]
    lines = [_COLUMNS, _verdict(report.parts[-1]), _DOCUMENTED, *(target_line(part) for part in report.parts)]
    return "\n\n".join([*parts, "\n".join(lines)])
