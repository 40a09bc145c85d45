"""Every peer by the name that the command line has for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.peers.echo import CppEcho, PythonEcho
from benchmarks.peers.jitney import Jitney
from benchmarks.peers.mlserver import MLServer
from benchmarks.peers.mosec import Mosec
from benchmarks.peers.rayserve import RayServe
from benchmarks.peers.torchserve import TorchServe
from benchmarks.peers.triton import Triton

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.peers.peer import Peer

__all__ = ["PEERS"]

PEERS: Final[Mapping[str, Peer]] = {
    peer.name: peer
    for peer in (
        Jitney(),
        Triton(),
        PythonEcho(),
        CppEcho(),
        Mosec(),
        TorchServe(),
        MLServer(),
        RayServe(),
    )
}
"""In the order of tables; ours first, since every ratio is to it."""
