"""Spans of a server on a simulated device, as a collector gets them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from jitney.app import Server
from jitney.config import (
    DeviceSettings,
    RepositorySettings,
    ServerSettings,
    Settings,
    TelemetrySettings,
)
from jitney.testing.sim_model import SimModel, write_sim_model
from jitney.testing.sim_server import sim_commands
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

CALLS = 30
CALL_TIMEOUT = 20.0
TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")
UNSAMPLED = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-00")


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.service = ""
        self.spans: list[Any] = []

    def Export(self, request: Any, _: object) -> Any:
        """Take spans."""
        for resource in request.resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            self.service = names["service.name"]
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return service.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Any]:
        """Return the spans of a name."""
        return [span for span in self.spans if span.name.endswith(name)]


@contextlib.contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """Collect spans; yield the collector and its endpoint."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextlib.asynccontextmanager
async def serving(repository: Path, **telemetry: Any) -> AsyncIterator[grpc.aio.Channel]:
    """Serve on one device; yield a channel to the server."""
    settings = Settings(
        server=ServerSettings(grpc_port=0),
        devices=DeviceSettings(slot_bytes=1 << 16),
        repository=RepositorySettings(model_repository=(repository,)),
        telemetry=TelemetrySettings(metrics=False, **telemetry),
    )
    commands = sim_commands(settings.devices, os.environ, 1)
    server = Server(settings, os.environ, lambda _: None, commands)
    try:
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.listeners.port}") as channel:
            yield channel
    finally:
        await server.stop(asyncio.Event())


def request_of(id_: str, model: str = "sim") -> pb.ModelInferRequest:
    """Return a request of one row."""
    request = pb.ModelInferRequest(model_name=model, id=id_)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    request.raw_input_contents.append(bytes(16))
    return request


def method_of(channel: grpc.aio.Channel, name: str) -> Any:
    """Return a method of a server."""
    method = pb.METHODS[name]
    make = channel.stream_stream if name == "ModelStreamInfer" else channel.unary_unary
    return make(
        method.path,
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.response.FromString,
    )


def facts(span: Any) -> dict[str, Any]:
    """Return the attributes of a span."""
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_a_collector_gets_the_spans_of_traced_calls(tmp_path: Path) -> None:
    """Each call with its wait and its computation, and the batches that they shared."""
    write_sim_model(tmp_path, "sim", SimModel(alpha=0.002, beta=0.0005), max_rows=8)

    async def play(endpoint: str) -> None:
        async with serving(tmp_path, otlp_endpoint=endpoint, trace_sample_ratio=0.0) as channel:
            infer = method_of(channel, "ModelInfer")
            calls = [
                infer(request_of(str(n)), timeout=CALL_TIMEOUT, metadata=[header])
                for n in range(CALLS)
                for header in (SAMPLED, UNSAMPLED)
            ]
            await asyncio.gather(*calls)
            await infer(request_of("plain"), timeout=CALL_TIMEOUT)
            with contextlib.suppress(grpc.aio.AioRpcError):
                await infer(request_of("x", "nobody"), timeout=CALL_TIMEOUT, metadata=[SAMPLED])

    with collecting() as (collector, endpoint):
        asyncio.run(play(endpoint))
    calls = {facts(span)["jitney.request.id"]: span for span in collector.named("ModelInfer")}
    batches = {span.span_id: span for span in collector.named("batch")}

    assert ("jitney", {*map(str, range(CALLS)), "x"}) == (collector.service, set(calls))
    assert {TRACE} == {span.trace_id.hex() for span in calls.values()}
    refused = facts(calls.pop("x"))
    assert ("NOT_FOUND", "MODEL_NOT_FOUND") == (
        refused["rpc.response.status_code"],
        refused["error.type"],
    )
    for name in ("queue", "compute"):
        assert sorted(span.span_id for span in calls.values()) == sorted(
            span.parent_span_id
            for span in collector.named(name)
            if span.parent_span_id in {call.span_id for call in calls.values()}
        )
    linked = [link.span_id for batch in batches.values() for link in batch.links]
    assert sorted(linked) == sorted(span.span_id for span in calls.values())
    assert {link.span_id for span in collector.named("compute") for link in span.links} == set(
        batches
    )
    assert len(batches) < CALLS
    for call in calls.values():
        inner = [s for s in collector.spans if s.parent_span_id == call.span_id]
        assert {True} == {
            call.start_time_unix_nano <= s.start_time_unix_nano
            and s.end_time_unix_nano <= call.end_time_unix_nano
            for s in inner
        }


def test_each_request_of_a_stream_has_a_span(tmp_path: Path) -> None:
    """Below the span of whoever opened the stream."""
    write_sim_model(tmp_path, "sim", SimModel(alpha=0.001, beta=0.0), max_rows=8)

    async def play(endpoint: str) -> None:
        async with serving(tmp_path, otlp_endpoint=endpoint) as channel:
            requests = [request_of("a"), request_of("b"), request_of("c", "nobody")]
            call = method_of(channel, "ModelStreamInfer")(
                iter(requests), timeout=CALL_TIMEOUT, metadata=[SAMPLED]
            )
            assert 3 == len([reply async for reply in call])

    with collecting() as (collector, endpoint):
        asyncio.run(play(endpoint))
    found = {
        facts(span)["jitney.request.id"]: facts(span)["rpc.response.status_code"]
        for span in collector.named("ModelStreamInfer")
    }

    assert {"a": "OK", "b": "OK", "c": "NOT_FOUND"} == found


def test_a_request_in_parts_is_computed_in_several_batches(tmp_path: Path) -> None:
    """Its span has one below it for each."""
    write_sim_model(tmp_path, "sim", SimModel(alpha=0.001, beta=0.0), max_rows=4)

    async def play(endpoint: str) -> None:
        async with serving(tmp_path, otlp_endpoint=endpoint, trace_sample_ratio=1.0) as channel:
            request = request_of("large")
            request.inputs[0].shape[0] = 10
            request.raw_input_contents[0] = bytes(160)
            await method_of(channel, "ModelInfer")(request, timeout=CALL_TIMEOUT)

    with collecting() as (collector, endpoint):
        asyncio.run(play(endpoint))

    assert 10 == sum(facts(span)["jitney.rows"] for span in collector.named("compute"))
    assert 3 == len(collector.named("batch"))


def test_a_server_without_its_collector_serves_and_stops(tmp_path: Path) -> None:
    """Spans are lost then, and nothing else."""
    write_sim_model(tmp_path, "sim", SimModel(alpha=0.001, beta=0.0), max_rows=8)

    async def play() -> str:
        telemetry = {"otlp_endpoint": "http://127.0.0.1:1", "trace_sample_ratio": 1.0}
        async with serving(tmp_path, **telemetry) as channel:
            reply = await method_of(channel, "ModelInfer")(request_of("a"), timeout=CALL_TIMEOUT)
            return str(reply.id)

    assert "a" == asyncio.run(play())
