"""Ending a connection that gRPC offers no way to end."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
from pathlib import Path
from typing import Final
from urllib.parse import unquote

__all__ = ["drop"]

log = logging.getLogger(__name__)

DESCRIPTORS: Final = Path("/proc/self/fd")


def drop(peer: str) -> bool:
    """Close the connection of a peer, as ``ServicerContext.peer()`` names it; tell whether it was.

    gRPC's servers in Python can end neither a connection nor a call whose reply is on its way:
    cancelling its task leaves the reply in the library for as long as the caller likes (measured).
    So the socket is looked up among the descriptors of this process and shut down, and gRPC learns
    of it as of any other connection that went away. Peers on unix sockets have no address and are
    never found. Costs a few microseconds per open descriptor.
    """
    wanted = _address(peer)
    if wanted is None:
        return False
    try:
        names = [entry.name for entry in DESCRIPTORS.iterdir()]
    except OSError:  # no such folder here
        return False
    for name in names:
        # What is closed meanwhile, or no socket, or not connected, is not it.
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            # A descriptor of our own: what it stands for cannot change between question and deed.
            with socket.socket(fileno=os.dup(int(name))) as candidate:
                if candidate.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                if _plain(candidate.getpeername()) == wanted:
                    candidate.shutdown(socket.SHUT_RDWR)
                    log.warning("dropped the connection of %s", peer)
                    return True
    return False


def _address(peer: str) -> tuple[str, int] | None:
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not (port.isascii() and port.isdecimal()):
        return None
    return _plain((host.strip("[]"), int(port)))


def _plain(address: tuple[str, int] | tuple[str, int, int, int]) -> tuple[str, int]:
    # A socket for both families shows IPv4 as a part of IPv6; gRPC shows either.
    return address[0].removeprefix("::ffff:").partition("%")[0], address[1]
