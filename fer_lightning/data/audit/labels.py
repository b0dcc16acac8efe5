"""Findings about labels: rows whose label a model contradicts (confident learning)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fer_lightning.data.audit.findings import Finding, rows_finding
from fer_lightning.data.audit.predictions import Predictions
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.functional.confident_learning import suspected_label_errors
from fer_lightning.labels import EMOTIONS


@dataclass(frozen=True)
class LabelCheck:
    """What predictions said about labels."""

    predictions: str
    rows_compared: int
    rows_without_prediction: int
    thresholds: dict[str, float | None]
    """Emotion -> mean probability over the rows labelled so; None for a class without rows."""
    confident_joint: list[list[int]]
    """Rows: label; columns: the class the model is confident of."""


def label_findings(
    manifest: Manifest, rows: NDArray[np.int64], predictions: Predictions, *, known_ids: frozenset[str]
) -> tuple[list[Finding], LabelCheck]:
    """Compare labels with predictions.

    Args:
        manifest: the manifest.
        rows: row numbers audited.
        predictions: of a model that was not trained on these rows.
        known_ids: ids of all rows of the file, faulty ones and those of sources left out included: a prediction of
            one that is not audited is passed over.
    """
    row_of = {manifest.row_ids[row]: row for row in rows.tolist()}
    findings: list[Finding] = []
    places, found = [], []
    for place, identity in enumerate(predictions.row_ids):
        row = row_of.get(identity)
        if row is None:
            if identity not in known_ids:
                findings.append(_without_row(predictions, place))
        elif predictions.labels[place] != EMOTIONS[manifest.labels[row]]:
            detail = f"predicted as {predictions.labels[place]}, now labelled {EMOTIONS[manifest.labels[row]]}"
            findings.append(rows_finding("prediction_of_another_label", manifest, [row], detail))
        else:
            places.append(place)
            found.append(row)
    # In row order, so that sums do not depend on the order of the predictions.
    order = np.argsort(found, kind="stable")
    compared = np.asarray(found, dtype=np.int64)[order]
    suspects, thresholds, joint = _suspects(manifest, compared, predictions.probs[places][order])
    unpredicted = len(rows) - len({*predictions.row_ids} & {*row_of})
    check = LabelCheck(str(predictions.path), len(compared), unpredicted, thresholds, joint)
    return [*findings, *suspects], check


def _without_row(predictions: Predictions, place: int) -> Finding:
    return Finding(
        kind="prediction_without_row",
        row_id=predictions.row_ids[place],
        image_path=predictions.image_paths[place],
        detail=f"line {predictions.lines[place]} of the predictions; made on another manifest?",
    )


def _suspects(
    manifest: Manifest, rows: NDArray[np.int64], probs: NDArray[np.float64]
) -> tuple[list[Finding], dict[str, float | None], list[list[int]]]:
    if not len(rows):
        return [], dict.fromkeys(EMOTIONS), [[0] * len(EMOTIONS) for _ in EMOTIONS]
    probs = probs / probs.sum(axis=1, keepdims=True)  # written with six decimals
    errors = suspected_label_errors(torch.from_numpy(probs), torch.from_numpy(manifest.labels[rows]))
    margins = errors.margin.numpy()
    suspected = np.flatnonzero(errors.suspected.numpy())
    findings = []
    for place in suspected[np.argsort(margins[suspected], kind="stable")].tolist():
        row, other = int(rows[place]), int(errors.suggested[place])
        label = int(manifest.labels[row])
        detail = f"labelled {EMOTIONS[label]} ({probs[place, label]:.2f}), looks like {EMOTIONS[other]} ({probs[place, other]:.2f})"
        findings.append(rows_finding("suspected_label", manifest, [row], detail))
    thresholds = {
        name: None if value == np.inf else round(value, 6)
        for name, value in zip(EMOTIONS, errors.thresholds.tolist(), strict=True)
    }
    return findings, thresholds, errors.confident_joint.tolist()
