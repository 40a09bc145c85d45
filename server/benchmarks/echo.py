"""The floor: a bare grpc.aio server that answers every ModelInfer with the same bytes.

    python -m benchmarks.echo REPLY_FILE [--loop asyncio] [--port N]

Prints its port; ends when its standard input does, so it never outlives who started it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import grpc
import uvloop

from benchmarks.workload import INFER


async def serve(reply: bytes, port: int) -> None:
    """Answer with ``reply`` until standard input ends."""

    async def answer(_: bytes, __: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return reply

    _, service, method = INFER.split("/")
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
    )
    handlers = {method: grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print(bound, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


def main() -> None:
    """Run the echo."""
    parser = argparse.ArgumentParser(description="Answer every inference with the same bytes.")
    parser.add_argument("reply", type=Path)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1; a free one")
    options = parser.parse_args()
    factory = uvloop.new_event_loop if options.loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(options.reply.read_bytes(), options.port))


if __name__ == "__main__":
    main()
