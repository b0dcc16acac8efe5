"""Which rows an epoch draws when groups of rows have given shares of it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.batches.quotas import ExactQuotas

_STREAM = 100  # apart from the streams of plain batches: classes 0..6, all rows 7


class EqualSplit:
    """Shares out the draws of groups equally among their members, one epoch after another.

    Members of a group come in an endless stream of permutations whose seams hold no early repeat: in an epoch, and in
    all epochs so far, their counts differ by one at most. So where a group has the floor or ceiling of its share in
    every epoch and in all so far, so has each member of its own.

    Args:
        groups: (M,) int64 group of each member, 0 or more.
        num_groups: number of groups.
    """

    def __init__(self, groups: NDArray[np.int64], num_groups: int) -> None:
        self._groups = groups
        self._sizes = np.bincount(groups, minlength=num_groups)
        self._firsts = np.cumsum(self._sizes) - self._sizes
        self._ahead = np.zeros(len(groups), dtype=np.bool_)  # drawn once more than others of the group

    def next_epoch(self, counts: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """Return the (M,) draws of the members for the groups' draws of the next epoch."""
        groups = self._groups
        rounds, extras = np.divmod(counts, np.maximum(self._sizes, 1))
        # In each group: members that are behind before those that are ahead, at random among equals.
        order = np.argsort(2 * groups + self._ahead + random.random(len(groups)))
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        extra = places - self._firsts[groups] < extras[groups]
        num_behind = np.bincount(groups[~self._ahead], minlength=len(self._sizes))
        caught_up = (extras >= num_behind)[groups]
        self._ahead = np.where(caught_up, self._ahead & extra, self._ahead | extra)
        drawn: NDArray[np.int64] = rounds[groups] + extra
        return drawn


class GroupedDraws:
    """Epochs of draws with exact shares, a function of (seed, epoch).

    Groups get draws by their units, their members equally. Every group, member and row gets the floor or ceiling of
    its share in every epoch and in all epochs so far.

    Args:
        units: (G,) int64 share of each group, see `ExactQuotas`; 0 or more.
        levels: from groups down to rows, the group of each member of a level; the last holds the group of each
            position 0..n-1, -1 for one that is never drawn.
        num_draws: draws of an epoch.
        seed: of the run.
    """

    def __init__(
        self, units: NDArray[np.int64], levels: Sequence[NDArray[np.int64]], *, num_draws: int, seed: int
    ) -> None:
        self._units = units
        self._positions = np.flatnonzero(levels[-1] >= 0)
        self._levels = [*levels[:-1], levels[-1][self._positions]]
        self._num_draws = num_draws
        self._seed = seed
        self._restart()

    def epoch_positions(self, epoch: int) -> NDArray[np.int64]:
        """Return the positions that an epoch draws, shuffled: (num_draws,) int64.

        An epoch follows from those before it: they are replayed where the last call was for a later one.
        """
        if epoch < self._epoch:
            self._restart()
        while self._epoch < epoch:
            self._step()
        return self._drawn

    def _restart(self) -> None:
        self._quotas = ExactQuotas(self._units, self._num_draws)
        num_groups = [len(self._units), *(len(level) for level in self._levels[:-1])]
        self._splits = [EqualSplit(level, count) for level, count in zip(self._levels, num_groups, strict=True)]
        self._epoch = -1
        self._drawn = np.empty(0, dtype=np.int64)

    def _step(self) -> None:
        self._epoch += 1
        random = np.random.default_rng([self._seed, _STREAM, self._epoch])
        counts = self._quotas.next_epoch(random)
        for split in self._splits:
            counts = split.next_epoch(counts, random)
        self._drawn = random.permutation(np.repeat(self._positions, counts))
