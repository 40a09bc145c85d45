"""Frames of HTTP/2 (RFC 9113), as far as a client that sends unary gRPC calls needs them."""

from __future__ import annotations

from typing import Final

__all__ = ["data_frame", "frame", "grant", "greeting", "prefixed", "setting_values"]

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK = END_STREAM = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY: Final = 0x20
PRIORITY_BYTES: Final = 5
FRAME_HEADER: Final = 9
NUMBER_AT: Final = 5
"""Where a frame's header has the number of the stream: its last four bytes."""
MESSAGE_PREFIX: Final = 5
"""gRPC: a byte that says whether the message is compressed, and its length."""
INITIAL_WINDOW: Final = 65_535
LARGEST_WINDOW: Final = (1 << 31) - 1
LARGEST_FRAME: Final = 16_384
"""What every peer takes; more only where its settings say so."""
TABLE_SIZE, MAX_STREAMS, INITIAL_WINDOW_SIZE = 1, 3, 4
"""Identifiers of settings."""
SETTING_BYTES: Final = 6
TOP_UP: Final = 1 << 24
"""Bytes received before the server is granted as many again."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame: its header, and the payload."""
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


def grant(size: int) -> bytes:
    """Return the frame that lets the other side send ``size`` more bytes on the connection."""
    return frame(WINDOW_UPDATE, 0, 0, size.to_bytes(4, "big"))


def greeting() -> bytes:
    """Return what a client says first; it grants the server all the window there is."""
    setting = INITIAL_WINDOW_SIZE.to_bytes(2, "big") + LARGEST_WINDOW.to_bytes(4, "big")
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(SETTINGS, 0, 0, setting)
        + grant(LARGEST_WINDOW - INITIAL_WINDOW)
    )


def setting_values(payload: bytes) -> dict[int, int]:
    """Return the values of a SETTINGS frame by their identifiers."""
    return {
        int.from_bytes(payload[at : at + 2], "big"): int.from_bytes(payload[at + 2 : at + 6], "big")
        for at in range(0, len(payload) - SETTING_BYTES + 1, SETTING_BYTES)
    }


def prefixed(message: bytes) -> bytes:
    """Return a gRPC message as it is sent: uncompressed, behind its length."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def data_frame(message: bytes) -> bytes:
    """Return the DATA frame of a message, with the number of the stream still 0.

    :raises ValueError: when it does not fit one.
    """
    payload = prefixed(message)
    if len(payload) > LARGEST_FRAME:
        msg = f"a message of {len(message)} bytes does not fit a frame"
        raise ValueError(msg)
    return frame(DATA, END_STREAM, 0, payload)
