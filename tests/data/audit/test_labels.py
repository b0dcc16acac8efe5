"""Predictions joined with labels by row id."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fer_lightning.data.audit.findings import Finding
from fer_lightning.data.audit.labels import LabelCheck, label_findings
from fer_lightning.data.audit.predictions import read_predictions
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.data.rows.row_id import row_id
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS
from tests.data.conftest import Workshop, cycle_rows

HEADER = ["row_id", "image_path", "label", *(f"prob_{name}" for name in EMOTIONS)]


def sure_of(emotion: str, confidence: float = 0.94) -> list[float]:
    return [confidence if name == emotion else (1 - confidence) / 6 for name in EMOTIONS]


def write_predictions(path: str, lines: Sequence[tuple[str, str, Sequence[float]]]) -> Path:
    """Write predictions of image path, label and probabilities."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for name, label, probs in lines:
            writer.writerow([row_id(name, None), name, label, *(f"{prob:.6f}" for prob in probs)])
    return Path(path)


def compare(manifest: Manifest, path: Path, *, rows: Sequence[int] | None = None) -> tuple[list[Finding], LabelCheck]:
    chosen = np.arange(len(manifest)) if rows is None else np.asarray(rows)
    return label_findings(manifest, chosen, read_predictions(path), known_ids=frozenset(manifest.row_ids))


def right_answers(manifest: Manifest) -> list[tuple[str, str, Sequence[float]]]:
    labels = [EMOTIONS[label] for label in manifest.labels]
    return [(path, label, sure_of(label)) for path, label in zip(manifest.image_paths, labels, strict=True)]


def test_a_model_that_agrees_suspects_nothing(workshop: Workshop) -> None:
    manifest = workshop.read(cycle_rows(21))
    findings, check = compare(manifest, write_predictions("p.csv", right_answers(manifest)))
    assert findings == []
    assert (check.rows_compared, check.rows_without_prediction) == (21, 0)
    assert check.confident_joint == (3 * np.eye(7, dtype=int)).tolist()
    assert list(check.thresholds.values()) == pytest.approx([0.94] * 7)


def test_contradicted_labels_are_listed_worst_first(workshop: Workshop) -> None:
    manifest = workshop.read(cycle_rows(70))
    answers = right_answers(manifest)
    answers[3] = (answers[3][0], "Happy", sure_of("Fear", 0.95))  # line 5
    answers[11] = (answers[11][0], "Sad", sure_of("Neutral", 0.99))  # line 13
    findings, check = compare(manifest, write_predictions("p.csv", answers[::-1]))
    assert [(one.kind, one.severity.value, one.line, one.detail) for one in findings] == [
        ("suspected_label", "warning", 13, "labelled Sad (0.00), looks like Neutral (0.99)"),
        ("suspected_label", "warning", 5, "labelled Happy (0.01), looks like Fear (0.95)"),
    ]
    assert check.confident_joint[EMOTIONS.index("Sad")][EMOTIONS.index("Neutral")] == 1


def test_predictions_that_do_not_belong_to_the_rows_are_errors(workshop: Workshop) -> None:
    manifest = workshop.read(cycle_rows(14))
    answers = right_answers(manifest)
    answers[2] = (answers[2][0], "Happy", sure_of("Happy"))
    answers.append(("elsewhere.png", "Sad", sure_of("Sad")))
    del answers[5]
    findings, check = compare(manifest, write_predictions("p.csv", answers))
    assert [(one.kind, one.severity.value, one.line, one.image_path) for one in findings] == [
        ("prediction_of_another_label", "error", 4, "pictures/train002.png"),
        ("prediction_without_row", "error", 0, "elsewhere.png"),
    ]
    assert findings[0].detail == "predicted as Happy, now labelled Fear"
    assert (check.rows_compared, check.rows_without_prediction) == (12, 1)


def test_predictions_of_rows_that_are_not_audited_are_passed_over(workshop: Workshop) -> None:
    manifest = workshop.read(cycle_rows(14))
    findings, check = compare(manifest, write_predictions("p.csv", right_answers(manifest)), rows=range(7))
    assert (findings, check.rows_compared, check.rows_without_prediction) == ([], 7, 0)
    findings, check = compare(manifest, write_predictions("p.csv", right_answers(manifest)[:7]), rows=range(7, 14))
    assert (findings, check.rows_compared, check.rows_without_prediction) == ([], 0, 7)
    assert set(check.thresholds.values()) == {None}


@pytest.mark.usefixtures("workshop")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("row_id,image_path,label\n", "lacks the column prob_Angry; it takes predictions.csv of task=evaluate"),
        ("", "lacks the column row_id"),
        (f"{','.join(HEADER)}\n", "holds no predictions"),
        (f"{','.join(HEADER)}\nx,a,Sad,1,0,0,0,0,0\n", "line 2 holds no seven probabilities that sum to 1"),
        (f"{','.join(HEADER)}\nx,a,Sad,1,0,0,0,0,0,nan\n", "line 2 holds no seven"),
        (f"{','.join(HEADER)}\nx,a,Sad,2,-1,0,0,0,0,0\n", "line 2 holds no seven"),
        (f"{','.join(HEADER)}\nx,a,Sad,3.1,0,0,2,0,0,0\n", "line 2 holds no seven"),
        (f"{','.join(HEADER)}\nx,a,Sad,one,0,0,0,0,0,0\n", "line 2 holds no seven"),
        (f"{','.join(HEADER)}\nx,a,Sad,1,0,0,0,0,0,0\nx,a,Sad,1,0,0,0,0,0,0\n", "line 3 predicts the row of line 2"),
        (f'{",".join(HEADER)}\n"x,a,Sad', "is not a UTF-8 CSV file"),
    ],
)
def test_files_that_hold_no_predictions(content: str, message: str) -> None:
    Path("p.csv").write_text(content)
    with pytest.raises(FerError, match=f"audit.predictions: p.csv .*{message}"):
        read_predictions(Path("p.csv"))
    with pytest.raises(FerError, match=r"audit.predictions: cannot read none.csv: No such file"):
        read_predictions(Path("none.csv"))
