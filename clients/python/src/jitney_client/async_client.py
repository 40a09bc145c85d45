"""The asynchronous client."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, Literal, overload

from jitney_client.async_stream import AsyncStream
from jitney_client.awaiting import AwaitingTransport
from jitney_client.caller import METHODS
from jitney_client.connection import Connection
from jitney_client.core import Core
from jitney_client.deadline import Deadline
from jitney_client.many import many_awaited
from jitney_client.options import check_options
from jitney_client.progress import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self, Unpack

    from jitney_client.connection import ConnectionOptions
    from jitney_client.many import Failure
    from jitney_client.options import InferOptions
    from jitney_client.prepared import Inputs
    from jitney_client.progress import Told
    from jitney_client.protocol import inference, jitney_v1
    from jitney_client.result import InferResult
    from jitney_client.settings import LogChanges, LogSettings, TraceChanges, TraceSettings

__all__ = ["AsyncClient"]


class AsyncClient:
    """As ``Client``, for one event loop: the same methods, to be awaited.

    Cancelling a task that awaits a call cancels the call, on the server as well.
    """

    def __init__(self, address: str | Sequence[str], **options: Unpack[ConnectionOptions]) -> None:
        connection = Connection.to(address, options)
        self._transport = AwaitingTransport(connection)
        self._core = Core(self._transport, connection)

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self.close()

    def __repr__(self) -> str:
        """Return the address."""
        return f"<AsyncClient {self._core.connection.target.uri}>"

    async def close(self) -> None:
        """Close the connection; calls that are running end with ``Cancelled``."""
        await self._core.close()
        await self._transport.close()

    # -- inference --------------------------------------------------------------------------------

    async def infer(
        self, model: str, inputs: Inputs, **options: Unpack[InferOptions]
    ) -> InferResult:
        """Run ``model`` once, as ``Client.infer`` does."""
        return await self._core.infer(model, inputs, options)

    @overload
    def infer_many(
        self,
        model: str,
        items: Iterable[Inputs] | AsyncIterable[Inputs],
        *,
        concurrency: int = ...,
        progress: bool | Told | None = ...,
        return_errors: Literal[False] = ...,
        **options: Unpack[InferOptions],
    ) -> AsyncIterator[InferResult]: ...

    @overload
    def infer_many(
        self,
        model: str,
        items: Iterable[Inputs] | AsyncIterable[Inputs],
        *,
        concurrency: int = ...,
        progress: bool | Told | None = ...,
        return_errors: Literal[True],
        **options: Unpack[InferOptions],
    ) -> AsyncIterator[InferResult | Failure]: ...

    def infer_many(
        self,
        model: str,
        items: Iterable[Inputs] | AsyncIterable[Inputs],
        *,
        concurrency: int = 16,
        progress: bool | Told | None = None,
        return_errors: bool = False,
        **options: Unpack[InferOptions],
    ) -> AsyncIterator[InferResult | Failure]:
        """Run ``model`` on each item, as ``Client.infer_many`` does; items may come asynchronously.

        Whoever leaves the loop early should close the iterator (``contextlib.aclosing``), or its
        tasks go on until the garbage collector finds them.
        """
        check_options(options, call=True)
        total = len(items) if isinstance(items, Sized) else None
        return many_awaited(
            lambda inputs: self._core.infer(model, inputs, options),
            items,
            concurrency,
            Progress(progress, total),
            return_errors=return_errors,
        )

    def stream(
        self, *, max_in_flight: int = 64, timeout: float | None = None, tenant: str | None = None
    ) -> AsyncStream:
        """Begin a stream, as ``Client.stream`` does, when its ``async with`` block is entered."""
        path = METHODS["ModelStreamInfer"].path
        return AsyncStream(
            self._core,
            lambda: self._transport.stream(
                path, Deadline(timeout).remaining(), self._core.caller.metadata(tenant)
            ),
            max_in_flight,
        )

    # -- models -----------------------------------------------------------------------------------

    async def metadata(
        self, model: str, *, version: str = "", timeout: float | None = None
    ) -> inference.ModelMetadataResponse:
        """Return the names, datatypes and shapes of a model's inputs and outputs."""
        return await self._core.metadata(model, version, timeout)

    async def config(
        self, model: str, *, version: str = "", timeout: float | None = None
    ) -> inference.ModelConfig:
        """Return a model's configuration in Triton's terms."""
        return await self._core.config(model, version, timeout)

    async def statistics(
        self, model: str = "", *, version: str = "", timeout: float | None = None
    ) -> Sequence[inference.ModelStatistics]:
        """Return the counters of each ready version: of one model, or of all without a name."""
        return await self._core.statistics(model, version, timeout)

    async def models(
        self, *, ready: bool = False, timeout: float | None = None
    ) -> Sequence[inference.RepositoryIndexResponse.ModelIndex]:
        """Return the state of every version in the repository, or only of those that are ready."""
        return await self._core.models(timeout, ready=ready)

    async def load(
        self,
        model: str,
        *,
        config: Mapping[str, object] | str | None = None,
        files: Mapping[str, bytes | Path] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Load a model, or load it again, as ``Client.load`` does."""
        await self._core.load(model, config, files, timeout)

    async def unload(self, model: str, *, timeout: float | None = None) -> None:
        """Stop serving a model; requests in flight finish."""
        await self._core.unload(model, timeout)

    # -- the server -------------------------------------------------------------------------------

    async def server_metadata(
        self, *, timeout: float | None = None
    ) -> inference.ServerMetadataResponse:
        """Return the server's name, release, and what it offers beyond the base protocol."""
        return await self._core.server_metadata(timeout)

    async def server_ready(self, *, timeout: float | None = None) -> bool:
        """Return whether the server would take requests; False also when nobody answers there."""
        return await self._core.server_ready(self._core.deadline(timeout))

    async def model_ready(
        self, model: str, *, version: str = "", timeout: float | None = None
    ) -> bool:
        """Return whether a version of ``model`` is ready: any of them when none is named."""
        return await self._core.model_ready(model, version, self._core.deadline(timeout))

    async def wait_until_ready(
        self, model: str = "", *, version: str = "", timeout: float | None = None
    ) -> None:
        """Return once the server is ready, or one of its models, as ``Client`` does."""
        await self._core.wait_until_ready(model, version, timeout)

    async def status(
        self, model: str = "", *, timeout: float | None = None
    ) -> jitney_v1.ServerStatus:
        """Return what the server says about itself, its devices and its models, or only one."""
        return await self._core.status(model, timeout)

    async def trace_settings(
        self, model: str = "", *, timeout: float | None = None
    ) -> TraceSettings:
        """Return which requests are traced: those of one model, or of all without one of its own.

        :raises NotSupported: when the server traces nothing.
        """
        return await self._core.trace_settings(model, {}, timeout)

    async def update_trace_settings(
        self, model: str = "", *, timeout: float | None = None, **changes: Unpack[TraceChanges]
    ) -> TraceSettings:
        """Change which requests are traced, as ``Client.update_trace_settings`` does."""
        return await self._core.trace_settings(model, changes, timeout)

    async def log_settings(self, *, timeout: float | None = None) -> LogSettings:
        """Return what the server logs."""
        return await self._core.log_settings({}, timeout)

    async def update_log_settings(
        self, *, timeout: float | None = None, **changes: Unpack[LogChanges]
    ) -> LogSettings:
        """Change what the server logs, as ``Client.update_log_settings`` does."""
        return await self._core.log_settings(changes, timeout)
