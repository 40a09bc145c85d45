"""A server as a process: its loop, its log, its signals, its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from typing import TYPE_CHECKING, Final

from jitney.app import Server
from jitney.banner import banner
from jitney.telemetry.logs import FORMAT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney.config import Settings
    from jitney.execution.link import WorkerCommand

__all__ = ["serve"]

MIN_SWITCH_INTERVAL: Final = 5e-4
"""Seconds after which a thread that runs Python lets another one run. At the default of 5 ms, a
scrape of the metrics page would delay the event loop by that much."""


def serve(
    settings: Settings,
    environment: Mapping[str, str],
    commands: Sequence[WorkerCommand] = (),
) -> int:
    """Run a server until a signal ends it; return the exit code.

    :param environment: of the process; workers are given a few variables of it.
    :param commands: the workers; none for those of the devices that the settings name.
    """
    logging.basicConfig(
        level=settings.telemetry.log_level.upper(),
        format=FORMAT,
        stream=sys.stderr,
    )
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)
    sys.setswitchinterval(MIN_SWITCH_INTERVAL)
    try:
        import uvloop  # noqa: PLC0415  # optional: not on every platform
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_serve(settings, environment, commands))


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out what grpcio logs when a call's deadline passes while its reply is written.

    It is no fault of anybody's, happens under every overload, and comes with a traceback each time.
    """
    return "ExecuteBatchError" not in record.getMessage()


async def _serve(
    settings: Settings, environment: Mapping[str, str], commands: Sequence[WorkerCommand]
) -> int:
    stopping, forced = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (forced if stopping.is_set() else stopping).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)

    def say(text: str) -> None:
        # Parts of it come out of model files: no control characters, and nothing that the
        # terminal's encoding does not have.
        lines = ("".join(c if c.isprintable() else "?" for c in line) for line in text.split("\n"))
        encoding = sys.stdout.encoding or "utf-8"
        text = "\n".join(lines).encode(encoding, "replace").decode(encoding)
        with contextlib.suppress(OSError):  # whoever watched may have gone: `serve | head`
            print(text, flush=True)  # noqa: T201

    server = Server(settings, environment, say, commands)
    starting = asyncio.ensure_future(server.start())
    stop = asyncio.ensure_future(stopping.wait())
    await asyncio.wait((starting, stop), return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            if starting.exception() is not None:
                forced.set()  # nobody was served, so there is nothing to be polite about
            await starting
            for line in banner(server):
                say(line)
            hopeless = asyncio.ensure_future(server.hopeless.wait())
            await asyncio.wait((stop, hopeless), return_when=asyncio.FIRST_COMPLETED)
            hopeless.cancel()
            if server.hopeless.is_set():
                forced.set()
                server.ensure_a_device()
            say("stopping: finishing what was accepted (a second signal ends at once)")
        else:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            forced.set()
    finally:
        stop.cancel()
        await server.stop(forced)
    say("stopped")
    return 0
