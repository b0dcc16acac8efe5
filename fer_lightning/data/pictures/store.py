"""Where canonical pictures come from: decoded from their files each time, or from anything that gives the same pixels."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.pictures.canonical import CanonicalSpec, Picture, compact_canonical_picture, decode_compact
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError

Alteration = Callable[[Picture, str], Picture]
"""(compact picture before CLAHE, row id) -> another one; see `corruptions`."""
Decoder = Callable[[Path], Picture]
"""File -> compact picture; raises as `decode_compact`."""


class Pictures(Protocol):
    """Compact canonical pictures of some rows; travels to loader processes."""

    def __call__(self, position: int) -> Picture:
        """Return the picture at a position of the rows: (S, S) where it is grey, else (S, S, 3); not to be written to."""
        ...


class PictureStore(Protocol):
    """Where the pictures of a run come from."""

    spec: CanonicalSpec

    def pictures(self, rows: NDArray[np.int64]) -> Pictures:
        """Return the pictures of some rows."""
        ...


class DecodedPictures:
    """Pictures decoded, cropped and equalised whenever they are asked for."""

    def __init__(
        self,
        manifest: Manifest,
        rows: NDArray[np.int64],
        spec: CanonicalSpec,
        *,
        alteration: Alteration | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        self._root = manifest.root
        self._paths = [manifest.image_paths[row] for row in rows]
        self._bboxes = manifest.bboxes[rows]
        self._lines = manifest.lines[rows]
        self._spec = spec
        self._alteration = alteration
        self._decoder = decoder
        self._row_ids = [manifest.row_ids[row] for row in rows] if alteration is not None else []
        self._last: tuple[str, Picture] | None = None  # faces of one photo stand together: it is decoded once

    def __call__(self, position: int) -> Picture:
        """Decode a picture.

        Raises:
            FerError: a file that cannot be decoded or does not hold its box; names the manifest line.
        """
        bbox, path = self._bboxes[position], self._paths[position]
        try:
            last = self._last  # read once: other threads ask for other pictures
            if last is None or last[0] != path:
                last = self._last = (path, (self._decoder or decode_compact)(self._root / path))
            box = None if bbox[0] < 0 else bbox.tolist()
            return compact_canonical_picture(last[1], box, self._spec, alter=self._alter(position))
        except FerError as error:
            raise FerError(f"manifest line {self._lines[position]}, {path}: {error}") from None

    def _alter(self, position: int) -> Callable[[Picture], Picture] | None:
        """Return what happens to a picture before CLAHE."""
        alteration = self._alteration
        if alteration is None:
            return None
        row_id = self._row_ids[position]
        return lambda picture: alteration(picture, row_id)


class DecodingStore:
    """The store that keeps nothing.

    Args:
        manifest: the rows.
        spec: of their pictures.
        alteration: what happens to each picture before CLAHE; None: nothing.
        decoder: what reads the files; None: `decode_compact`.
    """

    def __init__(
        self,
        manifest: Manifest,
        spec: CanonicalSpec,
        *,
        alteration: Alteration | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        self._manifest = manifest
        self._alteration = alteration
        self._decoder = decoder
        self.spec = spec

    def pictures(self, rows: NDArray[np.int64]) -> Pictures:
        """Return the pictures of some rows."""
        return DecodedPictures(self._manifest, rows, self.spec, alteration=self._alteration, decoder=self._decoder)
