"""A server on simulated devices: real processes, real gRPC, no torch and no GPU."""

from __future__ import annotations

import asyncio
import os
import struct
from typing import TYPE_CHECKING

import grpc
import psutil

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
    from pathlib import Path

CALLS = 50
CALL_TIMEOUT = 20.0


def request_of(number: int) -> pb.ModelInferRequest:
    """Return a request of one row that carries its number."""
    request = pb.ModelInferRequest(model_name="sim", id=str(number))
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    request.raw_input_contents.append(struct.pack("<4f", number, 1, 2, 3))
    return request


async def serve_calls(repository: Path) -> tuple[list[pb.ModelInferResponse], set[str], list[int]]:
    """Serve on two devices; return the replies, which devices ran batches, and the processes."""
    settings = Settings(
        server=ServerSettings(grpc_port=0, metrics_port=0),
        devices=DeviceSettings(slot_bytes=1 << 16),
        repository=RepositorySettings(model_repository=(repository,)),
        telemetry=TelemetrySettings(metrics=False),
    )
    commands = sim_commands(settings.devices, os.environ, 2)
    others = {child.pid for child in psutil.Process().children()}
    server = Server(settings, os.environ, lambda _: None, commands)
    await server.start()
    workers = [child.pid for child in psutil.Process().children() if child.pid not in others]
    method = pb.METHODS["ModelInfer"]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.listeners.port}") as channel:
            call = channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            requests = map(request_of, range(CALLS))
            replies = await asyncio.gather(*(call(r, timeout=CALL_TIMEOUT) for r in requests))
        busy = server.metrics.busy_seconds()
    finally:
        await server.stop(asyncio.Event())
    return replies, set(busy), workers


def test_every_call_is_answered_with_its_own_rows(tmp_path: Path) -> None:
    """50 calls at once share two simulated devices, each gets its bytes, and nothing is left."""
    write_sim_model(tmp_path, "sim", SimModel(alpha=0.001, beta=0.01), max_rows=16)

    replies, devices, workers = asyncio.run(serve_calls(tmp_path))

    answers = [(r.id, struct.unpack("<4f", r.raw_output_contents[0])[0]) for r in replies]
    assert answers == [(str(number), float(number)) for number in range(CALLS)]
    assert devices == {"sim:0", "sim:1"}
    assert len(workers) == 2
    assert not any(psutil.pid_exists(pid) for pid in workers)
