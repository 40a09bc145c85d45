"""Calls with their deadline, their metadata and their repetitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc

from jitney_client.errors import InvalidReply, JitneyError
from jitney_client.protocol import inference, jitney_v1
from jitney_client.protocol.message import DecodeError, Message
from jitney_client.retries import Retrying

if TYPE_CHECKING:
    from jitney_client.connection import Connection, Metadata
    from jitney_client.deadline import Deadline

__all__ = ["METHODS", "Caller", "Transport"]

R = TypeVar("R", bound=Message)

METHODS = {**inference.METHODS, **jitney_v1.METHODS}
"""Every RPC by its name."""


class Transport(Protocol):
    """Carries bytes to a server and back: the only thing in which the two clients differ."""

    async def call(
        self, path: str, message: bytes, timeout: float | None, metadata: Metadata
    ) -> bytes:
        """Make a call, from bytes to bytes; raises JitneyError when it fails."""

    async def pause(self, seconds: float) -> None:
        """Wait."""


class Caller:
    """Makes the calls of a client."""

    def __init__(self, transport: Transport, connection: Connection) -> None:
        self.connection = connection
        self._transport = transport
        self._retrying = Retrying(connection.retries)
        # Only a token that is asked for each time makes it differ between calls.
        self._fixed = None if callable(connection.token) else connection.metadata()

    async def call(
        self,
        name: str,
        request: Message,
        response: type[R],
        deadline: Deadline,
        *,
        repeat: bool = True,
    ) -> R:
        """Call an RPC by its name.

        :param repeat: whether it may be repeated: not where it changes the server, nor where the
            caller wants to know how things stand now.
        :raises JitneyError: when it fails.
        """
        path = METHODS[name].path
        data = await self.send(path, request.SerializeToString(), deadline, repeat=repeat)
        try:
            return response.FromString(data)
        except DecodeError as error:
            msg = f"the reply of {name} is none: {error}"
            raise InvalidReply(msg, code=grpc.StatusCode.OK) from None

    async def send(
        self,
        path: str,
        message: bytes,
        deadline: Deadline,
        *,
        tenant: str | None = None,
        repeat: bool = True,
    ) -> bytes:
        """Make a call, from bytes to bytes, as often as it takes and is allowed.

        :raises JitneyError: when it fails.
        """
        attempt = 1
        while True:
            # A token may be another one by the next attempt.
            metadata = self._fixed if tenant is None else None
            if metadata is None:
                metadata = self.connection.metadata(tenant)
            try:
                reply = await self._transport.call(path, message, deadline.remaining(), metadata)
            except JitneyError as error:
                if not repeat:
                    raise
                pause = self._retrying.pause_after(error, attempt, deadline.remaining())
                if pause is None:
                    raise
                await self._transport.pause(pause)
                attempt += 1
            else:
                self._retrying.succeeded()
                return reply

    def metadata(self, tenant: str | None = None) -> Metadata:
        """Return what goes along with a call."""
        if tenant is None and self._fixed is not None:
            return self._fixed
        return self.connection.metadata(tenant)

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await self._transport.pause(seconds)
