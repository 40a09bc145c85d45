"""Everything that is served, as gRPC's handlers, before anybody listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import aio

from jitney_client.protocol import inference as pb
from jitney_client.protocol import jitney_v1 as own

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jitney.transport.health import HealthReporter
    from jitney.transport.servicer import InferenceServicer

    Handler = Any  # gRPC's have no types

__all__ = [
    "SERVICES",
    "behaviour_of",
    "collect",
    "handler_of",
    "health_handlers",
    "method_paths",
    "our_methods",
    "rebuilt",
]

SERVICES: Final = (
    (pb.POOL, pb.SERVICE),
    (own.POOL, own.SERVICE),
    (health_pb2.DESCRIPTOR.pool, "grpc.health.v1.Health"),
)
"""Every service that the server offers to callers, with the pool that describes it."""
REFLECTION: Final = (reflection_pb2.DESCRIPTOR.pool, "grpc.reflection.v1alpha.ServerReflection")
MAKERS: Final = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
"""By whether requests and replies are streams."""


class _Basket:
    """What the registering functions of gRPC's packages take for a server."""

    def __init__(self) -> None:
        self.handlers: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.GenericRpcHandler, ...]) -> None:
        """Keep them."""
        self.handlers.extend(handlers)

    def add_registered_method_handlers(self, *_: object) -> None:
        """Keep nothing: they are the same once more, and would be asked before any guard is."""


def collect(
    servicer: InferenceServicer, health: HealthReporter, *, reflection: bool
) -> list[grpc.GenericRpcHandler]:
    """Return the handlers of every service."""
    handlers = [*servicer.handlers(), *health_handlers(health)]
    return [*handlers, *_reflection_handlers()] if reflection else handlers


def health_handlers(health: HealthReporter) -> list[grpc.GenericRpcHandler]:
    """Return the handlers of ``grpc.health.v1.Health`` alone."""
    basket = _Basket()
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, basket)
    return basket.handlers


def _reflection_handlers() -> list[grpc.GenericRpcHandler]:
    # Reflection serves one pool; ours are private and health's is the default one, so the
    # files of all three are put together in a new one.
    pool = DescriptorPool()
    for source, service in SERVICES:
        file = source.FindServiceByName(service).file
        for needed in (*file.dependencies, file):
            pool.AddSerializedFile(needed.serialized_pb)
    basket = _Basket()
    servicer = aio.ReflectionServicer([service for _, service in SERVICES], pool=pool)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, basket)
    return basket.handlers


def method_paths() -> list[str]:
    """Return the path of every method that is or can be served, from the descriptors."""
    return [
        f"/{service}/{method.name}"
        for pool, service in (*SERVICES, REFLECTION)
        for method in pool.FindServiceByName(service).methods
    ]


def our_methods() -> dict[str, str]:
    """Return the name of each method of our own services by its path: those that are counted."""
    return {
        f"/{service}/{method.name}": method.name
        for pool, service in SERVICES[:2]
        for method in pool.FindServiceByName(service).methods
    }


class _Details(NamedTuple):
    """What gRPC tells of a call before it is handled."""

    method: str
    invocation_metadata: tuple[tuple[str, str], ...] = ()


def handler_of(handlers: Iterable[grpc.GenericRpcHandler], path: str) -> Handler:
    """Return what handles a method, None where nothing does."""
    found = (one.service(_Details(path)) for one in handlers)
    return next((handler for handler in found if handler is not None), None)


def behaviour_of(handler: Handler) -> Any:  # noqa: ANN401  # gRPC has no types
    """Return the function in a handler."""
    return (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )


def rebuilt(handler: Handler, behaviour: object) -> Handler:
    """Return a handler like another one, with another function in it."""
    make = MAKERS[handler.request_streaming, handler.response_streaming]
    return make(behaviour, handler.request_deserializer, handler.response_serializer)
