"""From compiled descriptors to message classes, without touching the default descriptor pool."""

from __future__ import annotations

from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jitney_client.protocol.message import Message

__all__ = ["Method", "bind", "methods", "read"]


class Method(NamedTuple):
    """An RPC: its path on the wire, its messages, and which sides send a stream."""

    path: str
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool


def read(name: str) -> FileDescriptorSet:
    """Return the compiled descriptors ``name`` of this package, imports before importers."""
    data = (resources.files("jitney_client.protocol") / name).read_bytes()
    return FileDescriptorSet.FromString(data)


def bind(files: FileDescriptorSet) -> tuple[DescriptorPool, dict[str, Any]]:
    """Return a new pool of ``files``, and what a module of them holds.

    That is: the class of every top-level message, the wrapper of every top-level enum, and the
    numbers of their values, by name. Nested ones are attributes of their message's class.
    """
    pool = DescriptorPool()
    names: dict[str, Any] = {}
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
        descriptor = pool.FindFileByName(file.name)
        for name, message in descriptor.message_types_by_name.items():
            names[name] = GetMessageClass(message)
        for name, enum in descriptor.enum_types_by_name.items():
            names[name] = EnumTypeWrapper(enum)
            names.update((value.name, value.number) for value in enum.values)
    return pool, names


def methods(pool: DescriptorPool, service: str) -> Mapping[str, Method]:
    """Return the RPCs of ``service`` by name, in the order of the proto file."""
    return MappingProxyType(
        {
            method.name: Method(
                f"/{service}/{method.name}",
                GetMessageClass(method.input_type),
                GetMessageClass(method.output_type),
                method.client_streaming,
                method.server_streaming,
            )
            for method in pool.FindServiceByName(service).methods
        }
    )
