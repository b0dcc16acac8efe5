"""How large the faces of rows are in their files."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fer_lightning.data.pictures.image_facts import image_facts
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows


def face_sides(rows: EvaluationRows, *, num_workers: int) -> Tensor:
    """Return (N,) int64 the shorter side of each row's box, or of its picture: what is known of pictures is kept already."""
    selection, numbers = rows.selection, rows.selection.rows[rows.split]
    boxes = selection.manifest.bboxes[numbers]
    sides = np.minimum(boxes[:, 3] - boxes[:, 0], boxes[:, 2] - boxes[:, 1])  # top, left, right, bottom
    whole = np.flatnonzero(~selection.manifest.has_bbox[numbers])
    store = Path(selection.data.cache_dir) / "facts"
    facts = image_facts(selection.manifest, numbers[whole], store=store, num_workers=num_workers)
    sides[whole] = np.minimum(facts.heights, facts.widths)
    return torch.from_numpy(sides)
