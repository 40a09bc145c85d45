"""Keeps gRPC's server alive when a call's path is no text.

grpc.aio decodes the path of every call in the one loop that accepts calls, and takes whatever that
raises for the end of the server: one stray byte in a path, from anybody who can connect, closes the
port for good (found by ``make fuzz``, with grpcio 1.85.1). It does so before any interceptor or
handler, with Python's own way of decoding, so the only place to step in is what Python does about
bytes that cannot be decoded.
"""

from __future__ import annotations

import codecs
import os
import sys
from typing import Final

__all__ = ["tolerate_undecodable_paths"]

STRICT: Final = "strict"
REPLACEMENT: Final = "\ufffd"
"""No method has it in its name: such a call ends UNIMPLEMENTED, as that of any unknown method."""
LOOP_FILES: Final = tuple(
    os.path.join("asyncio", name)  # noqa: PTH118  # an ending of file names, no path
    for name in ("events.py", "runners.py", "base_events.py")
)
"""Where the nearest Python code is when gRPC's accepting loop runs: it is compiled itself, and
driven by the event loop; ``runners.py`` where that one is compiled as well (uvloop)."""


def tolerate_undecodable_paths() -> None:
    """Let compiled code that the event loop runs replace what is not UTF-8 instead of raising.

    Python code is none the wiser: where the decoding was asked for by a line of Python, as all of
    ours is, an error is raised as ever. May be called again.
    """
    codecs.register_error(STRICT, _strict_or_lenient)


def _strict_or_lenient(error: UnicodeError) -> tuple[str, int]:
    if (
        isinstance(error, UnicodeDecodeError)
        and error.encoding == "utf-8"
        and sys._getframe(1).f_code.co_filename.endswith(LOOP_FILES)  # noqa: SLF001  # who asked
    ):
        return REPLACEMENT, error.end
    raise error
