"""Broken variants of good messages, reproducible from a seed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXTREMES = (
    *(b"\x00", b"\xff", b"\x80", b"\x7f", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(8)),
    *(b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\xff" * 9 + b"\x01", b"\x80" * 12, b"\x00\x00\x01\x00"),
)


def mutations(corpus: Sequence[bytes], count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield ``count`` messages, each one of the corpus with one to three wounds."""
    chance = random.Random(seed)  # noqa: S311  # a test, not a secret
    rand = chance.random
    for i in range(count):
        message = bytearray(corpus[i % len(corpus)])
        for _ in range(1 + int(rand() * 3)):
            at = int(rand() * (len(message) + 1))
            kind = int(rand() * 6)
            if kind == 0 and at < len(message):
                message[at] = int(rand() * 256)
            elif kind == 1 and at < len(message):
                message[at] ^= 1 << int(rand() * 8)
            elif kind == 2:
                del message[at:]
            elif kind == 3:
                extreme = EXTREMES[int(rand() * len(EXTREMES))]
                message[at : at + len(extreme)] = extreme
            elif kind == 4:
                other = corpus[int(rand() * len(corpus))]
                message[at:at] = other[: int(rand() * len(other))]
            else:
                del message[at : at + 1 + int(rand() * 8)]
        yield bytes(message)
