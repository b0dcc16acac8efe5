"""Everything that an export of soft labels writes, computed before anything is written."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.rows.run_record import read_run_record
from fer_lightning.pipeline.softlabels.config import ExportSoftlabelsRun
from fer_lightning.pipeline.softlabels.source import FusedSplit, Source, crop_views, ensemble_content, fused_split
from fer_lightning.runs.ensemble import Ensemble
from fer_lightning.runs.fitted_temperatures import fitted_temperature
from fer_lightning.runs.softlabel_layout import row_digest
from fer_lightning.runs.softlabels import HashManifest, SoftLabels, SoftLabelView
from fer_lightning.runs.softlabels_file import kept_logits

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class ExportContent:
    """What is written."""

    source: Source
    ensemble: Ensemble
    content: bytes
    """Of `ensemble.json`."""
    parts: list[FusedSplit]
    softlabels: SoftLabels


def _views(run: ExportSoftlabelsRun) -> list[SoftLabelView]:
    flip = SoftLabelView(name="flip", crop_scale_min=1.0, crop_ratio_max=1.0, flip_probability=1.0)
    crops = [
        SoftLabelView(
            name=f"crop-{view.index}",
            crop_scale_min=view.crop_scale_min,
            crop_ratio_max=view.crop_ratio_max,
            flip_probability=view.flip_probability,
        )
        for view in crop_views(run)
    ]
    single = SoftLabelView(name="single", crop_scale_min=1.0, crop_ratio_max=1.0, flip_probability=0.0)
    return [single, *([flip] if run.softlabels.flip else []), *crops]


def _draws(run: ExportSoftlabelsRun, row_ids: Sequence[str]) -> "Tensor":
    """Return (V, N, 5) random numbers of the views beside the plain one; a mirror image needs none."""
    import numpy as np
    import torch

    from fer_lightning.data.batches.crop_views import NUM_DRAWS, crop_draws

    mirror = [np.zeros((len(row_ids), NUM_DRAWS))] if run.softlabels.flip else []
    return torch.from_numpy(np.stack([*mirror, *(crop_draws(view, row_ids) for view in crop_views(run))]))


def _root(run: ExportSoftlabelsRun, source: Source) -> str | None:
    """Return the folder that image paths are relative to, as the command or the first teacher's run names it."""
    if run.data.manifest is not None:
        return run.data.root
    models = [teacher.model for teacher in source.teachers if teacher.model is not None]
    records = [record for model in models if (record := read_run_record(model.path.parent)) is not None]
    return records[0].data.root if records else None


def _record(
    run: ExportSoftlabelsRun, source: Source, ensemble: Ensemble, parts: list[FusedSplit], row_ids: Sequence[str]
) -> HashManifest:
    """Return what is known before anything is written; digests of files and their arrays are filled in by the writer."""
    stored, views = parts[0].stored, _views(run)
    of_teacher = dict(zip((teacher.name for teacher in source.teachers), stored, strict=True))
    canonicals = [dict(of_teacher[t.name].record.canonical) if t.name in of_teacher else {} for t in ensemble.teachers]
    digests = [one.record.canonical_digest for one in stored if one.record.canonical_digest]
    return HashManifest(
        manifest=stored[0].record.manifest,
        manifest_sha256=stored[0].record.manifest_sha256,
        root=_root(run, source),
        splits=[part.split for part in parts],
        row_set_fingerprints={part.split: part.stored[0].record.row_set_fingerprint for part in parts},
        row_digest=row_digest(row_ids),
        n=len(row_ids),
        softlabels_sha256="",
        index_sha256="",
        class_order=list(EMOTIONS),
        dtype=run.softlabels.dtype.value,
        views=views,
        ensemble=source.given,
        ensemble_sha256=hashlib.sha256(ensemble_content(source, stored)).hexdigest(),
        space=ensemble.space,
        ensemble_temperature=fitted_temperature(ensemble.calibration, ensemble.val_fingerprint),
        teachers=ensemble.teachers,
        teacher_temperatures=source.fitted(stored),
        canonicals=canonicals,
        canonical_digests=list(dict.fromkeys(digests)),
        arrays=[],
    )


def _kept_teachers(
    run: ExportSoftlabelsRun, source: Source, parts: Sequence[FusedSplit], image_paths: Sequence[str]
) -> "Tensor | None":
    """Return (V, M, N, 7) logits of each view and teacher in the type that is kept; None where there is one teacher only."""
    import torch

    if len(source.teachers) < 2:
        return None
    kept = [
        kept_logits(
            torch.cat([part.teacher_logits[number][place] for part in parts]),
            run.softlabels.dtype.value,
            image_paths=image_paths,
            where=f"softlabels, teacher {teacher.name}, {view.name} view",
        )
        for number, view in enumerate(_views(run))
        for place, teacher in enumerate(source.teachers)
    ]
    return torch.stack(kept).view(-1, len(source.teachers), *kept[0].shape)


def export_content(run: ExportSoftlabelsRun, source: Source) -> ExportContent:
    """Compute what is written: rows in manifest order within the splits, these in the order in which they were asked for.

    Args:
        run: the typed run.
        source: whose logits.

    Raises:
        FerError: anything wrong with rows or teachers, or logits that the type cannot hold.
    """
    import torch

    parts = [fused_split(run, source, split) for split in run.softlabels.splits]
    first = [part.stored[0] for part in parts]
    ensemble = source.as_ensemble(first)
    paths = tuple(chain.from_iterable(one.image_paths for one in first))
    row_ids = tuple(chain.from_iterable(one.row_ids for one in first))
    tables = [torch.cat([part.logits[number] for part in parts]) for number in range(len(parts[0].logits))]
    names = [view.name for view in _views(run)]
    kept = [
        kept_logits(table, run.softlabels.dtype.value, image_paths=paths, where=f"softlabels, {name} view")
        for name, table in zip(names, tables, strict=True)
    ]
    softlabels = SoftLabels(
        record=_record(run, source, ensemble, parts, row_ids),
        logits=kept[0],
        labels=torch.cat([one.labels for one in first]),
        row_ids=row_ids,
        sources=tuple(chain.from_iterable(one.sources for one in first)),
        splits=tuple(chain.from_iterable([part.split] * len(part.stored[0].row_ids) for part in parts)),
        image_paths=paths,
        view_logits=torch.stack(kept[1:]) if len(kept) > 1 else None,
        view_draws=_draws(run, row_ids) if len(kept) > 1 else None,
        teacher_logits=_kept_teachers(run, source, parts, paths),
    )
    return ExportContent(source, ensemble, ensemble_content(source, first), parts, softlabels)
