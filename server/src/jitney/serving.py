"""A server as a process: its loop, its log, its signals, its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Final

from jitney import access
from jitney.app import Server
from jitney.banner import banner
from jitney.errors import JitneyError
from jitney.telemetry.logs import is_json, open_log
from jitney.telemetry.trace_context import TRACE_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney.config import Settings
    from jitney.execution.link import WorkerCommand
    from jitney.telemetry.log_queue import LogQueue

__all__ = ["make_room_for_descriptors", "serve"]

log = logging.getLogger(__name__)

OTHER_DESCRIPTORS: Final = 256
"""What is open beside connections and regions: workers, their memory, models, the log."""
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
    telemetry = settings.telemetry
    lines = open_log(
        telemetry.log_level, telemetry.log_format, telemetry.log_rate, sys.stderr, _facts
    )
    # The library writes a line of its own for each handshake that fails, past our log and as many
    # as anybody likes to cause. What is no error of its own is only for who asks for it.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)
    sys.setswitchinterval(MIN_SWITCH_INTERVAL)
    limits = settings.limits
    regions = limits.max_shm_regions if settings.server.allow_client_shm else 0
    make_room_for_descriptors(limits.max_connections + regions + OTHER_DESCRIPTORS)
    try:
        import uvloop  # noqa: PLC0415  # optional: not on every platform
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(_serve(settings, environment, commands, lines))
    except Exception as error:
        if is_json(telemetry.log_format, sys.stderr):
            # Whoever started the command prints it too, for people.
            log.critical("the server ends: %s", error, exc_info=not isinstance(error, JitneyError))
        raise
    finally:
        lines.close()


def _facts() -> dict[str, str]:
    """Return what each record of the log says about whatever is being done."""
    return {"principal": access.current().name, "trace_id": TRACE_ID.get()}


def make_room_for_descriptors(count: int) -> None:
    """Raise the soft limit of open files so far that ``count`` may be open, or as far as may be.

    Shells and service managers mostly leave it at 1024, fewer than the connections that the
    settings promise, and allow far more to who asks.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft < count:
        log.warning(
            "%d files may be open at once, and the settings allow connections and regions of "
            "shared memory for %d: raise the limit (ulimit -n), or lower limits.max_connections",
            soft,
            count,
        )


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out what grpcio logs when a call's deadline passes while its reply is written.

    It is no fault of anybody's, happens under every overload, and comes with a traceback each time.
    """
    return "ExecuteBatchError" not in record.getMessage()


async def _serve(
    settings: Settings,
    environment: Mapping[str, str],
    commands: Sequence[WorkerCommand],
    lines: LogQueue,
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
    server.metrics.add_reading(lines.reading())
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
