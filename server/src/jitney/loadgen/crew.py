"""The processes that make the load, seen from the one that measures."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from jitney.loadgen.order import Order

    Progress = Callable[[dict[str, int]], None]

__all__ = ["Crew", "LoadError"]

COMMAND: Final = (sys.executable, "-m", "jitney.loadgen.generator")
LEAD: Final = 0.2
"""Seconds between the last connection and the beginning of a run."""
STOP_TIMEOUT: Final = 10.0
COUNTS: Final = ("sent", "ended", "ok", "in_time")


class LoadError(Exception):
    """Load could not be made; the text says why."""


class Crew(contextlib.ExitStack):
    """Generators, each a process, that do a run together; all end with its block."""

    def __init__(self, processes: int) -> None:
        super().__init__()
        self._size = processes
        self._heard: queue.SimpleQueue[tuple[int, dict[str, Any] | None]] = queue.SimpleQueue()
        self._inputs: list[IO[str]] = []

    def __len__(self) -> int:
        """Return how many there are."""
        return self._size

    def __enter__(self) -> Self:
        """Start them."""
        super().__enter__()
        for number in range(self._size):
            self._start(number)
        return self

    def run(self, orders: Sequence[Order], progress: Progress) -> list[dict[str, Any]]:
        """Do one run, an order to each from the first on; return what each says at its end.

        :param progress: is given the sums of what was done so far, several times a second.
        :raises LoadError: when one cannot go on.
        """
        team = range(len(orders))
        for number, order in enumerate(orders):
            self._tell(number, json.dumps(order.to_json()))
        self._wait(team, "ready", lambda _: None)
        begin = time.monotonic() + LEAD
        for number in team:
            self._tell(number, repr(begin))
        return self._wait(team, "done", progress)

    def _start(self, number: int) -> None:
        process = subprocess.Popen(  # noqa: S603  # our own module
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # Ctrl-C is for the command, which ends them
        )
        # PIPE makes both.
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise AssertionError
        self._inputs.append(stdin)
        reader = threading.Thread(target=self._listen, args=(number, stdout), daemon=True)
        reader.start()

        def end() -> None:
            with contextlib.suppress(BrokenPipeError):
                stdin.close()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            reader.join()
            stdout.close()

        self.callback(end)
        # Before that, where something went wrong: a run may have minutes to go.
        self.push(lambda kind, *_: process.terminate() if kind is not None else None)

    def _listen(self, number: int, stdout: IO[str]) -> None:
        for line in stdout:
            self._heard.put((number, json.loads(line)))
        self._heard.put((number, None))

    def _tell(self, number: int, line: str) -> None:
        try:
            self._inputs[number].write(line + "\n")
            self._inputs[number].flush()
        except BrokenPipeError:
            msg = "a load generator ended; what it wrote before tells why"
            raise LoadError(msg) from None

    def _wait(self, team: range, word: str, progress: Progress) -> list[dict[str, Any]]:
        """Return what each said with that word in it."""
        said: dict[int, dict[str, Any]] = {}
        counts: dict[int, dict[str, int]] = {}
        while len(said) < len(team):
            number, table = self._heard.get()
            if table is None:
                msg = "a load generator ended; what it wrote before tells why"
                raise LoadError(msg)
            if "error" in table:
                raise LoadError(table["error"])
            if word in table:
                said[number] = table
            else:
                counts[number] = table
                progress({k: sum(one[k] for one in counts.values()) for k in COUNTS})
        return [said[number] for number in team]
