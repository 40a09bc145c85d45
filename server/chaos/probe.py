"""A way into a running server for who watches it: counts what only the inside knows."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import json
import socket
import sys
import threading
from typing import TYPE_CHECKING, Final

from jitney.scheduling.batch import Entry
from jitney.types import Request

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ask", "open_probe"]

TIMEOUT: Final = 30.0
LINE: Final = 1 << 20


def open_probe(path: Path) -> None:
    """Answer questions on a unix socket from now on, in a thread of its own.

    Asked ``census``, it collects garbage and counts live objects: ``tasks`` and ``futures`` that
    are not done, ``entries``, ``requests``, and ``blocks`` of Python's allocator. Asked ``types``,
    it counts all by the names of their types, which is how to find what leaks.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    threading.Thread(target=_serve, args=(listener,), daemon=True).start()


def ask(path: Path, question: str) -> dict[str, int]:
    """Return the answer to a question.

    :raises OSError: when nobody is there.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect(str(path))
        connection.sendall(question.encode() + b"\n")
        with connection.makefile() as answers:
            counts: dict[str, int] = json.loads(answers.readline(LINE))
    return counts


def _serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rw") as stream, contextlib.suppress(OSError):
            answer = _types() if stream.readline(LINE).strip() == "types" else _census()
            stream.write(json.dumps(answer) + "\n")


def _census() -> dict[str, int]:
    gc.collect()
    counts: collections.Counter[str] = collections.Counter(
        dict.fromkeys(("tasks", "futures", "entries", "requests"), 0)
    )
    for one in gc.get_objects():
        # By their types and not by isinstance, which asks proxies and wakes their code.
        kind = type(one)
        if kind is asyncio.Task:
            counts["tasks"] += not one.done()
        elif kind is asyncio.Future:
            counts["futures"] += not one.done()
        elif kind is Entry:
            counts["entries"] += 1
        elif kind is Request:
            counts["requests"] += 1
    return {**counts, "blocks": sys.getallocatedblocks()}


def _types() -> dict[str, int]:
    gc.collect()
    return collections.Counter(
        f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects()
    )
