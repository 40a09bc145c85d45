"""A TCP proxy that makes a network as bad as a test wants it, and better again.

For tests::

    async with ToxicProxy(("127.0.0.1", port)) as proxy:
        client = connect(proxy.address)
        proxy.put(Latency(0.2, jitter=0.1), Slicer(direction="up"))
        ...
        proxy.clear()

and for people: ``python -m jitney.testing.toxic_proxy --upstream 127.0.0.1:8001``, which reads one
toxic per line of its standard input (``latency seconds=0.2``, ``clear``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from jitney.testing.toxic_connection import CHUNK, ToxicConnection
from jitney.testing.toxics import KINDS, read_toxic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from jitney.testing.toxics import Direction, Toxic

__all__ = ["ToxicProxy", "main"]

MAX_PORT: Final = 65535


class ToxicProxy:
    """Passes connections on to one server, through the toxics that are in at the moment.

    A change of the toxics concerns also connections that are open, at once: who waits because of a
    toxic that was taken out goes on. With the same seed, the same chunks get the same fate.

    Not for measurements: it costs part of a millisecond where it does nothing.
    """

    def __init__(
        self,
        upstream: tuple[str, int],
        *,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        seed: int = 0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open nothing yet.

        :param sleep: waits so many seconds; a test's returns when the test says so.
        """
        self.upstream = upstream
        self.accepted = 0
        """Connections so far."""
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        """Bytes that arrived so far."""
        self.dropped: dict[Direction, int] = {"up": 0, "down": 0}
        """Bytes that a black hole swallowed so far."""
        self.now = now
        self._listen = listen
        self._seed = seed
        self._sleep = sleep
        self._since: dict[Toxic, float] = {}
        self._changed = asyncio.Event()
        self._open: dict[asyncio.Task[None], ToxicConnection] = {}
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<ToxicProxy {self.connections} connections, {list(self._since)}>"

    @property
    def since(self) -> Mapping[Toxic, float]:
        """The toxics that are in, and when each was put in."""
        return self._since

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None  # noqa: S101  # only inside of the context
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def address(self) -> str:
        """What a client connects to."""
        return f"{self._listen[0]}:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, *self._listen, limit=CHUNK)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Reset what is open, and listen no longer."""
        assert self._server is not None  # noqa: S101  # __aenter__ was there
        self._server.close()
        await self.drop()

    def put(self, *toxics: Toxic) -> None:
        """Put toxics in, beside those that are in. The same one twice is in once."""
        now = self.now()
        self._set({**dict.fromkeys(toxics, now), **self._since})

    def remove(self, *toxics: Toxic) -> None:
        """Take toxics out; those that are not in are fine."""
        self._set({toxic: at for toxic, at in self._since.items() if toxic not in toxics})

    def clear(self) -> None:
        """Take every toxic out."""
        self._set({})

    async def drop(self) -> None:
        """Reset every connection that is open."""
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _set(self, toxics: dict[Toxic, float]) -> None:
        self._since = toxics
        self._changed.set()
        self._changed = asyncio.Event()

    async def pause(self, seconds: float) -> bool:
        """Wait so long, or until the toxics change; return False in that case."""
        if seconds <= 0:
            return True
        sleep = asyncio.ensure_future(_forever() if seconds == math.inf else self._sleep(seconds))
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((sleep, changed), return_when=asyncio.FIRST_COMPLETED)
            return not changed.done()
        finally:
            sleep.cancel()
            changed.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # this is a coroutine
        self.accepted += 1
        connection = ToxicConnection(self, f"{self._seed} {self.accepted}", reader, writer)
        self._open[task] = connection
        try:
            await connection.run()
        except asyncio.CancelledError:
            connection.end(reset=True)  # dropped
        finally:
            del self._open[task]


async def _forever() -> None:
    await asyncio.Event().wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a proxy until the end of the standard input; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jitney.testing.toxic_proxy",
        description="Reads toxics, one per line: 'latency seconds=0.2 jitter=0.1 direction=down';\n"
        "'clear' takes all of them out, 'drop' resets every connection.\n"
        f"toxics: {', '.join(KINDS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--upstream", required=True, metavar="HOST:PORT", help="the server")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--toxic", action="append", default=[], help="one that is in at the start")
    arguments = parser.parse_args(argv)
    try:
        toxics = [read_toxic(text) for text in arguments.toxic]
        upstream, listen = (_address(text) for text in (arguments.upstream, arguments.listen))
    except ValueError as error:
        parser.error(str(error))
    try:
        asyncio.run(_serve(ToxicProxy(upstream, listen=listen, seed=arguments.seed), toxics))
    except KeyboardInterrupt:
        pass
    except OSError as error:
        print(f"--listen {arguments.listen}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (port.isdecimal() and int(port) <= MAX_PORT):
        msg = f"expected HOST:PORT, got {text!r}"
        raise ValueError(msg)
    return host.strip("[]") or "127.0.0.1", int(port)


async def _serve(proxy: ToxicProxy, toxics: Sequence[Toxic]) -> None:
    proxy.put(*toxics)
    async with proxy:
        print(f"{proxy.address} -> {proxy.upstream[0]}:{proxy.upstream[1]}", flush=True)  # noqa: T201
        lines: asyncio.Queue[str] = asyncio.Queue()
        # Not the loop's executor: its threads are waited for at the end, and one that reads from a
        # terminal would hold up Ctrl-C until somebody presses a key.
        reading = threading.Thread(target=_read, args=(asyncio.get_running_loop(), lines))
        reading.daemon = True
        reading.start()
        while line := await lines.get():
            word = line.strip()
            try:
                if word == "clear":
                    proxy.clear()
                elif word == "drop":
                    await proxy.drop()
                elif word:
                    proxy.put(read_toxic(word))
            except ValueError as error:
                print(error, file=sys.stderr, flush=True)  # noqa: T201
            else:
                print(proxy, flush=True)  # noqa: T201


def _read(loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[str]) -> None:
    """Pass on lines, and an empty one at the end."""
    # Without a buffer, and the lock of one, which a process that ends would wait for.
    with (
        contextlib.suppress(RuntimeError),  # the loop is closed
        open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as source,
    ):
        for line in source:
            loop.call_soon_threadsafe(lines.put_nowait, line.decode(errors="replace"))
        loop.call_soon_threadsafe(lines.put_nowait, "")


if __name__ == "__main__":
    sys.exit(main())
