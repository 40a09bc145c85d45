"""What both clients do, written once: everything but input and output.

The methods are coroutines on top of a transport. ``AsyncClient`` awaits them; ``Client`` runs them
to their end at once, on a transport that blocks. (Generators that yield the calls to make would do
as well, but no type checker can see what comes back from a ``yield``.)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from jitney_client.caller import METHODS, Caller
from jitney_client.contracts import Contracts
from jitney_client.deadline import NEVER, Deadline
from jitney_client.errors import (
    DeadlineExceeded,
    InvalidReply,
    InvalidRequest,
    JitneyError,
    NotFound,
    Overloaded,
    RegionNotFound,
    Unavailable,
)
from jitney_client.options import check_options
from jitney_client.placement import place
from jitney_client.protocol import inference, jitney_v1
from jitney_client.regions import Regions
from jitney_client.reply_memory import read_reply
from jitney_client.requests import Requests
from jitney_client.result import InferResult
from jitney_client.settings import log_request, read_log, read_trace, trace_request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney_client.caller import Transport
    from jitney_client.connection import Connection
    from jitney_client.options import InferOptions, RequestOptions
    from jitney_client.placement import Placement
    from jitney_client.prepared import Inputs, Prepared
    from jitney_client.settings import LogChanges, LogSettings, TraceChanges, TraceSettings

__all__ = ["Core"]

INFER: Final = METHODS["ModelInfer"].path
PROBE: Final = 5.0
"""Seconds after which a server that does not say whether it is ready is asked again."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
"""Seconds between two such questions, growing."""


