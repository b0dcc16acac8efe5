"""Infers rows of soft labels again from their pictures, in every view that is kept, and compares."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.data.batches.crop_views import NUM_DRAWS, view_picture
from fer_lightning.data.pictures.canonical import expand
from fer_lightning.data.pictures.store import DecodedPictures
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError
from fer_lightning.pipeline.logits.opened_models import open_model
from fer_lightning.runs.ensemble import EnsembleTeacher
from fer_lightning.runs.ensemble_teachers import FoundTeacher, find_teacher, with_a_share
from fer_lightning.runs.softlabels import SoftLabels
from fer_lightning.runs.stored_logits import read_stored_logits
from fer_lightning.training.fusion import fused_logits, fusion_of

_ROUNDING = {"float16": 2.0**-11, "float32": 2.0**-24}
"""Relative, of one number."""
_INFERENCE = 1e-3  # relative: other batches, other kernels, a device that multiplies with fewer digits
_BATCH_ROWS = 64
_SHOWN = 5


@dataclass(frozen=True)
class Verification:
    """How closely rows that were inferred again agree with those on disk."""

    num_rows: int
    max_abs_difference: float
    """Of the fused logits, or of the teacher that comes closer to its tolerance."""
    tolerance: float
    """Of the same."""
    deviating: tuple[str, ...]
    """Rows beyond a tolerance, the worst first: each with the view, where it is one the teacher, and the difference."""
    not_inferred: tuple[str, ...]
    """Teachers of which there is no model, only stored logits, which were read again."""

    @property
    def what(self) -> str:
        """What was done, as far as it was: logits that are only stored prove nothing of the pictures."""
        but = f" (but for {', '.join(self.not_inferred)}: stored logits read again)" if self.not_inferred else ""
        return f"{self.num_rows} random rows inferred again{but}"


def drawn_rows(num_rows: int, count: int, *, seed: int) -> NDArray[np.int64]:
    """Return places of random rows, each once, in order.

    Args:
        num_rows: to draw from.
        count: to draw; all where there are fewer.
        seed: of the draw.
    """
    return np.sort(np.random.default_rng(seed).choice(num_rows, min(count, num_rows), replace=False))


def _inferred(
    file: Path,
    softlabels: SoftLabels,
    manifest: Manifest,
    places: NDArray[np.int64],
    *,
    accelerator: str,
    option: str,
) -> Tensor:
    """Return (V, k, 7) logits of one model, its pictures seen through the recorded draws of each view."""
    model = open_model(file, accelerator, option=option)
    number_of = {row_id: row for row, row_id in enumerate(manifest.row_ids)}
    rows = np.array([number_of[softlabels.row_ids[place]] for place in places.tolist()])
    pictures = DecodedPictures(manifest, rows, model.canonical)
    views = softlabels.record.views
    logits = torch.empty(len(views), len(rows), 7, dtype=torch.float64)
    for start in range(0, len(rows), _BATCH_ROWS):
        batch = range(start, min(start + _BATCH_ROWS, len(rows)))
        whole = [pictures(position) for position in batch]
        for number, view in enumerate(views):
            draws = np.zeros((len(batch), NUM_DRAWS))
            if number and softlabels.view_draws is not None:
                draws = softlabels.view_draws[number - 1].numpy()[places[batch.start : batch.stop]]
            shown = [expand(view_picture(picture, draw, view)) for picture, draw in zip(whole, draws, strict=True)]
            with torch.inference_mode():
                logits[number, batch.start : batch.stop] = model.logits_of(
                    torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2)
                )
    return logits


def _kept(folders: Sequence[Path], softlabels: SoftLabels, places: NDArray[np.int64], *, option: str) -> Tensor:
    """Return (1, k, 7) stored logits of a teacher that cannot be inferred again."""
    logits: dict[str, Tensor] = {}
    for folder in folders:
        stored = read_stored_logits(folder, option=option)
        if stored.record.view == "single":
            logits |= dict(zip(stored.row_ids, stored.logits, strict=True))
    missing = [place for place in places.tolist() if softlabels.row_ids[place] not in logits]
    if missing or len(softlabels.record.views) > 1:
        what = f"the row {softlabels.image_paths[missing[0]]}" if missing else "views beside the plain one"
        raise FerError(f"{option}: nothing can be inferred again: {folders[0]} holds no logits of {what}")
    return torch.stack([logits[softlabels.row_ids[place]].double() for place in places.tolist()])[None]


def _teacher_logits(
    teacher: EnsembleTeacher,
    found: FoundTeacher,
    softlabels: SoftLabels,
    manifest: Manifest,
    places: NDArray[np.int64],
    *,
    accelerator: str,
    option: str,
) -> Tensor:
    if found.sha256 != teacher.checkpoint_sha256:
        where = "nothing" if found.sha256 is None else f"another model ({found.sha256[:12]})"
        raise FerError(f"{option}: teacher {teacher.name} cannot be inferred again: {where} lies at {teacher.given}")
    if found.model is None:
        return _kept(found.kept, softlabels, places, option=option)
    return _inferred(found.model, softlabels, manifest, places, accelerator=accelerator, option=option)


def _written(softlabels: SoftLabels, places: NDArray[np.int64]) -> Tensor:
    """Return (W, V, k, 7) logits as they are on disk: the fused ones, then those of each teacher where they are kept."""
    rows = torch.from_numpy(places)
    others = [] if softlabels.view_logits is None else [softlabels.view_logits]
    fused = torch.cat([softlabels.logits[None], *others])[:, rows].double()
    if softlabels.teacher_logits is None:
        return fused[None]
    return torch.cat([fused[None], softlabels.teacher_logits[:, :, rows].double().transpose(0, 1)])


def _deviations(
    softlabels: SoftLabels, places: NDArray[np.int64], differences: Tensor, tolerances: Tensor
) -> Iterator[str]:
    """Yield the rows beyond a tolerance where they are furthest beyond it, the worst first.

    Args:
        softlabels: as read from disk.
        places: (k,) of the rows.
        differences: (W, V, k) of `_written`.
        tolerances: (W,).
    """
    views = [view.name for view in softlabels.record.views]
    who = ["", *(f", teacher {teacher.name}" for teacher in with_a_share(softlabels.record.teachers))]
    shares = (differences / tolerances.view(-1, 1, 1)).flatten(0, 1)
    worst, table = shares.max(dim=0)
    for at in worst.argsort(descending=True, stable=True).tolist():
        if not worst[at] <= 1:
            one, view = divmod(int(table[at]), len(views))
            row = f"{softlabels.image_paths[places[at]]} (row {places[at]}, {views[view]}{who[one]})"
            yield f"{row}: a logit is {float(differences[one, view, at]):.4g} off (tolerance {float(tolerances[one]):.4g})"


def verify_rows(
    softlabels: SoftLabels,
    manifest: Manifest,
    places: NDArray[np.int64],
    *,
    accelerator: str,
    option: str,
) -> Verification:
    """Infer rows again, from manifest, picture files and teachers as they are now, and compare with what was read from disk.

    Both the fused logits and those of each teacher are compared, where these are kept. The tolerance is relative to the
    largest logit among the rows: the rounding of the kept type (2^-11 in float16), and a thousandth for batches of another
    size and other kernels. A foreign teacher's logits are read from its file again.

    Args:
        softlabels: as read from disk.
        manifest: that holds every one of the rows.
        places: (k,) places of the rows in the soft labels.
        accelerator: device of checkpoints.
        option: the option that named the soft labels, for messages.

    Raises:
        FerError: a teacher is gone or another one, or a picture cannot be read.
    """
    teachers = with_a_share(softlabels.record.teachers)
    found_teachers = [find_teacher(teacher) for teacher in teachers]
    logits = [
        _teacher_logits(teacher, found, softlabels, manifest, places, accelerator=accelerator, option=option)
        for teacher, found in zip(teachers, found_teachers, strict=True)
    ]
    fusion, stacked = fusion_of(teachers, softlabels.record.space), torch.stack(logits)
    fused = torch.stack([fused_logits(stacked[:, view], fusion) for view in range(stacked.shape[1])])
    written = _written(softlabels, places)
    expected = torch.cat([fused[None], stacked])[: len(written)]
    differences = (written - expected).abs().amax(dim=3)
    tolerances = expected.abs().amax(dim=(1, 2, 3)).clamp(min=1) * (_ROUNDING[softlabels.record.dtype] + _INFERENCE)
    closest = int((differences.amax(dim=(1, 2)) / tolerances).argmax())
    return Verification(
        num_rows=len(places),
        max_abs_difference=float(differences[closest].max()),
        tolerance=float(tolerances[closest]),
        deviating=tuple(_deviations(softlabels, places, differences, tolerances)),
        not_inferred=tuple(
            teacher.name for teacher, found in zip(teachers, found_teachers, strict=True) if found.model is None
        ),
    )


def deviation_text(verification: Verification) -> str:
    """Return the first of the rows beyond a tolerance."""
    rows = verification.deviating
    more = f", and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return f"{'; '.join(rows[:_SHOWN])}{more}"
