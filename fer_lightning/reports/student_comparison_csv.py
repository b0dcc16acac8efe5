"""A comparison of students as CSV."""

import csv
import io

from fer_lightning.runs.student_comparison import JudgedSplit, StudentComparison


def _csv_lines(judged: JudgedSplit) -> list[list[object]]:
    lines: list[list[object]] = []
    for name, arm in judged.arms.items():
        for kind, figures in (("raw", arm.raw), ("scaled", arm.scaled)):
            if figures is None:
                continue
            for figure, own in figures.figures.items():
                values = " ".join(map(str, own.values))
                cells: list[object] = [name, kind, figure, own.mean, own.low, own.high, values]
                if figures.differences is not None:
                    change = figures.differences[figure]
                    cells += [change.difference, change.low, change.high, change.p_value]
                    cells += [" ".join(map(str, change.values)), change.deviation]
                    cells += [change.low_of_seeds, change.high_of_seeds]
                    cells += [change.low_of_rows_and_seeds, change.high_of_rows_and_seeds]
                lines.append(cells)
        lines.append([name, "raw", "retention", arm.retention])
    if judged.ensemble is not None:
        for kind, of_kind in (("raw", judged.ensemble.raw), ("scaled", judged.ensemble.scaled)):
            lines += [["ensemble", kind, figure, value] for figure, value in (of_kind or {}).items()]
    return lines


def csv_text(comparison: StudentComparison) -> str:
    """Return one line for each split, arm and figure, raw and calibrated; empty where something is not known."""
    header = ["split", "row_set_fingerprint", "n", "arm", "kind", "figure", "mean", "low", "high", "values"]
    header += [
        "difference",
        "difference_low",
        "difference_high",
        "p_value",
        "difference_values",
        "difference_deviation",
    ]
    header += ["difference_low_of_seeds", "difference_high_of_seeds"]
    header += ["difference_low_of_rows_and_seeds", "difference_high_of_rows_and_seeds"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for judged in comparison.splits:
        for cells in _csv_lines(judged):
            line = [judged.split, judged.row_set_fingerprint, judged.n, *cells]
            writer.writerow([*line, *[None] * (len(header) - len(line))])
    return file.getvalue()
