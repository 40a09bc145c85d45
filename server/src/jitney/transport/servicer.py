"""The RPCs: decode, ask, encode."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import grpc

from jitney.access import READ, current
from jitney.errors import InvalidRequest, JitneyError, ModelNotFound
from jitney.repository.handle import VersionState
from jitney.transport import describe
from jitney.transport.snapshot import snapshot
from jitney_client.protocol import inference as pb
from jitney_client.protocol import jitney_v1 as own

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from jitney.overview import Overview
    from jitney.repository.handle import ModelVersion
    from jitney.repository.repository import Repository
    from jitney.telemetry.metrics import Metrics
    from jitney.transport.inference import InferenceRpcs
    from jitney.transport.status import Context, Statuses

    Rpc = Callable[..., Awaitable[object]]

__all__ = ["Identity", "InferenceServicer"]


class Identity(NamedTuple):
    """What ServerMetadata answers."""

    name: str
    version: str
    extensions: Sequence[str] = ()


class InferenceServicer:
    """``inference.GRPCInferenceService`` and ``jitney.v1.Status`` over an engine.

    Every method takes the request message and returns the reply. A ``JitneyError`` ends the call
    with its status; anything else is a bug: the caller gets INTERNAL and a number, and the log has
    the rest under that number. Who may call what was asked before (``guard``); answers about all
    models leave out those that the caller may not read.
    """

    def __init__(
        self,
        identity: Identity,
        inference: InferenceRpcs,
        repository: Repository,
        overview: Overview,
        metrics: Metrics,
        statuses: Statuses,
        rpcs: Mapping[str, Rpc],
    ) -> None:
        """Serve.

        :param rpcs: the RPCs whose own objects serve them, by name.
        """
        self._identity = identity
        self._inference = inference
        self._repository = repository
        self._overview = overview
        self._metrics = metrics
        self._statuses = statuses
        self._rpcs = rpcs

    # -- the server -----------------------------------------------------------------------------

    async def server_live(self, _: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """ServerLive: the process answers."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """ServerReady: it can serve what it should."""
        return pb.ServerReadyResponse(ready=self._overview.is_ready())

    async def server_metadata(self, _: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """ServerMetadata."""
        name, version, extensions = self._identity
        return pb.ServerMetadataResponse(name=name, version=version, extensions=extensions)

    # -- models ---------------------------------------------------------------------------------

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """ModelReady: false, and no error, for what is unknown; clients rely on that."""
        try:
            version = self._repository.resolve(request.name, request.version)
        except InvalidRequest:
            raise
        except JitneyError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=version.state is VersionState.READY)

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """ModelMetadata."""
        version = self._ready(request.name, request.version)
        if request.version:
            return describe.metadata(version, [version.ref.version])
        ready = [
            v.ref.version
            for v in self._repository.versions(request.name)
            if v.state is VersionState.READY
        ]
        return describe.metadata(version, ready)

    async def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """ModelConfig."""
        version = self._ready(request.name, request.version)
        return pb.ModelConfigResponse(config=describe.config(version))

    async def model_statistics(
        self, request: pb.ModelStatisticsRequest
    ) -> pb.ModelStatisticsResponse:
        """ModelStatistics: of all that is ready, of one model, or of one version."""
        if request.name and request.version:
            chosen = [self._available(request.name, request.version)]
        elif request.name:
            self._available(request.name, "")
            chosen = list(self._repository.versions(request.name))
        else:
            caller = current()
            chosen = [v for v in self._repository.versions() if caller.may(READ, v.ref.name)]
        return pb.ModelStatisticsResponse(
            model_stats=[
                describe.statistics(version, self._metrics.figures(version.ref))
                for version in chosen
                if version.state is VersionState.READY
            ]
        )

    async def status(self, request: own.GetStatusRequest) -> own.ServerStatus:
        """GetStatus of ``jitney.v1.Status``."""
        name = request.model_name
        if name and name not in self._repository.names():
            msg = f"Request for unknown model: '{name}' is not found"
            raise ModelNotFound(msg)
        caller = current()
        status = snapshot(
            self._overview,
            self._repository,
            lambda model: model == name if name else caller.may(READ, model),
        )
        status.version = self._identity.version
        return status

    def _ready(self, name: str, version: str) -> ModelVersion:
        found = self._repository.resolve(name, version)
        found.ensure_ready()
        return found

    def _available(self, name: str, version: str) -> ModelVersion:
        try:
            return self._ready(name, version)
        except JitneyError as error:
            msg = f"requested model '{name}' is not available: {error}"
            raise InvalidRequest(msg) from None

    # -- handlers -------------------------------------------------------------------------------

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Return the handlers of both services, every RPC of the protocol included."""
        served: dict[str, Rpc] = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
            "ModelMetadata": self.model_metadata,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            **self._rpcs,
        }
        methods: dict[str, grpc.RpcMethodHandler] = {
            # No (de)serialisers: the codec works on the bytes themselves.
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self._inference.infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._inference.stream),
        }
        for name, method in pb.METHODS.items():
            if name in methods:
                continue
            methods[name] = grpc.unary_unary_rpc_method_handler(
                self._guard(name, served[name]),
                request_deserializer=method.request.FromString,
                response_serializer=method.response.SerializeToString,
            )
        get_status = own.METHODS["GetStatus"]
        status = grpc.unary_unary_rpc_method_handler(
            self._guard("GetStatus", self.status),
            request_deserializer=get_status.request.FromString,
            response_serializer=get_status.response.SerializeToString,
        )
        return [
            grpc.method_handlers_generic_handler(pb.SERVICE, methods),
            grpc.method_handlers_generic_handler(own.SERVICE, {"GetStatus": status}),
        ]

    def _guard(self, name: str, call: Rpc) -> Callable[[object, Context], Awaitable[object]]:
        """Wrap an RPC that runs no model: count it, and turn errors into statuses."""

        async def handler(request: object, context: Context) -> object:
            code = "OK"
            try:
                return await call(request)
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except Exception as error:  # noqa: BLE001  # the RPC boundary: a bug ends one call
                code = self._statuses.code_of(error).name
                await self._statuses.abort(context, error)
            finally:
                self._metrics.request_ended(None, name, code)

        return handler
