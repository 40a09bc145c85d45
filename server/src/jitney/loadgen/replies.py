"""The different replies of a run, kept so that they can be checked when it is over."""

from __future__ import annotations

from typing import Final, NamedTuple

from jitney.loadgen.order import read_blobs, write_blobs

__all__ = ["Replies", "Reply", "read_replies"]

KEPT_BYTES: Final = 256 << 20
"""Of different replies that are kept: more would be a leak."""


class Reply(NamedTuple):
    """A reply to a message, and how often it came."""

    message: int
    times: int
    body: bytes


class Replies:
    """Keeps every different reply to each message once, and counts how often it came.

    Checking them while the load runs would disturb it.
    """

    def __init__(self, messages: int, limit: int = KEPT_BYTES) -> None:
        self._counts: list[dict[bytes, int]] = [{} for _ in range(messages)]
        self._room = limit

    def note(self, message: int, body: bytes) -> bool:
        """Count a reply; return whether it can be checked later."""
        counts = self._counts[message]
        count = counts.get(body)
        if count is None:
            if len(body) > self._room:
                return False
            self._room -= len(body)
            count = 0
        counts[body] = count + 1
        return True

    def write(self, path: str) -> None:
        """Write a file for ``read_replies``."""
        kept = [
            (message, count, body)
            for message, counts in enumerate(self._counts)
            for body, count in counts.items()
        ]
        numbers = [number for message, count, _ in kept for number in (message, count)]
        write_blobs(path, [body for *_, body in kept], numbers)


def read_replies(path: str) -> list[Reply]:
    """Read what ``Replies.write`` wrote."""
    bodies, numbers = read_blobs(path)
    return [
        Reply(message, times, body)
        for message, times, body in zip(numbers[::2], numbers[1::2], bodies, strict=True)
    ]
