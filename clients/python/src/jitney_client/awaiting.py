"""The transport of the asynchronous client: grpc.aio."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from jitney_client.errors import Cancelled
from jitney_client.statuses import from_rpc_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney_client.connection import Connection, Metadata

__all__ = ["AwaitingTransport"]


class AwaitingTransport:
    """Carries bytes over one channel or several in turn.

    It connects at the first call, on the event loop that runs then, and stays with that loop.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._credentials = connection.channel_credentials()
        self._channels: list[Any] = []
        self._calls: list[dict[str, Callable[..., Any]]] = []
        self._turn = itertools.count()
        self._closed = False

    async def call(
        self, path: str, message: bytes, timeout: float | None, metadata: Metadata
    ) -> bytes:
        """Make a call, from bytes to bytes.

        :raises JitneyError: when it fails.
        """
        index = self._next()
        call = self._calls[index].get(path)
        if call is None:
            call = self._calls[index][path] = self._channels[index].unary_unary(path)
        try:
            reply: bytes = await call(message, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error, given_up=self._closed) from None
        except asyncio.CancelledError:
            # Either the caller's task was cancelled, or the client was closed under it.
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                msg = "the client was closed"
                raise Cancelled(msg, code=grpc.StatusCode.CANCELLED) from None
            raise
        return reply

    def stream(self, path: str, timeout: float | None, metadata: Metadata) -> Any:  # noqa: ANN401
        """Begin a call that streams both ways, of gRPC's own kind."""
        index = self._next()
        return self._channels[index].stream_stream(path)(timeout=timeout, metadata=metadata)

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close the connections; calls that are running end with ``Cancelled``."""
        self._closed = True
        for channel in self._channels:
            await channel.close()

    def _next(self) -> int:
        if self._closed:
            msg = "the client is closed"
            raise ValueError(msg)
        if not self._channels:
            self._connect()
        return next(self._turn) % len(self._channels)

    def _connect(self) -> None:
        uri, options = self._connection.target.uri, self._connection.options()
        self._channels = [
            grpc.aio.insecure_channel(uri, options)
            if self._credentials is None
            else grpc.aio.secure_channel(uri, self._credentials, options)
            for _ in range(self._connection.channels)
        ]
        self._calls = [{} for _ in self._channels]
