"""Calls a server through stubs that were generated a moment ago, as a backend team would.

Run with the folder of the stubs on the path, and the server's address. It uses nothing but grpcio,
and what ``grpc_tools.protoc`` made of ``protos/``.
"""

from __future__ import annotations

import json
import struct
import sys
from typing import Any

import grpc
import grpc_service_pb2 as pb
import grpc_service_pb2_grpc as stubs
import model_config_pb2 as config

NUMBERS = list(range(16))
TIMEOUT = 20


def raw(request_id: str = "") -> pb.ModelInferRequest:
    """Return a request with its tensors as bytes."""
    request = pb.ModelInferRequest(model_name="simple", id=request_id)
    for name, values in (("INPUT0", NUMBERS), ("INPUT1", [1] * 16)):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        request.raw_input_contents.append(struct.pack("<16i", *values))
    return request


def typed() -> pb.ModelInferRequest:
    """Return the same request with its tensors as values."""
    request = pb.ModelInferRequest(model_name="simple")
    for name, values in (("INPUT0", NUMBERS), ("INPUT1", [1] * 16)):
        tensor = request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        tensor.contents.int_contents.extend(values)
    return request


def outputs(reply: pb.ModelInferResponse) -> dict[str, list[int]]:
    """Return the outputs of a reply by name."""
    pairs = zip(reply.outputs, reply.raw_output_contents, strict=True)
    return {output.name: list(struct.unpack("<16i", data)) for output, data in pairs}


def main(address: str) -> dict[str, Any]:
    """Make the calls; return what came back."""
    with grpc.insecure_channel(address) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="simple"), timeout=TIMEOUT)
        loaded = stub.ModelConfig(pb.ModelConfigRequest(name="simple"), timeout=TIMEOUT).config
        streamed = stub.ModelStreamInfer(iter([raw("a"), raw("b"), raw("c")]), timeout=TIMEOUT)
        try:
            unknown = stub.ModelInfer(pb.ModelInferRequest(model_name="nobody"), timeout=TIMEOUT)
        except grpc.RpcError as error:
            unknown = error.code().name
        return {
            "live": stub.ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT).live,
            "inputs": [[i.name, i.datatype, list(i.shape)] for i in metadata.inputs],
            "config": [
                loaded.platform,
                loaded.max_batch_size,
                config.DataType.Name(loaded.input[0].data_type),
            ],
            "raw": outputs(stub.ModelInfer(raw(), timeout=TIMEOUT)),
            "typed": outputs(stub.ModelInfer(typed(), timeout=TIMEOUT)),
            "future": outputs(stub.ModelInfer.future(raw(), timeout=TIMEOUT).result()),
            "stream": [[r.infer_response.id, outputs(r.infer_response)] for r in streamed],
            "unknown": str(unknown),
            "rpcs": sorted(name for name in vars(stub) if name[0].isupper()),
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])) + "\n")
