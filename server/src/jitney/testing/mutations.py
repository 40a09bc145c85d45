"""Broken variants of good messages, reproducible from a seed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["mutations"]

EXTREMES: Final = (
    *(b"\x00", b"\xff", b"\x80", b"\x7f", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(8)),
    *(b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\xff" * 9 + b"\x01", b"\x80" * 12, b"\x00\x00\x01\x00"),
)


def mutations(corpus: Sequence[bytes], count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield ``count`` messages, each one of the corpus with one to three wounds."""
    chance = random.Random(seed)  # noqa: S311  # not a secret
    rand = chance.random
    for i in range(count):
        message = bytearray(corpus[i % len(corpus)])
        for _ in range(1 + int(rand() * 3)):
            at = int(rand() * (len(message) + 1))
            kind = int(rand() * 6)
            match kind:
                case 0 if at < len(message):
                    message[at] = int(rand() * 256)
                case 1 if at < len(message):
                    message[at] ^= 1 << int(rand() * 8)
                case 2:
                    del message[at:]
                case 3:
                    extreme = EXTREMES[int(rand() * len(EXTREMES))]
                    message[at : at + len(extreme)] = extreme
                case 4:
                    other = corpus[int(rand() * len(corpus))]
                    message[at:at] = other[: int(rand() * len(other))]
                case _:
                    del message[at : at + 1 + int(rand() * 8)]
        yield bytes(message)
