"""Which columns of a foreign CSV file hold the seven scores: told by their names, in any order, never guessed."""

from collections.abc import Sequence

from fer_lightning.data.foreign.table import class_index
from fer_lightning.data.sources.names import emotion_of, other_expression
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS

_PREFIX_OF = {"logits": "logit_", "log_probs": "log_prob_", "probs": "prob_"}
_VALUES_OF = {prefix: values for values, prefix in _PREFIX_OF.items()}


def _split_name(name: str) -> tuple[str, str]:
    """Return prefix (empty without one) and the rest of a column name."""
    prefix = next((prefix for prefix in _VALUES_OF if name.casefold().startswith(prefix)), "")
    return prefix, name[len(prefix) :]


def _check_stranger(name: str, prefix: str, rest: str, *, where: str) -> None:
    """Refuse a column that names a class, but none of the seven."""
    meant, dropped = emotion_of(rest), other_expression(rest)
    if not prefix and meant is None and dropped is None:
        return  # any other column
    if meant is not None:
        raise FerError(f"{where} has a column {name!r}, which is no name of a class; rename it {prefix}{meant}")
    raise FerError(
        f"{where} has a column {name!r} of a class that is none of {', '.join(EMOTIONS)}. Remove it; "
        "probabilities of the seven must then be divided by their sum"
    )


def _by_prefix(header: Sequence[str], *, where: str) -> dict[str, dict[int, int]]:
    """Return prefix -> class -> column, and refuse a class named twice, or one that is none of the seven."""
    found: dict[str, dict[int, int]] = {}
    for column, name in enumerate(header):
        prefix, rest = _split_name(name)
        index = class_index(rest)
        if index is None:
            _check_stranger(name, prefix, rest, where=where)
            continue
        earlier = found.setdefault(prefix, {}).setdefault(index, column)
        if earlier != column:
            raise FerError(f"{where} names {prefix}{EMOTIONS[index]} twice: {header[earlier]!r} and {name!r}")
    return found


def class_columns(header: Sequence[str], *, values: str, where: str) -> list[int]:
    """Return the column of each class, in the order of `labels.EMOTIONS`.

    Columns are named after the emotion in any case, alone or all with the prefix that belongs to the values. Those with the
    prefix of other values stay unread.

    Args:
        header: names of the columns.
        values: `logits`, `log_probs` or `probs`.
        where: the file, for messages.

    Raises:
        FerError: a class is missing or named twice, another class such as Contempt, or columns of other values only.
    """
    found, prefix = _by_prefix(header, where=where), _PREFIX_OF[values]
    if prefix in found and "" in found:
        raise FerError(f"{where} names classes both with and without {prefix}; which ones are meant? Remove the others")
    columns = found.get(prefix) or found.get("")
    if columns is None and found:
        other = next(iter(found))
        raise FerError(
            f"{where} has columns {other}<class>, but foreign.values={values} reads {prefix}<class>; "
            f"set foreign.values={_VALUES_OF[other]}"
        )
    if columns is None:
        names = ", ".join(header)
        raise FerError(
            f"{where} has no column of a class; expected {', '.join(EMOTIONS)}, with or without {prefix}; it has {names}"
        )
    missing = [name for index, name in enumerate(EMOTIONS) if index not in columns]
    if missing:
        raise FerError(
            f"{where} lacks the class{'es' if len(missing) > 1 else ''} {', '.join(missing)}; it has {', '.join(header)}"
        )
    return [columns[index] for index in range(len(EMOTIONS))]
