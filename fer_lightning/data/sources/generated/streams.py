"""Independent random streams: each subject and picture has its own, whatever the order of drawing."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream is for; part of its key."""

    DECK = 1
    SUBJECT = 2
    PICTURE_PLAN = 3
    PICTURE_DRAWING = 4
    PLANTING = 5


def generator(seed: int, stream: Stream, index: int) -> np.random.Generator:
    """Return the generator of one subject, picture or step.

    Args:
        seed: of the set.
        stream: what is drawn.
        index: which one, 0..2**48-1.
    """
    return np.random.Generator(np.random.Philox(key=(seed << 64) | (int(stream) << 48) | index))
