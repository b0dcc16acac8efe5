"""Soft labels made by hand, with a manifest that fits them: no model, no pictures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.rows.manifest import read_manifest
from fer_lightning.labels import EMOTIONS
from fer_lightning.runs.artifacts import to_json, write_artifact
from fer_lightning.runs.ensemble import ENSEMBLE_METRICS_FILE, Ensemble, EnsembleMetrics, EnsembleTeacher
from fer_lightning.runs.ensemble_teachers import with_a_share
from fer_lightning.runs.softlabel_proofs import report_digests
from fer_lightning.runs.softlabels import ALIGNMENT_FILE, HashManifest, SoftLabelAlignment, SoftLabels, SoftLabelView
from fer_lightning.runs.softlabels_file import kept_logits, write_softlabels
from fer_lightning.training.fusion import fused_logits, fusion_of
from tests.runs.examples import calibration_record, example

CANONICAL = CanonicalSpec(size=64)
SINGLE = SoftLabelView(name="single", crop_scale_min=1.0, crop_ratio_max=1.0, flip_probability=0.0)
FLIP = SoftLabelView(name="flip", crop_scale_min=1.0, crop_ratio_max=1.0, flip_probability=1.0)
CROP = SoftLabelView(name="crop-0", crop_scale_min=0.8, crop_ratio_max=1.1, flip_probability=0.5)

HEADER = "image_path,label,split,source,bbox_top,bbox_left,bbox_right,bbox_bottom"


def manifest_lines(num_rows: int = 28) -> list[str]:
    """Rows of train and val going round the emotions; the last two are two boxes of one photo."""
    lines = []
    for number in range(num_rows - 2):
        split = "val" if number % 4 == 3 else "train"
        source = "ferplus" if number % 2 else "web"
        lines.append(f"images/{number}.png,{EMOTIONS[number % 7]},{split},{source},,,,")
    lines.append("images/photo é.png,Happy,train,web,0,0,20,20")
    lines.append("images/photo é.png,Sad,train,web,0,30,50,20")
    return lines


def write_manifest(path: Path, lines: list[str] | None = None) -> Path:
    """Write a manifest; its pictures do not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, *(manifest_lines() if lines is None else lines)]) + "\n", encoding="utf-8")
    return path


def teacher(**changes: Any) -> EnsembleTeacher:
    """Return the only teacher."""
    made = EnsembleTeacher(
        name="RN18",
        given="experiments/teachers/RN18",
        kind="checkpoint",
        checkpoint="best.pt",
        checkpoint_sha256="5a" * 32,
        canonical_digest=CANONICAL.digest(),
        weight=1.0,
        calibration_temperature=1.0,
        temperature_at_bound=False,
    )
    return replace(made, **changes)


def two_teachers(*, weights: tuple[float, float] = (0.7, 0.3)) -> list[EnsembleTeacher]:
    """Return two teachers, the second one divided by a temperature before they are fused."""
    return [
        teacher(weight=weights[0]),
        teacher(name="B3", given="experiments/teachers/B3", weight=weights[1], calibration_temperature=2.5),
    ]


def ensemble_of(record: HashManifest) -> Ensemble:
    """Return the ensemble that soft labels name."""
    fitted = None if record.ensemble_temperature is None else calibration_record(record.ensemble_temperature)
    made = replace(example(Ensemble), name="one", space=record.space, view="single", calibration=fitted)
    val_rows = calibration_record().fitted_on_fingerprint
    ensemble: Ensemble = replace(made, teachers=record.teachers, class_order=list(EMOTIONS), val_fingerprint=val_rows)
    return ensemble


def make_softlabels(
    manifest: Path,
    *,
    dtype: str = "float16",
    views: tuple[SoftLabelView, ...] = (),
    teachers: Sequence[EnsembleTeacher] = (),
    space: str = "logit",
    **changes: Any,
) -> SoftLabels:
    """Return soft labels of the train, then the val rows of a manifest; `changes` are of the record.

    Several teachers are fused as their record says; a single one has no logits of its own.
    """
    table = read_manifest(manifest)
    rows = [row for split in ("train", "val") for row in np.flatnonzero(table.splits == split).tolist()]
    random = torch.Generator().manual_seed(len(rows))
    paths = tuple(table.image_paths[row] for row in rows)
    own = teachers or [teacher()]
    shares = with_a_share(own)
    raw = torch.randn(1 + len(views), max(1, len(shares)), len(rows), 7, generator=random, dtype=torch.float64) * 20
    tables = [fused_logits(of_view, fusion_of(shares, space)) if len(shares) > 1 else of_view[0] for of_view in raw]
    kept = [kept_logits(logits, dtype, image_paths=paths, where="softlabels") for logits in tables]
    record = replace(
        example(HashManifest),
        manifest=str(manifest),
        manifest_sha256=table.sha256,
        root=None,
        splits=["train", "val"],
        dtype=dtype,
        views=[SINGLE, *views],
        ensemble="experiments/teachers/RN18",
        space=space,
        ensemble_temperature=None,
        teachers=list(own),
        teacher_temperatures=[None] * len(own),
        canonicals=[dict(vars(CANONICAL))] * len(own),
        canonical_digests=[CANONICAL.digest()],
    )
    return SoftLabels(
        record=replace(record, **changes),
        logits=kept[0],
        labels=torch.from_numpy(table.labels[rows]),
        row_ids=tuple(table.row_ids[row] for row in rows),
        sources=tuple(table.sources[rows].tolist()),
        splits=tuple(table.splits[rows].tolist()),
        image_paths=paths,
        view_logits=torch.stack(kept[1:]) if views else None,
        view_draws=torch.rand(len(views), len(rows), 5, generator=random, dtype=torch.float64) if views else None,
        teacher_logits=raw.to(getattr(torch, dtype)) if len(shares) > 1 else None,
    )


def write_reports(folder: Path, softlabels: SoftLabels) -> None:
    """Write the figures and the report of soft labels that were written."""
    record = softlabels.record
    figures = example(EnsembleMetrics)
    judged = [
        replace(figures.evaluated[0], split=split, row_set_fingerprint=record.row_set_fingerprints[split])
        for split in record.splits
    ]
    write_artifact(folder / ENSEMBLE_METRICS_FILE, replace(figures, evaluated=judged))
    counts = {split: softlabels.splits.count(split) for split in record.splits}
    report = replace(
        example(SoftLabelAlignment),
        rows_requested=counts,
        rows_exported=counts,
        rows_left_out=dict.fromkeys(counts, 0),
        sources=dict(Counter(softlabels.sources)),
        verified_rows=1,
        max_abs_difference=0.0,
        tolerance=0.1,
        digests=report_digests(folder),
    )
    write_artifact(folder / ALIGNMENT_FILE, report)


def write_example(folder: Path, manifest: Path, **options: Any) -> SoftLabels:
    """Write a whole folder of soft labels and return them."""
    made = make_softlabels(manifest, **options)
    written = write_softlabels(folder, made, ensemble=(to_json(ensemble_of(made.record)) + "\n").encode())
    write_reports(folder, written)
    return written
