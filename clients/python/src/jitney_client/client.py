"""The blocking client."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, Literal, overload

from jitney_client.blocking import BlockingTransport, run
from jitney_client.caller import METHODS
from jitney_client.connection import Connection
from jitney_client.core import Core
from jitney_client.deadline import Deadline
from jitney_client.many import many_blocking
from jitney_client.options import check_options
from jitney_client.progress import Progress
from jitney_client.result import InferResult
from jitney_client.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self, Unpack

    from jitney_client.connection import ConnectionOptions
    from jitney_client.many import Failure
    from jitney_client.options import InferOptions
    from jitney_client.prepared import Inputs
    from jitney_client.progress import Told
    from jitney_client.protocol import inference, jitney_v1
    from jitney_client.settings import LogChanges, LogSettings, TraceChanges, TraceSettings

__all__ = ["Client", "InferResult"]


class Client:
    """A connection to a server; connects at the first call, and again after a failure.

    :param address: a gRPC target such as ``"127.0.0.1:8001"``. Several addresses are called in
        turn, those left out that cannot be reached; a list of one name stands for all servers that
        the name has in DNS.
    :param options: ``ConnectionOptions``, which says what each of them is.
    :raises ValueError: when an option makes no sense.
    :raises OSError: when a file of ``tls`` cannot be read, or a name is not known.

    - May be used by several threads at once, not across a fork.
    - Every call raises a subclass of ``JitneyError`` when it fails.
    - What failed for a reason that passes, and is safe to repeat, is repeated (``retries``).
    """

    def __init__(self, address: str | Sequence[str], **options: Unpack[ConnectionOptions]) -> None:
        connection = Connection.to(address, options)
        self._transport = BlockingTransport(connection)
        self._core = Core(self._transport, connection)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def __repr__(self) -> str:
        """Return the address."""
        return f"<Client {self._core.connection.target.uri}>"

    def close(self) -> None:
        """Close the connection; calls that are running end with ``Cancelled``."""
        run(self._core.close())
        self._transport.close()

    # -- inference --------------------------------------------------------------------------------

    def infer(self, model: str, inputs: Inputs, **options: Unpack[InferOptions]) -> InferResult:
        """Run ``model`` once.

        :param inputs: arrays by name, the batch dimension included; for a model with one input,
            the array alone will do.
        :param options: ``InferOptions``: ``version``, ``outputs``, ``timeout``, ``priority``, …
        :raises InvalidRequest: when the inputs do not fit the model: mostly before they are sent.
        :raises TypeError: when the protocol has no datatype for an array, or on an unknown option.
        :raises ValueError: when one array is given for a model with several inputs, or an option
            makes no sense.
        :raises JitneyError: when the call fails.
        """
        return run(self._core.infer(model, inputs, options))

    @overload
    def infer_many(
        self,
        model: str,
        items: Iterable[Inputs],
        *,
        concurrency: int = ...,
        progress: bool | Told | None = ...,
        return_errors: Literal[False] = ...,
        **options: Unpack[InferOptions],
    ) -> Iterator[InferResult]: ...

    @overload
    def infer_many(
        self,
        model: str,
        items: Iterable[Inputs],
        *,
        concurrency: int = ...,
        progress: bool | Told | None = ...,
        return_errors: Literal[True],
        **options: Unpack[InferOptions],
    ) -> Iterator[InferResult | Failure]: ...

    def infer_many(
        self,
        model: str,
        items: Iterable[Inputs],
        *,
        concurrency: int = 16,
        progress: bool | Told | None = None,
        return_errors: bool = False,
        **options: Unpack[InferOptions],
    ) -> Iterator[InferResult | Failure]:
        """Run ``model`` on each item, ``concurrency`` at a time; yield the results in order.

        Items are taken from the iterable as they are needed, so it may be endless. Leaving the loop
        early gives up what has not begun.

        :param items: what ``infer`` takes as inputs, each.
        :param progress: True shows a bar on the terminal; a function is told after each result how
            many are done, and how many there are, None where the iterable does not say.
        :param return_errors: give out the error of an item in its place, instead of raising the
            first one and giving up the rest.
        :param options: of each call, as of ``infer``.
        """
        check_options(options, call=True)
        total = len(items) if isinstance(items, Sized) else None
        return many_blocking(
            lambda inputs: run(self._core.infer(model, inputs, options)),
            items,
            concurrency,
            Progress(progress, total),
            return_errors=return_errors,
        )

    def stream(
        self, *, max_in_flight: int = 64, timeout: float | None = None, tenant: str | None = None
    ) -> Stream:
        """Begin a stream: many requests over one call, for many small ones or decoupled models.

        :param max_in_flight: requests that may be sent and not answered.
        :param timeout: seconds after which the whole stream ends; None, also where the client has
            one for its calls, lasts as long as it is used.
        """
        path, seconds = METHODS["ModelStreamInfer"].path, Deadline(timeout).remaining()
        metadata = self._core.caller.metadata(tenant)
        return Stream(
            self._core,
            lambda messages: self._transport.stream(path, messages, seconds, metadata),
            max_in_flight,
        )

    # -- models -----------------------------------------------------------------------------------

    def metadata(
        self, model: str, *, version: str = "", timeout: float | None = None
    ) -> inference.ModelMetadataResponse:
        """Return the names, datatypes and shapes of a model's inputs and outputs."""
        return run(self._core.metadata(model, version, timeout))

    def config(
        self, model: str, *, version: str = "", timeout: float | None = None
    ) -> inference.ModelConfig:
        """Return a model's configuration in Triton's terms."""
        return run(self._core.config(model, version, timeout))

    def statistics(
        self, model: str = "", *, version: str = "", timeout: float | None = None
    ) -> Sequence[inference.ModelStatistics]:
        """Return the counters of each ready version: of one model, or of all without a name."""
        return run(self._core.statistics(model, version, timeout))

    def models(
        self, *, ready: bool = False, timeout: float | None = None
    ) -> Sequence[inference.RepositoryIndexResponse.ModelIndex]:
        """Return the state of every version in the repository, or only of those that are ready."""
        return run(self._core.models(timeout, ready=ready))

    def load(
        self,
        model: str,
        *,
        config: Mapping[str, object] | str | None = None,
        files: Mapping[str, bytes | Path] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Load a model, or load it again after it was changed; return when it is ready.

        :param config: what shall differ from its configuration, as a mapping or its JSON.
        :param files: files to use in place of the repository's, by names such as ``1/model.pt``.
        :raises ControlDisabled: when the server's operator does not allow that.
        :raises JitneyError: when it cannot be loaded; what was served before still is.
        """
        run(self._core.load(model, config, files, timeout))

    def unload(self, model: str, *, timeout: float | None = None) -> None:
        """Stop serving a model; requests in flight finish.

        :raises ControlDisabled: when the server's operator does not allow that.
        """
        run(self._core.unload(model, timeout))

    # -- the server -------------------------------------------------------------------------------

    def server_metadata(self, *, timeout: float | None = None) -> inference.ServerMetadataResponse:
        """Return the server's name, release, and what it offers beyond the base protocol."""
        return run(self._core.server_metadata(timeout))

    def server_ready(self, *, timeout: float | None = None) -> bool:
        """Return whether the server would take requests; False also when nobody answers there."""
        return run(self._core.server_ready(self._core.deadline(timeout)))

    def model_ready(self, model: str, *, version: str = "", timeout: float | None = None) -> bool:
        """Return whether a version of ``model`` is ready: any of them when none is named."""
        return run(self._core.model_ready(model, version, self._core.deadline(timeout)))

    def wait_until_ready(
        self, model: str = "", *, version: str = "", timeout: float | None = None
    ) -> None:
        """Return once the server is ready, or one of its models.

        :raises DeadlineExceeded: when it is not within ``timeout`` seconds, by default the
            client's; the text says why not, where the server knows.
        """
        run(self._core.wait_until_ready(model, version, timeout))

    def status(self, model: str = "", *, timeout: float | None = None) -> jitney_v1.ServerStatus:
        """Return what the server says about itself, its devices and its models, or only one model.

        :raises NotSupported: when the server is not a jitney.
        """
        return run(self._core.status(model, timeout))

    def trace_settings(self, model: str = "", *, timeout: float | None = None) -> TraceSettings:
        """Return which requests are traced: those of one model, or of all without one of its own.

        :raises NotSupported: when the server traces nothing.
        """
        return run(self._core.trace_settings(model, {}, timeout))

    def update_trace_settings(
        self, model: str = "", *, timeout: float | None = None, **changes: Unpack[TraceChanges]
    ) -> TraceSettings:
        """Change which requests are traced; return the settings as they are then.

        :param changes: ``TraceChanges``: ``levels``, ``rate``, ``count``, ``log_frequency``. What
            is not named stays; None goes back to what holds without a setting.
        :raises InvalidRequest: when a value is none that the server takes; then nothing changes.
        :raises TypeError: on an unknown setting, or a value of another type.
        """
        return run(self._core.trace_settings(model, changes, timeout))

    def log_settings(self, *, timeout: float | None = None) -> LogSettings:
        """Return what the server logs."""
        return run(self._core.log_settings({}, timeout))

    def update_log_settings(
        self, *, timeout: float | None = None, **changes: Unpack[LogChanges]
    ) -> LogSettings:
        """Change what the server logs; return the settings as they are then.

        :param changes: ``LogChanges``: ``info``, ``warning``, ``error``, ``verbose_level``,
            ``format``. What is not named stays.
        :raises InvalidRequest: when a value is none that the server takes; then nothing changes.
        :raises TypeError: on an unknown setting, or a value of another type.
        """
        return run(self._core.log_settings(changes, timeout))
