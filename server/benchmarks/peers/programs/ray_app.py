"""A Ray Serve application that answers ModelInfer; ends when its standard input does."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import numpy as np
import ray
import torchscript
from ray import serve
from ray.serve.config import gRPCOptions

from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

IN_FLIGHT = 256
"""More than any run has: Serve's own default, 5, would be what is measured."""


def add_servicer(servicer: Any, server: Any) -> None:  # noqa: ANN401  # Ray's stand-ins
    """Add ModelInfer with messages as bytes: they are read where the model is, not in the proxy."""
    method = pb.METHODS["ModelInfer"]
    _, service, name = method.path.split("/")
    handlers = {name: grpc.unary_unary_rpc_method_handler(servicer.ModelInfer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


@serve.deployment(max_ongoing_requests=IN_FLIGHT, num_replicas=1)
class Model:
    """The one replica."""

    def __init__(self) -> None:
        self._program = torchscript.Program.of_environment()
        self._run.set_max_batch_size(self._program.max_batch)

    async def ModelInfer(self, request: bytes) -> Any:  # noqa: ANN401, N802  # a message; the RPC's name
        """Answer one request."""
        message = pb.ModelInferRequest.FromString(request)
        arrays = [
            np.frombuffer(data, kind).reshape(-1, *shape)
            for data, (_, kind, shape) in zip(
                message.raw_input_contents, self._program.inputs, strict=True
            )
        ]
        outputs = await self._run(arrays)
        response = pb.ModelInferResponse(
            model_name=message.model_name, model_version="1", id=message.id
        )
        slots = zip(self._program.task["outputs"], outputs, strict=True)
        for (name, kind, _), output in slots:
            datatype = {"<f4": "FP32", "<i4": "INT32", "<i8": "INT64"}[kind]
            response.outputs.add(name=name, datatype=datatype, shape=output.shape)
            response.raw_output_contents.append(output.tobytes())
        return response

    @serve.batch(max_batch_size=IN_FLIGHT, batch_wait_timeout_s=0)
    async def _run(self, rows: Sequence[Sequence[np.ndarray[Any, Any]]]) -> list[Any]:
        columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
        outputs = self._program.run(columns)
        return [[output[n : n + 1] for output in outputs] for n in range(len(rows))]


def main() -> None:
    """Serve until standard input ends or SIGTERM comes."""
    task = json.loads(Path(os.environ[torchscript.TASK]).read_text())
    signal.signal(signal.SIGTERM, _leave)
    ray.init(
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        # Else its logs stay in /tmp/ray for ever.
        _temp_dir=str(Path(os.environ[torchscript.TASK]).parent / "ray"),
        object_store_memory=256 << 20,
    )
    try:
        serve.start(
            http_options={"host": "127.0.0.1", "port": task["http_port"]},
            grpc_options=gRPCOptions(
                port=task["grpc_port"],
                grpc_servicer_functions=["ray_app.add_servicer"],
                enable_reflection=False,
            ),
            logging_config={"enable_access_log": False},
        )
        serve.run(Model.bind(), name="default", route_prefix="/")
        sys.stdin.read()
    finally:
        serve.shutdown()
        ray.shutdown()


def _leave(_: int, __: object) -> NoReturn:
    raise SystemExit


if __name__ == "__main__":
    # By its module's name: what Ray sends to its workers must be found there again.
    import ray_app

    ray_app.main()
