"""Calls a server with KServe's client; run by that client's own Python, with the server's address.

Writes what came back, a JSON object by the names of the checks, to standard output.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.infer_type import RequestedOutput

if TYPE_CHECKING:
    from collections.abc import Awaitable


def given(name: str, array: np.ndarray[Any, Any], datatype: str, *, raw: bool = True) -> InferInput:
    """Return an input, as raw bytes or as values."""
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=raw)
    return tensor


async def infer(
    client: InferenceGRPCClient,
    model: str,
    inputs: list[InferInput],
    **options: Any,
) -> Any:
    """Return the id of a reply, and its outputs by name."""
    reply = await client.infer(InferRequest(model, inputs, **options))
    outputs = {output.name: output.as_numpy() for output in reply.outputs}
    return [
        reply.id,
        reply.model_name,
        {
            name: [
                value.decode("latin-1") if isinstance(value, bytes) else value
                for value in array.flatten().tolist()
            ]
            for name, array in outputs.items()
        },
    ]


async def status_of(call: Awaitable[Any]) -> list[str]:
    """Return status and details of the error that a call ends with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return [error.code().name, error.details() or ""]
    return ["OK", ""]


async def main(address: str) -> dict[str, Any]:
    """Make every call; return what came back."""
    numbers = np.arange(16, dtype=np.int32)[None]
    ones = np.ones_like(numbers)
    floats = np.array([[1.5, -2.0]], np.float32)
    texts = np.array([[b"a", b"", b"\xff\x00"]], np.object_)
    async with InferenceGRPCClient(address, timeout=20) as client:
        pair = [given("INPUT0", numbers, "INT32"), given("INPUT1", ones, "INT32")]
        typed = [
            given("INPUT0", numbers, "INT32", raw=False),
            given("INPUT1", ones, "INT32", raw=False),
        ]
        words = [
            given(name, np.array([["7"] * 16], np.object_), "BYTES", raw=False)
            for name in ("INPUT0", "INPUT1")
        ]
        one = [RequestedOutput("OUTPUT1")]
        parameters = {"priority": 1, "mine": "x"}
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model ready": await client.is_model_ready("simple"),
            "unknown model ready": await client.is_model_ready("nobody"),
            "int32": await infer(client, "simple", pair, request_id="7"),
            "int32 typed": await infer(client, "simple", typed),
            "fp32": await infer(client, "libtorch_fp32", [given("INPUT__0", floats, "FP32")]),
            "fp32 typed": await infer(
                client, "libtorch_fp32", [given("INPUT__0", floats, "FP32", raw=False)]
            ),
            "bytes": await infer(client, "simple_identity", [given("INPUT0", texts, "BYTES")]),
            "bytes typed": await infer(client, "simple_string", words),
            "one output": await infer(client, "simple", pair, request_outputs=one),
            "version": await infer(client, "simple", pair, model_version="1"),
            "parameters": await infer(client, "simple", pair, parameters=parameters),
            "infer unknown": await status_of(infer(client, "nobody", pair)),
            "together": len(
                await asyncio.gather(*(infer(client, "simple", pair) for _ in range(50)))
            ),
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1]))) + "\n")
