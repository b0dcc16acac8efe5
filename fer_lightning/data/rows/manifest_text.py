"""The text of a manifest, and of other CSV files: one writer, the same bytes for the same rows."""

import csv
import io
from collections.abc import Iterable, Sequence

import numpy as np

from fer_lightning.data.rows.manifest import BBOX_COLUMNS, OPTIONAL_COLUMNS, REQUIRED_COLUMNS, Manifest
from fer_lightning.labels import EMOTIONS


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    r"""Return a CSV with a header; lines end in `\n`."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def manifest_columns(manifest: Manifest) -> dict[str, Sequence[object]]:
    """Return the columns of a manifest by name, in the order they are written.

    First the required ones, then the known optional ones that some row uses, then further ones by name.
    """
    columns: dict[str, Sequence[object]] = {
        "image_path": manifest.image_paths,
        "label": [EMOTIONS[label] for label in manifest.labels.tolist()],
        "split": manifest.splits.tolist(),
        "source": manifest.sources.tolist(),
    }
    optional: dict[str, Sequence[object]] = {
        name: values for name, values in manifest.extras.items() if name in OPTIONAL_COLUMNS and any(values)
    }
    if np.any(manifest.has_bbox):
        boxes = [["", "", "", ""] if box[0] < 0 else box for box in manifest.bboxes.tolist()]
        optional.update(zip(BBOX_COLUMNS, zip(*boxes, strict=True), strict=True))
    columns.update((name, optional[name]) for name in OPTIONAL_COLUMNS if name in optional)
    known = {*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS}
    columns.update((name, manifest.extras[name]) for name in sorted(set(manifest.extras) - known))
    return columns


def manifest_text(manifest: Manifest) -> str:
    """Return the CSV of a manifest's rows, in their order."""
    columns = manifest_columns(manifest)
    return csv_text(list(columns), zip(*columns.values(), strict=True))
