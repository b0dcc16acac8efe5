"""Teacher logits of a split's rows, and which of the views that they are of a sample is shown through."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.batches.crop_views import NUM_DRAWS, PictureView, view_picture
from fer_lightning.data.config import AugmentationConfig, AugmentationKind
from fer_lightning.data.pictures.canonical import Picture
from fer_lightning.errors import FerError
from fer_lightning.labels import NUM_CLASSES

NO_VIEW = -1
"""In place of a view's number: the sample's picture is the augmentation's own business."""


def _check_shapes(logits: NDArray[np.float32], num_views: int, draws: NDArray[np.float64] | None) -> None:
    if logits.dtype != np.float32 or logits.ndim != 4 or logits.shape[3] != NUM_CLASSES or not logits.shape[2]:
        raise FerError(
            f"teacher logits must be float32 of (views, rows, teachers, {NUM_CLASSES}), got {logits.dtype} of {logits.shape}"
        )
    if len(logits) != max(num_views, 1):
        raise FerError(f"teacher logits are of {len(logits)} views, and {num_views} are described")
    expected = (num_views, logits.shape[1], NUM_DRAWS) if num_views else None
    given = None if draws is None else draws.shape
    if given != expected:
        raise FerError(
            f"teacher logits of {num_views} described views need the draws of each, shape {expected}, got {given}; export "
            "the soft labels again with their views, or set distillation.views=false"
        )


def _taught_rows(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which rows have logits: all finite, or all NaN where a row has none.

    Raises:
        FerError: a row with infinite logits, or with only some of its logits.
    """
    taught: NDArray[np.bool_] = ~np.isnan(logits[0]).all(axis=(1, 2))
    broken = np.zeros(len(taught), dtype=np.bool_)
    for view in logits:  # one at a time: what is looked at is small beside the logits
        broken |= np.where(taught, ~np.isfinite(view).all(axis=(1, 2)), ~np.isnan(view).all(axis=(1, 2)))
    _refuse(broken, "some of their teacher logits infinite or missing")
    return taught


def _check_draws(draws: NDArray[np.float64], taught: NDArray[np.bool_]) -> None:
    inside = ((draws >= 0) & (draws < 1)).all(axis=(0, 2))
    _refuse(taught & ~inside, "draws of their views outside [0, 1)")


def _refuse(bad: NDArray[np.bool_], what: str) -> None:
    places = np.flatnonzero(bad)
    if len(places):
        raise FerError(
            f"{len(places)} of {len(bad)} rows have {what}, the first at position {places[0]} of its split; "
            "export the soft labels again"
        )


class RowLogits:
    """Teacher logits by position of a split's rows, looked up by several threads at once; nothing is copied.

    Without views the logits are those of the whole picture, whichever way the augmentation shows it. With views a
    sample is shown through one of them, drawn anew each time, and gets the logits of just that view.

    Args:
        logits: (V, n, M, 7) float32 of V views, n rows and M teachers; NaN throughout a row that has none. May be
            memory-mapped.
        views: how draws become a crop and a mirror in each of the V views; empty: none is shown, and V is 1.
        draws: (V, n, 5) float64 in [0, 1), random numbers of each row's crop in each view; those of rows without
            logits are not looked at.

    Raises:
        FerError: shapes that do not fit together, missing draws, a row with infinite logits or with only some of them.
    """

    def __init__(
        self,
        logits: NDArray[np.float32],
        *,
        views: Sequence[PictureView] = (),
        draws: NDArray[np.float64] | None = None,
    ) -> None:
        _check_shapes(logits, len(views), draws)
        self._logits = logits
        self._taught = _taught_rows(logits)
        self._views = tuple(views)
        self._draws = np.empty((0, 0, NUM_DRAWS)) if draws is None else draws
        if draws is not None:
            _check_draws(draws, self._taught)

    def __len__(self) -> int:
        return len(self._taught)

    def check_fits(self, num_rows: int, augmentation: AugmentationConfig) -> None:
        """Refuse another number of rows, and an augmentation whose geometry the views cannot replace.

        Args:
            num_rows: of the split.
            augmentation: of its pictures.

        Raises:
            FerError: one of these.
        """
        if len(self) != num_rows:
            raise FerError(f"teacher logits are of {len(self)} rows, and the train split has {num_rows}")
        if self._views and augmentation.kind not in {AugmentationKind.none, AugmentationKind.light}:
            raise FerError(
                "distillation.views=true shows the crops that the teachers saw: it needs augmentation=light or none, not "
                f"augmentation={augmentation.kind.value}, whose changes they did not see; or set distillation.views=false"
            )

    def drawn_views(self, positions: NDArray[np.int64], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the number of the view that each shown sample is seen through: (N,) int64.

        `NO_VIEW` where there are no views, and for rows without logits: no teacher saw them in any way.

        Args:
            positions: (N,) positions in the split.
            uniforms: (N,) numbers in [0, 1), one per shown sample; each view has an equal share of them.
        """
        drawn = (uniforms * len(self._views)).astype(np.int64)
        return np.where(self._taught[positions] & (len(self._views) > 0), drawn, NO_VIEW)

    def picture(self, picture: Picture, position: int, view: int) -> Picture:
        """Return a row's compact picture as a view shows it.

        Args:
            picture: the whole one, of whatever size; not written to.
            position: of the row in the split.
            view: number of the view, not `NO_VIEW`.
        """
        return view_picture(picture, self._draws[view, position], self._views[view])

    def logits(self, positions: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the logits of some shown samples: (N, M, 7) float32, NaN for rows without.

        Args:
            positions: (N,) positions in the split.
            views: (N,) numbers of the views that they are seen through, as drawn.
        """
        chosen: NDArray[np.float32] = self._logits[np.maximum(views, 0), positions]
        return chosen
