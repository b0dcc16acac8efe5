"""Soft labels on disk: an ensemble's logits for rows of a manifest, and every proof of what they are of."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict

from fer_lightning.runs.artifacts import STRICT
from fer_lightning.runs.ensemble import EnsembleTeacher

if TYPE_CHECKING:
    from torch import Tensor

SOFTLABELS_FILE, INDEX_FILE, CLASS_ORDER_FILE = "softlabels.npz", "softlabels_index.jsonl", "classorder.json"
HASH_FILE, ALIGNMENT_FILE = "hash_manifest.json", "alignmentreport.json"


@dataclass(frozen=True, kw_only=True)
class ClassOrder:
    """`classorder.json`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    emotions: list[str]


@dataclass(frozen=True, kw_only=True)
class SoftLabelView:
    """One way in which the pictures were seen."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    """`single`, `flip`, or `crop-0`, `crop-1`, ..."""
    crop_scale_min: float
    """Of the light augmentation whose draws are kept; 1 where nothing is cropped."""
    crop_ratio_max: float
    flip_probability: float
    """0: never mirrored, 1: always; crops are mirrored by their draw."""


@dataclass(frozen=True, kw_only=True)
class HashManifest:
    """`hash_manifest.json`: digests of everything that soft labels depend on, checked wherever they are loaded."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    other_version: ClassVar[str] = (
        "it was written by another version of this program, whose soft labels hold other arrays. Remove the folder and export again: "
        "task=export_softlabels"
    )
    schema_version: int = 2
    manifest: str
    manifest_sha256: str
    root: str | None
    """`data.root`."""
    splits: list[str]
    row_set_fingerprints: dict[str, str]
    """Split -> fingerprint of row ids and labels."""
    row_digest: str
    """SHA-256 of the row ids in the order of the file."""
    n: int
    softlabels_sha256: str
    index_sha256: str
    class_order: list[str]
    dtype: str
    """`float16` or `float32`."""
    views: list[SoftLabelView]
    """The first one is `single`, whose logits are `logits`; those of the others are `view_logits`, in this order."""
    ensemble: str
    """Folder or file that was exported, as named."""
    ensemble_sha256: str
    """Of the `ensemble.json` beside it: the ensemble's own, byte for byte, or one that says the same of a single teacher."""
    space: str
    ensemble_temperature: float | None
    """Calibration temperature of the fused logits, fitted on the ensemble's val rows; None where its calibration is none or not one
    temperature, or was no better than its bound."""
    teachers: list[EnsembleTeacher]
    teacher_temperatures: list[float | None]
    """Of each teacher, in their order: calibration temperature of its raw logits, fitted on the same rows; None where unknown."""
    canonicals: list[dict[str, int | float | bool]]
    """Preparation of the pictures of each teacher, in their order; empty for a foreign one, whose pictures are unknown."""
    canonical_digests: list[str]
    """Of the pictures of each teacher; one digest where all expect the same."""
    arrays: list[str]


@dataclass(frozen=True, kw_only=True)
class SoftLabelAlignment:
    """`alignmentreport.json` of soft labels: the settings of the export, and the checks that were made after it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 2
    name: str
    rows_requested: dict[str, int]
    """Split -> rows of the manifest."""
    rows_exported: dict[str, int]
    rows_left_out: dict[str, int]
    """Faulty rows that `data.max_bad_rows` left out."""
    rows_seen_in_training: dict[str, int | None]
    """Split -> rows that one of the teachers was trained on; None: could not be checked for one of them."""
    source_filter: str
    sources: dict[str, int]
    verified_rows: int
    """Inferred again from the pictures and compared."""
    max_abs_difference: float
    """Largest difference of a logit among them, rounding to `dtype` included; 0 where none was verified. Of the fused logits, or of
    the teacher that comes closer to its tolerance."""
    tolerance: float
    digests: dict[str, str]
    """File -> SHA-256 of its bytes: `hash_manifest.json`, and those that it does not vouch for. The report is written last."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftLabels:
    """Soft labels in memory, in the order of their file."""

    record: HashManifest
    logits: "Tensor"
    """(N, 7) float32 or float16."""
    labels: "Tensor"
    """(N,) int64."""
    row_ids: tuple[str, ...]
    sources: tuple[str, ...]
    splits: tuple[str, ...]
    image_paths: tuple[str, ...]
    view_logits: "Tensor | None"
    """(V, N, 7) of the views beside the first; None without."""
    view_draws: "Tensor | None"
    """(V, N, 5) float64 random numbers in [0, 1) of crop and mirror, as the light augmentation takes them."""
    teacher_logits: "Tensor | None"
    """(1 + V, M, N, 7) of each teacher that has a share, not divided by its temperature: the plain view, then those of
    `view_logits`; None where there is only one."""
