"""The pictures of one pass: models that are shown the same share them, and those shown others share the decoding."""

from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

from fer_lightning.data.batches.crop_views import cropped_store
from fer_lightning.data.batches.shared_decoding import DecodeOnce, RememberingStore
from fer_lightning.data.config import PixelCache
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.pictures.corruptions import corrupted_store
from fer_lightning.data.pictures.pixel_cache import existing_cache
from fer_lightning.data.pictures.store import DecodingStore, PictureStore
from fer_lightning.pipeline.logits.scores import MIRROR, Asked
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows
from fer_lightning.training.views import canonical_of_view


class SharedPictures:
    """The kinds of pictures that the requests of a pass need, in the order in which they came up.

    Args:
        rows: of all of them.
    """

    def __init__(self, rows: EvaluationRows) -> None:
        self.stores: list[PictureStore] = []
        self._numbers: dict[Hashable, int] = {}
        self._whole: dict[str, PictureStore] = {}
        self._decoder = DecodeOnce()
        self._data = rows.selection.data
        self._manifest, self._rows = rows.selection.manifest, rows.selection.rows[rows.split]

    def kind_of(self, asked: Asked, canonical: CanonicalSpec) -> tuple[int, CanonicalSpec, str]:
        """Return the number of the pictures to score, their spec, and what the record calls their corruption."""
        whole = asked.crop is not None or asked.view == MIRROR
        spec = canonical if whole else canonical_of_view(canonical, asked.view)
        corruption = asked.corruptions[0]
        if asked.flip_clahe:
            spec, corruption = replace(spec, clahe=not spec.clahe), f"clahe-{'off' if spec.clahe else 'on'}"
        key = (spec.digest(), asked.corruption, asked.severity, asked.crop)
        if key not in self._numbers:
            self._numbers[key] = len(self.stores)
            self.stores.append(self._store(asked, spec))
        return self._numbers[key], spec, corruption

    def _store(self, asked: Asked, spec: CanonicalSpec) -> PictureStore:
        if asked.corruption is not None:
            return corrupted_store(self._manifest, spec, asked.corruption.value, asked.severity)
        digest = spec.digest()
        if digest not in self._whole:
            self._whole[digest] = RememberingStore(self._cached(spec) or self._decoded(spec), self._rows)
        whole = self._whole[digest]
        return whole if asked.crop is None else cropped_store(whole, self._manifest, asked.crop)

    def _decoded(self, spec: CanonicalSpec) -> PictureStore:
        return DecodingStore(self._manifest, spec, decoder=self._decoder)

    def _cached(self, spec: CanonicalSpec) -> PictureStore | None:
        """Return the pixel cache that a training has left, if it holds all of the rows."""
        data = self._data
        if data.cache is PixelCache.off:
            return None
        count = data.cache_verify_rows
        return existing_cache(self._manifest, self._rows, spec, cache_dir=Path(data.cache_dir), verify_rows=count)
