"""Who calls the server, and writes down what became of each request."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import grpc
import numpy as np
from benchmarks.workload import INFER

from chaos.faulty_model import Command, message, mix, read_answer
from chaos.history import OK, History
from jitney_client import AsyncClient, JitneyError
from jitney_client.connection import DEFAULT_RETRIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney_client import Retries

__all__ = ["Caller", "PlainCaller", "RetryingCaller"]

REASON: Final = "jitney-reason"
CANCELLED: Final = grpc.StatusCode.CANCELLED.name


class Caller(Protocol):
    """Sends numbered requests to the model ``faulty`` and notes how they end."""

    history: History

    async def __call__(self, number: int, command: Command = Command.NONE, rows: int = 1) -> None:
        """Send one request and note its end; raise nothing."""

    async def close(self) -> None:
        """Let go of the server."""


class PlainCaller:
    """Sends each request once: what the server says is what the history has.

    :param timeout: of each call, in seconds; None for none, where every end is then the server's.
    :param credentials: of a server with TLS.
    """

    def __init__(
        self,
        address: str,
        history: History,
        *,
        connections: int = 2,
        timeout: float | None = None,
        model: str = "faulty",
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self.history = history
        self._timeout = timeout
        self._model = model
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [
            grpc.aio.insecure_channel(address, options=options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options=options)
            for _ in range(connections)
        ]
        self._calls = [channel.unary_unary(INFER) for channel in self._channels]

    async def __call__(
        self,
        number: int,
        command: Command = Command.NONE,
        rows: int = 1,
        *,
        cancel_after: float | None = None,
    ) -> None:
        """Send one request and note its end.

        :param cancel_after: seconds after which the caller goes away; None where it stays.
        """
        call = self._calls[number % len(self._calls)]
        body = message(number, command, rows=rows, model=self._model)
        self.history.invoke(number, time.monotonic())
        pending: Any = call(body, timeout=self._timeout)
        try:
            if cancel_after is not None:
                await asyncio.sleep(cancel_after)
                pending.cancel()
            reply = await pending
        except asyncio.CancelledError:
            # Either we cancelled the call, or somebody cancelled us.
            if cancel_after is None or not pending.cancelled():
                raise
            self.history.end(number, time.monotonic(), CANCELLED)
        except grpc.aio.AioRpcError as error:
            reason = dict(error.trailing_metadata() or ()).get(REASON, "")
            self.history.end(number, time.monotonic(), error.code().name, str(reason))
        else:
            _note(self.history, number, read_answer(reply, number, rows))

    async def close(self) -> None:
        """Let go of the server."""
        await asyncio.gather(*(channel.close() for channel in self._channels))


class RetryingCaller:
    """Our client as it is shipped, its retries included.

    :param timeout: of each call, all its attempts included, in seconds.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        history: History,
        *,
        timeout: float,
        retries: Retries | None = DEFAULT_RETRIES,
    ) -> None:
        self.history = history
        self._client = AsyncClient(address, timeout=timeout, check=False, retries=retries)

    async def __call__(self, number: int, command: Command = Command.NONE, rows: int = 1) -> None:
        """Send one request, as often as the policy says, and note its end."""
        x = np.zeros((rows, 2), np.int64)
        x[:, 0] = number
        x[0, 1] = command
        self.history.invoke(number, time.monotonic())
        try:
            result = await self._client.infer("faulty", {"x": x}, request_id=str(number))
        except JitneyError as error:
            self.history.end(number, time.monotonic(), error.code.name, error.reason)
        else:
            y = result["y"]
            right = (y[:, 0] == number).all() and (y[:, 1] == mix(number)).all()
            _note(self.history, number, int(y[0, 2]) if right else None)

    async def close(self) -> None:
        """Let go of the server."""
        await self._client.close()


def _note(history: History, number: int, stamp: int | None) -> None:
    now = time.monotonic()
    if stamp is None:
        history.wrongly(number, now, "not its own number, or of two models")
    else:
        history.end(number, now, OK, stamp=stamp)
