"""Finds what a data set gives more than once, and says which of it stays."""

from collections.abc import Hashable, Iterable


def repeated(items: Iterable[tuple[Hashable, str]]) -> dict[int, tuple[str, int]]:
    """Find items that are given more than once.

    Args:
        items: what is labelled, and its label.

    Returns:
        Position -> reason and position of another one, for those to leave out: all but the first where the labels
        agree, all where they do not.
    """
    positions_of: dict[Hashable, list[tuple[int, str]]] = {}
    for position, (key, label) in enumerate(items):
        positions_of.setdefault(key, []).append((position, label))
    left_out: dict[int, tuple[str, int]] = {}
    for same in positions_of.values():
        if len(same) == 1:
            continue
        first, second = same[0][0], same[1][0]
        if len({label for _, label in same}) == 1:
            left_out.update((position, ("given twice", first)) for position, _ in same[1:])
        else:
            left_out.update(
                (position, ("labels disagree", second if position == first else first)) for position, _ in same
            )
    return left_out
