"""Predictions as CSV: one line per row, joined by row id."""

import csv
from pathlib import Path

from torch import Tensor

from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.files import write_atomically
from fer_lightning.labels import EMOTIONS

HEADER = (
    "row_id",
    "image_path",
    "source",
    "label",
    "prediction",
    "correct",
    "confidence",
    *(f"logit_{name}" for name in EMOTIONS),
    *(f"prob_{name}" for name in EMOTIONS),
)


def write_predictions(path: Path, manifest: Manifest, rows: Tensor, logits: Tensor, *, temperature: float) -> None:
    """Write one line per row.

    Args:
        path: the CSV.
        manifest: where the rows are from.
        rows: (N,) row numbers.
        logits: (N, 7) raw logits, written with 9 digits so that float32 is kept.
        temperature: the probabilities and the confidence are softmax(logits / temperature).
    """
    probs = (logits.double() / temperature).softmax(1)
    confidences, predictions = probs.max(1)

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            for index, row in enumerate(rows.tolist()):
                label, predicted = int(manifest.labels[row]), int(predictions[index])
                writer.writerow(
                    [
                        manifest.row_ids[row],
                        manifest.image_paths[row],
                        manifest.sources[row],
                        EMOTIONS[label],
                        EMOTIONS[predicted],
                        int(predicted == label),
                        f"{float(confidences[index]):.6f}",
                        *(f"{value:.9g}" for value in logits[index].tolist()),
                        *(f"{value:.6f}" for value in probs[index].tolist()),
                    ]
                )

    write_atomically(path, write)
