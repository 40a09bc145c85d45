"""Echoes of the same messages: the floor of any server in Python, and of any at all."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import TYPE_CHECKING, Final

from benchmarks.dialects import OIP
from benchmarks.peers.environment import COMPAT
from benchmarks.peers.peer import HOST, Launch, Peer, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers.exhibits import Show

__all__ = ["CppEcho", "PythonEcho"]

CPP: Final = COMPAT / "grpc-cpp"


class PythonEcho(Peer):
    """A bare grpc.aio server; no message is read."""

    name = "echo"
    title = "bare grpc.aio echo"
    setup = "uvloop; every request is answered with the bytes of one reply, none is read"
    dialect = OIP
    echoes = True

    def missing(self) -> str:
        """Return nothing: it is ours."""
        return ""

    def version(self) -> str:
        """Return that of grpcio."""
        return metadata.version("grpcio")

    def launch(self, show: Show, folder: Path) -> Launch:
        """Write the reply."""
        reply = folder / "reply"
        reply.write_bytes(show.reply())
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.echo", str(reply), "--port", str(port)]
        return Launch(command, f"{HOST}:{port}")


class CppEcho(Peer):
    """A bare gRPC server in C++ (``programs/echo.cc``); no message is read."""

    name = "cpp-echo"
    title = "bare C++ gRPC echo"
    setup = "asynchronous interface, one thread; answers as the other echo does"
    dialect = OIP
    echoes = True

    def missing(self) -> str:
        """Return that it is not built."""
        if (CPP / "echo").exists():
            return ""
        return f"it is not built (make {COMPAT.name}/{CPP.name}/.done)"

    def version(self) -> str:
        """Return that of Debian's gRPC."""
        found = sorted((CPP / "packages").glob("libgrpc++1*_*.deb"))
        return found[0].name.split("_")[1] if found else "unknown"

    def launch(self, show: Show, folder: Path) -> Launch:
        """Write the reply."""
        reply = folder / "reply"
        reply.write_bytes(show.reply())
        port = free_port()
        address = f"{HOST}:{port}"
        return Launch([str(CPP / "echo"), address, str(reply)], address)