class Core:
    """A client without its I/O."""

    def __init__(self, transport: Transport, connection: Connection) -> None:
        self.connection = connection
        self.caller = Caller(transport, connection)
        self._requests = Requests(Contracts(self.caller), check=connection.check)
        self._regions: Regions | None = None
        shared = connection.shared_memory
        # One server is to have the regions, and it has to be on this machine.
        if shared and connection.target.local and not connection.target.balanced:
            self._regions = Regions(self.caller, insist=shared is True)

    async def close(self) -> None:
        """Let the server forget what belongs to this client; the connections are still there."""
        if self._regions is not None:
            await self._regions.close()

    def deadline(self, timeout: float | None) -> Deadline:
        """Return when a call has to end: by its own timeout, or the client's."""
        if timeout is None:
            timeout = self.connection.timeout
        return NEVER if timeout is None else Deadline(timeout)

    # -- inference --------------------------------------------------------------------------------

    async def infer(self, model: str, inputs: Inputs, options: InferOptions) -> InferResult:
        """Run a model once."""
        if options:
            check_options(options, call=True)
        deadline = self.deadline(options.get("timeout"))
        # Not through ``prepare``: what most calls take is kept short. Between two calls other code
        # has the processor, and each line costs several times what a loop over it shows.
        prepared = self._requests.find(model, inputs, options)
        if prepared is None:
            prepared = await self._requests.make(model, inputs, options, deadline)
        if prepared.head.sequenced and self.connection.target.balanced:
            msg = (
                "a sequence belongs to one server, and the calls of this client go to several in "
                "turn: use a stream, or a client of one address"
            )
            raise ValueError(msg)
        tenant = options.get("tenant")
        try:
            return await self._send(prepared, deadline, tenant)
        except InvalidRequest:
            # What fitted does not: the model may have been replaced. A sequence is not repeated.
            if prepared.head.sequenced or not await self._requests.renew(model, options, deadline):
                raise
            prepared = await self.prepare(model, inputs, options, deadline)
            return await self._send(prepared, deadline, tenant)

    async def prepare(
        self, model: str, inputs: Inputs, options: RequestOptions, deadline: Deadline
    ) -> Prepared:
        """Put a request together and check it; raises as ``Requests.make`` does."""
        prepared = self._requests.find(model, inputs, options)
        if prepared is None:
            prepared = await self._requests.make(model, inputs, options, deadline)
        return prepared

    async def _send(
        self, prepared: Prepared, deadline: Deadline, tenant: str | None
    ) -> InferResult:
        head, regions = prepared.head, self._regions
        if head.large and regions is not None and regions.possible:
            placement = await place(prepared, regions)
            try:
                return await self._send_placed(prepared, placement, deadline, tenant)
            except RegionNotFound:
                # Another server listens there now. It has not begun with the request, so even one
                # of a sequence may be sent again.
                pass
        data = await self.caller.send(
            INFER, prepared.message(), deadline, tenant=tenant, repeat=not head.sequenced
        )
        if not head.classified:
            return head.replies.read(data, head.model)
        reply, raw = read_reply(data, head.model)
        return InferResult(reply, raw, classified=head.classified)

    async def _send_placed(
        self, prepared: Prepared, placement: Placement, deadline: Deadline, tenant: str | None
    ) -> InferResult:
        """Send a request, tensors of which are in shared memory."""
        message = placement.message(prepared.request_id)
        try:
            data = await self.caller.send(
                INFER, message, deadline, tenant=tenant, repeat=not prepared.head.sequenced
            )
        except RegionNotFound:
            placement.forget()
            raise
        except (InvalidRequest, NotFound, Overloaded):
            placement.give_back()  # the server refused it, and touches none of it
            raise
        except BaseException:
            placement.retire()
            raise
        reply, raw = read_reply(data, prepared.head.model)
        try:
            elsewhere = placement.take_outputs(reply)
        except ValueError as error:
            placement.retire()
            msg = f"the reply of {prepared.head.model!r} contradicts the request: {error}"
            raise InvalidReply(msg, code=grpc.StatusCode.OK) from None
        return InferResult(reply, raw, classified=prepared.head.classified, elsewhere=elsewhere)

    # -- models -----------------------------------------------------------------------------------

    async def metadata(
        self, model: str, version: str, timeout: float | None
    ) -> inference.ModelMetadataResponse:
        """ModelMetadata."""
        request = inference.ModelMetadataRequest(name=model, version=version)
        return await self.caller.call(
            "ModelMetadata", request, inference.ModelMetadataResponse, self.deadline(timeout)
        )

    async def config(
        self, model: str, version: str, timeout: float | None
    ) -> inference.ModelConfig:
        """ModelConfig."""
        request = inference.ModelConfigRequest(name=model, version=version)
        reply = await self.caller.call(
            "ModelConfig", request, inference.ModelConfigResponse, self.deadline(timeout)
        )
        return reply.config

    async def statistics(
        self, model: str, version: str, timeout: float | None
    ) -> Sequence[inference.ModelStatistics]:
        """ModelStatistics."""
        request = inference.ModelStatisticsRequest(name=model, version=version)
        reply = await self.caller.call(
            "ModelStatistics", request, inference.ModelStatisticsResponse, self.deadline(timeout)
        )
        return reply.model_stats

    async def models(
        self, timeout: float | None, *, ready: bool
    ) -> Sequence[inference.RepositoryIndexResponse.ModelIndex]:
        """RepositoryIndex."""
        request = inference.RepositoryIndexRequest(ready=ready)
        reply = await self.caller.call(
            "RepositoryIndex", request, inference.RepositoryIndexResponse, self.deadline(timeout)
        )
        return reply.models

    async def load(
        self,
        model: str,
        config: Mapping[str, object] | str | None,
        files: Mapping[str, bytes | Path] | None,
        timeout: float | None,
    ) -> None:
        """RepositoryModelLoad."""
        request = inference.RepositoryModelLoadRequest(model_name=model)
        if config is not None:
            text = config if isinstance(config, str) else json.dumps(config)
            request.parameters["config"].string_param = text
        for name, content in (files or {}).items():
            data = content.read_bytes() if isinstance(content, Path) else content
            request.parameters[f"file:{name}"].bytes_param = data
        await self.caller.call(
            "RepositoryModelLoad",
            request,
            inference.RepositoryModelLoadResponse,
            self.deadline(timeout),
            repeat=False,
        )
        self._requests.forget(model)

    async def unload(self, model: str, timeout: float | None) -> None:
        """RepositoryModelUnload."""
        request = inference.RepositoryModelUnloadRequest(model_name=model)
        await self.caller.call(
            "RepositoryModelUnload",
            request,
            inference.RepositoryModelUnloadResponse,
            self.deadline(timeout),
            repeat=False,
        )
        self._requests.forget(model)

    # -- the server -------------------------------------------------------------------------------

    async def server_metadata(self, timeout: float | None) -> inference.ServerMetadataResponse:
        """ServerMetadata."""
        return await self.caller.call(
            "ServerMetadata",
            inference.ServerMetadataRequest(),
            inference.ServerMetadataResponse,
            self.deadline(timeout),
        )

    async def status(self, model: str, timeout: float | None) -> jitney_v1.ServerStatus:
        """GetStatus."""
        request = jitney_v1.GetStatusRequest(model_name=model)
        return await self.caller.call(
            "GetStatus", request, jitney_v1.ServerStatus, self.deadline(timeout)
        )

    async def trace_settings(
        self, model: str, changes: TraceChanges, timeout: float | None
    ) -> TraceSettings:
        """TraceSetting: without changes it only reads."""
        request = trace_request(model, changes)
        response, deadline = inference.TraceSettingResponse, self.deadline(timeout)
        return read_trace(
            await self.caller.call("TraceSetting", request, response, deadline, repeat=not changes)
        )

    async def log_settings(self, changes: LogChanges, timeout: float | None) -> LogSettings:
        """LogSettings: without changes it only reads."""
        request = log_request(changes)
        response, deadline = inference.LogSettingsResponse, self.deadline(timeout)
        return read_log(
            await self.caller.call("LogSettings", request, response, deadline, repeat=not changes)
        )

    async def server_ready(self, deadline: Deadline) -> bool:
        """ServerReady; False also where nobody answers."""
        request = inference.ServerReadyRequest()
        try:
            reply = await self.caller.call(
                "ServerReady", request, inference.ServerReadyResponse, deadline, repeat=False
            )
        except Unavailable:
            return False
        return reply.ready

    async def model_ready(self, model: str, version: str, deadline: Deadline) -> bool:
        """ModelReady."""
        request = inference.ModelReadyRequest(name=model, version=version)
        reply = await self.caller.call(
            "ModelReady", request, inference.ModelReadyResponse, deadline, repeat=False
        )
        return reply.ready

    async def wait_until_ready(self, model: str, version: str, timeout: float | None) -> None:
        """Ask until the answer is yes.

        :raises DeadlineExceeded: when it is not within the timeout; the text says why, where the
            server does.
        """
        deadline, pause = self.deadline(timeout), FIRST_PAUSE
        while not await self._is_ready(model, version, deadline):
            remaining = deadline.remaining()
            if remaining is not None and remaining <= pause:
                raise await self._not_ready(model, deadline)
            await self.caller.pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _is_ready(self, model: str, version: str, deadline: Deadline) -> bool:
        remaining = deadline.remaining()
        probe = Deadline(PROBE if remaining is None else min(PROBE, remaining))
        try:
            if model:
                return await self.model_ready(model, version, probe)
            return await self.server_ready(probe)
        except (Unavailable, DeadlineExceeded):
            return False

    async def _not_ready(self, model: str, deadline: Deadline) -> DeadlineExceeded:
        what, why = f"model {model!r}" if model else "the server", ""
        try:
            index = await self.models(PROBE, ready=False)
        except JitneyError as error:
            why = str(error)
        else:
            why = "; ".join(
                f"{entry.name}/{entry.version}: {entry.reason}"
                for entry in index
                if entry.reason and model in ("", entry.name)
            )
        text = f"{what} at {self.connection.target.uri} is not ready within {deadline.timeout:g} s"
        code = grpc.StatusCode.DEADLINE_EXCEEDED
        return DeadlineExceeded(f"{text}: {why}" if why else text, code=code)
