"""The RPCs: decode, ask, encode."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

import grpc

from jitney.errors import InvalidRequest, JitneyError, ModelNotFound, NotSupported
from jitney.repository.handle import VersionState
from jitney.transport import describe
from jitney.transport.snapshot import snapshot
from jitney.transport.status import abort, code_of
from jitney.transport.tenant import nobody
from jitney_client.protocol import inference as pb
from jitney_client.protocol import jitney_v1 as own

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jitney.clock import Clock
    from jitney.engine import Engine
    from jitney.overview import Overview
    from jitney.repository.handle import ModelVersion
    from jitney.repository.repository import Repository
    from jitney.telemetry.metrics import Metrics
    from jitney.transport.codec import Codec
    from jitney.transport.status import Context
    from jitney.transport.tenant import TenantReader
    from jitney.types import Request

    Handler = Callable[[object, Context], Awaitable[object]]

__all__ = ["Identity", "InferenceServicer"]

log = logging.getLogger(__name__)

FOREVER: Final = 1e8
"""Seconds; gRPC shows a missing deadline as one in the far future."""


class Identity(NamedTuple):
    """What ServerMetadata answers."""

    name: str
    version: str


class InferenceServicer:
    """``inference.GRPCInferenceService`` and ``jitney.v1.Status`` over an engine.

    Every method takes the request message and returns the reply (ModelInfer: the bytes of both).
    A ``JitneyError`` ends the call with its status; anything else is a bug: the caller gets
    INTERNAL and a number, and the log has the rest under that number.
    """

    def __init__(
        self,
        identity: Identity,
        engine: Engine,
        repository: Repository,
        codec: Codec,
        overview: Overview,
        clock: Clock,
        metrics: Metrics,
        tenant_of: TenantReader = nobody,
    ) -> None:
        self._identity = identity
        self._engine = engine
        self._repository = repository
        self._codec = codec
        self._overview = overview
        self._clock = clock
        self._metrics = metrics
        self._tenant_of = tenant_of

    # -- inference ------------------------------------------------------------------------------

    async def infer(self, message: bytes, context: Context) -> bytes:
        """ModelInfer, from bytes to bytes."""
        request: Request | None = None
        code = "OK"
        try:
            remaining = context.time_remaining()
            deadline = math.inf
            if remaining is not None and remaining < FOREVER:
                deadline = self._clock.now() + remaining
            request = self._codec.decode(message, deadline, self._tenant_of(context))
            return await self._engine.infer(request)  # type: ignore[return-value]  # our codec's reply
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception as error:  # noqa: BLE001  # the RPC boundary: a bug ends one call
            code = _code_name(error)
            if request is None and isinstance(error, JitneyError):
                # What came later was counted where it was refused.
                self._metrics.request_refused(None, error)
            await _end(context, error)
        finally:
            self._metrics.request_ended(request.model if request else None, "ModelInfer", code)

    # -- the server -----------------------------------------------------------------------------

    async def server_live(self, _: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """ServerLive: the process answers."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """ServerReady: it can serve what it should."""
        return pb.ServerReadyResponse(ready=self._overview.is_ready())

    async def server_metadata(self, _: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """ServerMetadata."""
        name, version = self._identity
        return pb.ServerMetadataResponse(name=name, version=version, extensions=describe.EXTENSIONS)

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
            chosen = list(self._repository.versions())
        return pb.ModelStatisticsResponse(
            model_stats=[
                describe.statistics(version, self._metrics.figures(version.ref))
                for version in chosen
                if version.state is VersionState.READY
            ]
        )

    async def repository_index(
        self, request: pb.RepositoryIndexRequest
    ) -> pb.RepositoryIndexResponse:
        """RepositoryIndex."""
        if request.repository_name:
            msg = "'repository_name' specification is not supported"
            raise NotSupported(msg)
        return describe.index(self._repository.index(), ready=request.ready)

    async def status(self, request: own.GetStatusRequest) -> own.ServerStatus:
        """GetStatus of ``jitney.v1.Status``."""
        name = request.model_name
        if name and name not in self._repository.names():
            msg = f"Request for unknown model: '{name}' is not found"
            raise ModelNotFound(msg)
        status = snapshot(self._overview, self._repository, name)
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
        served: dict[str, Callable[..., Awaitable[object]]] = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
            "ModelMetadata": self.model_metadata,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            "RepositoryIndex": self.repository_index,
        }
        methods: dict[str, grpc.RpcMethodHandler] = {
            # No (de)serialisers: the codec works on the bytes themselves.
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self.infer)
        }
        for name, method in pb.METHODS.items():
            if name in methods:
                continue
            call = served.get(name) or _not_offered(name)
            make = (
                grpc.stream_stream_rpc_method_handler
                if method.client_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            methods[name] = make(
                self._guard(name, call),
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

    def _guard(self, name: str, call: Callable[..., Awaitable[object]]) -> Handler:
        """Wrap an RPC that is not ModelInfer: count it, and turn errors into statuses."""

        async def handler(request: object, context: Context) -> object:
            code = "OK"
            try:
                return await call(request)
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except Exception as error:  # noqa: BLE001  # the RPC boundary: a bug ends one call
                code = _code_name(error)
                await _end(context, error)
            finally:
                self._metrics.request_ended(None, name, code)

        return handler


def _not_offered(name: str) -> Callable[[object], Awaitable[object]]:
    async def call(_: object) -> object:
        msg = f"{name} is not offered by this server yet"
        raise NotSupported(msg)

    return call


def _code_name(error: Exception) -> str:
    return code_of(error).name if isinstance(error, JitneyError) else "INTERNAL"


async def _end(context: Context, error: Exception) -> NoReturn:
    """End a call with what an error says; of a bug the caller is told a number only."""
    if isinstance(error, JitneyError):
        await abort(context, error)
    number = secrets.token_hex(6)
    log.error("error %s in an RPC", number, exc_info=error)
    await context.abort(
        grpc.StatusCode.INTERNAL, f"internal error {number}; the server's log has the details"
    )
