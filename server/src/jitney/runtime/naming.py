"""Names that say a position: ``INPUT__0`` is the first argument, whatever the author called it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Misplaced", "positions_of"]

_POSITION: Final = re.compile(r".+__([0-9]{1,6})", re.DOTALL)


class Misplaced(ValueError):  # what it says
    """Names that say positions which cannot be right; the text says what was expected."""


def positions_of(names: Sequence[str], count: int | None, what: str) -> tuple[int, ...] | None:
    """Return the positions that names say, or None where their order counts.

    Three cases: all names end in ``__<position>``, and the positions count; none does; or some do.
    Then the order counts, as it does with Triton, but only where it agrees with the positions that
    are said: what was called ``x__1`` is never silently used as number 0.

    :param count: how many there are to choose from; None where that is not known.
    :param what: what is chosen from, such as ``arguments of the model``.
    :raises Misplaced: when a position is said twice, does not exist, or contradicts the order.
    """
    matches = [_POSITION.fullmatch(name) for name in names]
    said = [None if match is None else int(match[1]) for match in matches]
    if all(position is None for position in said):
        return None
    for index, position in enumerate(said):
        if position is None:
            continue
        if None in said:
            if position != index:
                msg = (
                    f"{names[index]!r} says position {position} and stands at {index}; end all "
                    "names in __<position>, or none"
                )
                raise Misplaced(msg)
        elif said.index(position) != index:
            msg = f"{names[said.index(position)]!r} and {names[index]!r} say the same position"
            raise Misplaced(msg)
        if count is not None and position >= count:
            msg = (
                f"{names[index]!r} says position {position}, and there are {count} {what}, "
                "counted from 0"
            )
            raise Misplaced(msg)
    return None if None in said else tuple(p for p in said if p is not None)
