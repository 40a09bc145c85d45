"""Where the elements of a BYTES tensor stand: 4 bytes of length, then as many bytes, and so on.

Nothing but the elements before it tells where an element begins, so they have to be walked. Ten
million would take a second, one by one. But tensors that large mostly hold elements of one length,
and how far that goes is seen in one comparison of NumPy's: 0.5 ns an element, against 60 to 80.
"""

from __future__ import annotations

import bisect
import struct
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jitney.types import Bytes

__all__ = ["LENGTH", "blocks", "first_not_text", "row_offsets", "run_length"]

LENGTH: Final = struct.Struct("<I")
"""What stands before each element."""
STRETCH: Final = 1024
"""Elements that are walked one by one before a run is looked for again, which costs as much as
some fifty of them."""
FIRST_LOOK: Final = 64
"""Elements that are compared at first; eight times as many whenever all of them were equal."""
LONGEST_LOOK: Final = 1 << 20
LONGEST_RUN: Final = 1 << 20
"""Elements of one block; who copies a block holds no more than that."""
FEW: Final = 64
"""Elements that are walked faster than NumPy is called."""

Starts = range | list[int]


def blocks(data: Bytes, expected: int) -> Iterator[tuple[Starts, int]]:
    """Yield where elements start, block by block, and where the last one of the block ends.

    A block is a run of elements of one length, then a range, or a list of at most ``STRETCH``; a
    run may go on in the next block.
    The walk ends where ``data`` does, or behind ``expected`` elements; an end beyond that of
    ``data`` says that the block's last element is cut off.
    """
    at, end, left = 0, len(data), expected
    runs = expected > FEW
    unpack = LENGTH.unpack_from
    while at < end and left > 0:
        if runs and (count := _run(data, at, min(left, LONGEST_RUN))) > FEW:
            step = LENGTH.size + unpack(data, at)[0]
            last = at + count * step
            yield range(at, last, step), last
            at, left = last, left - count
            continue
        starts: list[int] = []
        append = starts.append
        try:
            for _ in range(min(left, STRETCH)):
                length = unpack(data, at)[0]
                append(at)
                at += LENGTH.size + length
        except struct.error:
            # The end of the data, of the element before, or in the middle of a length.
            if at < end:
                starts.append(at)
                at += LENGTH.size
        left -= len(starts)
        yield starts, at


def _run(data: Bytes, at: int, most: int) -> int:
    """Return how many whole elements from ``at`` on are as long as the first; at most ``most``."""
    end = len(data)
    if at + LENGTH.size > end:
        return 0
    (length,) = LENGTH.unpack_from(data, at)
    step = LENGTH.size + length
    return run_length(data, at, step, min(most, (end - at) // step), "<u4", length)


def run_length(data: Bytes, at: int, step: int, most: int, dtype: str, value: int) -> int:
    """Return how many times ``value`` stands at ``at``, ``at + step`` and so on; at most ``most``.

    :param dtype: NumPy's name of the number that is compared; it need not be aligned.
    """
    count, look = 0, FIRST_LOOK
    while count < most:
        look = min(look, most - count)
        numbers: np.ndarray[tuple[int], np.dtype[np.unsignedinteger]] = np.ndarray(
            (look,), dtype, data, at + count * step, (step,)
        )
        differ = numbers != value
        first = int(differ.argmax())
        if differ[first]:
            return count + first
        count += look
        look = min(look * 8, LONGEST_LOOK)
    return count


def row_offsets(data: Bytes, rows: int, elements: int) -> Sequence[int]:
    """Return where each row starts, and at last where the last one ends: ``rows + 1`` offsets.

    :param data: a BYTES tensor of ``rows`` times ``elements`` elements, walked before.
    """
    if elements == 0:
        return [0] * (rows + 1)
    offsets: list[int] = []
    seen = 0
    for starts, _ in blocks(data, rows * elements):
        offsets.extend(starts[-seen % elements :: elements])
        seen += len(starts)
    offsets.append(len(data))
    return offsets


def first_not_text(data: Bytes, starts: Starts, end: int) -> int | None:
    """Return which element of a block is no UTF-8, None where all are.

    The lengths are overwritten with zeros, which are no part of any character of several bytes:
    what remains is UTF-8 exactly if every element is, and that is asked once and not for each.
    """
    first = starts[0]
    block = bytearray(data[first:end])
    numbers = np.frombuffer(block, np.uint8)
    if isinstance(starts, range):
        numbers.reshape(-1, starts.step)[:, : LENGTH.size] = 0
    else:
        places = np.array(starts) - first
        for offset in range(LENGTH.size):
            numbers[places + offset] = 0
    try:
        block.decode()
    except UnicodeDecodeError as error:
        return bisect.bisect_right(starts, first + error.start) - 1
    return None
