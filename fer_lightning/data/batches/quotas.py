"""How many draws each group gets in each epoch: exact shares of every epoch and of all epochs together."""

import numpy as np
from numpy.typing import NDArray


class ExactQuotas:
    """Shares out the draws of one epoch after another among groups.

    A group with units u of U in all has the share s = num_draws x u / U of an epoch. In every epoch it gets floor(s) or
    ceil(s) draws, and after k epochs floor(k s) or ceil(k s) in all: never one draw or more from its share. Who gets
    one of the draws left over after the floors is the scheduling of periodic tasks with rates s - floor(s) on as many
    processors as there are draws left over, one epoch being one time slot; the order of urgency below (earliest
    deadline; a window that overlaps the next one; the later group deadline) keeps every deadline whenever that can be
    done: PD2 of Anderson & Srinivasan 2004, https://doi.org/10.1016/j.jcss.2003.08.002. Equal urgency is decided at
    random.

    Args:
        units: (G,) int64 of at least 0, not all 0, with a sum of at most 2**44, so that every product fits in 64 bits.
        num_draws: draws of an epoch.
    """

    def __init__(self, units: NDArray[np.int64], num_draws: int) -> None:
        total = int(units.sum())
        shares = [divmod(num_draws * unit, total) for unit in units.tolist()]  # Python integers do not overflow
        self._floors = np.array([floor for floor, _ in shares], dtype=np.int64)
        rests = np.array([rest for _, rest in shares], dtype=np.int64)
        divisor = int(np.gcd(np.gcd.reduce(rests), total))
        self._rests, self._total = rests // divisor, total // divisor  # a rate is rest / total, below 1
        self._num_left = num_draws - int(self._floors.sum())
        self._given = np.zeros(len(units), dtype=np.int64)
        self._epoch = 0

    def next_epoch(self, random: np.random.Generator) -> NDArray[np.int64]:
        """Return the (G,) draws of the next epoch, starting with epoch 0."""
        counts = self._floors.copy()
        due = self._due()
        counts[due[np.lexsort((random.random(len(due)), *self._urgency(due)))][: self._num_left]] += 1
        self._given += counts - self._floors
        self._epoch += 1
        return counts

    def _due(self) -> NDArray[np.int64]:
        """Return the groups whose window of the next extra draw has opened."""
        opens = self._given * self._total // np.maximum(self._rests, 1)
        return np.flatnonzero((self._rests > 0) & (opens <= self._epoch))

    def _urgency(self, due: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Return sort keys of the groups' next extra draws, the first key last; smaller is more urgent."""
        rests, total = self._rests[due], self._total
        nth = self._given[due] + 1
        deadlines = -(-(nth * total) // rests)
        overlaps = (nth * total) % rests != 0
        # From rate 1/2 on, one late draw drags the next ones with it, up to the group deadline.
        slack = total - rests
        group_deadlines = -(-(-(-(deadlines * slack) // total) * total) // slack)
        group_deadlines[2 * rests < total] = 0
        return -group_deadlines, 1 - overlaps.astype(np.int64), deadlines
