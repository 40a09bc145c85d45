"""What worker processes print, as records of the log.

Models print, libraries warn, and a process that dies says why. Without this, each would write into
the server's standard error on its own: as much as it likes, and between two lines of JSON.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import selectors
import threading
import time
from typing import Final

from jitney.telemetry.log_lines import KEPT

__all__ = ["WorkerOutput"]

log = logging.getLogger(__name__)

CHUNK: Final = 64 * 1024
MAX_LINE: Final = 4096
PER_SECOND: Final = 100
"""Lines of a worker in a second. A traceback of a crash has some dozens."""
REST: Final = 0.01
"""Seconds between two reads of a worker that prints without end: 6 MB a second, and then its
printing waits, which no other model has to pay for."""


class WorkerOutput:
    """Reads what workers print, and logs it by lines with the name of the device.

    What comes on a worker's standard output is INFO, on its standard error WARNING. A worker never
    waits for the log, and for the reading only where it prints megabytes a second: what is too much
    is read and left out, counted. Lines are cut at ``MAX_LINE`` bytes.

    Everything happens on one thread, which starts with the first worker.
    """

    def __init__(self, per_second: int = PER_SECOND) -> None:
        """Read nothing yet."""
        self._per_second = per_second
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = os.pipe()
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._new: list[_Output] = []
        self._open: list[_Output] = []
        self._thread: threading.Thread | None = None
        self._closing = False

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<WorkerOutput {[str(output) for output in self._open]}>"

    def open(self, device: str) -> tuple[int, int]:
        """Return descriptors for the output and the errors of a new worker of a device.

        Whoever asked closes them. They are read until nobody has them any more, so that the last
        words of a worker are heard.

        :raises OSError: when there are no descriptors left; then none is open.
        """
        pipes: list[tuple[int, int]] = []
        try:
            for _ in range(2):
                pipes.append(os.pipe())  # noqa: PERF401  # the first is kept where the second fails
        except OSError:
            for fd in itertools.chain(*pipes):
                os.close(fd)
            raise
        (out, out_writer), (err, err_writer) = pipes
        self._new.append(_Output(device, logging.INFO, out, self._per_second))
        self._new.append(_Output(device, logging.WARNING, err, self._per_second))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="worker-output", daemon=True)
            self._thread.start()
        os.write(self._wake_writer, b".")
        return out_writer, err_writer

    def close(self, patience: float = 1.0) -> None:
        """Read what is left, for so many seconds, once the workers have ended."""
        if self._thread is not None:
            self._closing = True
            os.write(self._wake_writer, b".")
            self._thread.join(patience)
            self._thread = None

    def _run(self) -> None:
        while not self._closing or self._open or self._new:
            # Nothing is due while nobody prints, but to tell what was left out.
            owing = any(output.left_out for output in self._open)
            events = self._selector.select(timeout=1.0 if owing else None)
            now = time.monotonic()
            for output in self._open:
                output.tick(now)
            for key, _ in events:
                if key.data is None:
                    os.read(self._wake_reader, 64)
                elif not key.data.read():
                    self._selector.unregister(key.fileobj)
                    os.close(key.fd)
                    self._open.remove(key.data)
            while self._new:
                output = self._new.pop()
                self._selector.register(output.fd, selectors.EVENT_READ, output)
                self._open.append(output)


class _Output:
    """What one worker prints to one descriptor."""

    def __init__(self, device: str, level: int, fd: int, per_second: int) -> None:
        self.fd = fd
        self.left_out = 0
        self._device = device
        self._level = level
        self._per_second = per_second
        self._rest = b""
        self._began = 0.0
        self._count = 0

    def __str__(self) -> str:
        return f"{self._device} {logging.getLevelName(self._level)}"

    def tick(self, now: float) -> None:
        """Begin another second, if one is over."""
        if now - self._began >= 1:
            self._tell()
            self._began, self._count = now, 0

    def read(self) -> bool:
        """Log what has come; return False at the end."""
        data = b""
        with contextlib.suppress(OSError):
            data = os.read(self.fd, CHUNK)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop() if data else b""
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            if not line:
                continue
            if self._count >= self._per_second:
                self.left_out += 1
                continue
            self._count += 1
            self._log(self._level, line[:MAX_LINE].decode("utf-8", "replace").rstrip())
        if not data:
            self._tell()
        elif self.left_out:
            time.sleep(REST)
        return bool(data)

    def _tell(self) -> None:
        if self.left_out:
            text = f"{self.left_out} more lines of this worker were left out"
            self._log(logging.WARNING, text, left_out=self.left_out)
            self.left_out = 0

    def _log(self, level: int, text: str, **fields: object) -> None:
        log.log(level, "%s", text, extra={"device": self._device, KEPT: True, **fields})
