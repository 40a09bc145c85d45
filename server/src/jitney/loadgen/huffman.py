"""Text in header blocks: the Huffman code of HTTP/2 (RFC 7541, appendix B)."""

from __future__ import annotations

from typing import Final

__all__ = ["decoded"]

# fmt: off
LENGTHS: Final = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30,
    28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5,
    7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22,
    22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23,
    22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22,
    21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26,
    26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20,
    24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27,
    27, 28, 27, 27, 27, 27, 27, 26, 30,
)
# fmt: on
"""Bits of each byte's code, then of the mark of the end; the code is canonical, so this is all."""
END: Final = 256
LONGEST_PADDING: Final = 7


def _codes() -> dict[tuple[int, int], int]:
    """Return what each code stands for, by its length and value."""
    codes: dict[tuple[int, int], int] = {}
    value = length = 0
    for bits, symbol in sorted((bits, symbol) for symbol, bits in enumerate(LENGTHS)):
        value <<= bits - length
        codes[bits, value] = symbol
        value, length = value + 1, bits
    return codes


CODES: Final = _codes()


def decoded(data: bytes) -> bytes:
    """Return the text that ``data`` stands for; bit by bit, as it is done for a few headers only.

    :raises ValueError: when it is no text in this code.
    """
    text = bytearray()
    length = value = 0
    for byte in data:
        for shift in range(7, -1, -1):
            value, length = value << 1 | byte >> shift & 1, length + 1
            symbol = CODES.get((length, value))
            if symbol is not None:
                if symbol == END:
                    msg = "a text holds the mark of its end"
                    raise ValueError(msg)
                text.append(symbol)
                length = value = 0
    if length > LONGEST_PADDING or value != (1 << length) - 1:
        msg = "a text ends within a character"
        raise ValueError(msg)
    return bytes(text)
