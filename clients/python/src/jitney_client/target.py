"""Where to connect: the addresses that people write, as gRPC wants them."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Target", "target_of"]

SCHEME: Final = re.compile(r"(dns|unix|unix-abstract|ipv4|ipv6|vsock|xds):")
WEB: Final = re.compile(r"(https?|grpcs?|tcp)://", re.IGNORECASE)
LOOPBACK: Final = "localhost"
MAX_PORT: Final = 65535


class Target(NamedTuple):
    """What a channel connects to.

    ``balanced`` tells that calls go in turn to several servers, ``local`` that none of what is sent
    leaves this machine.
    """

    uri: str
    balanced: bool
    local: bool


def target_of(address: str | Sequence[str]) -> Target:
    """Return the target of one address, or of several between which calls are balanced.

    Of several, each is a ``host:port``; names are looked up now, once. A list of one name stands
    for all servers that the name has in DNS, and is looked up again when connections end.

    :raises ValueError: when an address is not one.
    :raises OSError: when one of several names is not known.
    """
    if isinstance(address, str):
        _check(address)
        return Target(address, balanced=False, local=_is_local(address))
    if not address:
        msg = "expected at least one address"
        raise ValueError(msg)
    for one in address:
        _check(one)
    if len(address) == 1:
        return Target(address[0], balanced=True, local=_is_local(address[0]))
    numbers = [_look_up(one) for one in address]
    family = "ipv6" if any(":" in host for host, _ in numbers) else "ipv4"
    if family == "ipv6" and not all(":" in host for host, _ in numbers):
        msg = f"{', '.join(address)}: expected addresses of one kind, IPv4 or IPv6, got both"
        raise ValueError(msg)
    joined = ",".join(f"[{h}]:{p}" if family == "ipv6" else f"{h}:{p}" for h, p in numbers)
    local = all(ipaddress.ip_address(host).is_loopback for host, _ in numbers)
    return Target(f"{family}:{joined}", balanced=True, local=local)


def _check(address: str) -> None:
    if WEB.match(address):
        msg = f"{address!r}: expected host:port, without {WEB.match(address)[0]}"  # type: ignore[index]  # it matched
        raise ValueError(msg)
    if not address or any(character.isspace() for character in address):
        msg = f"{address!r}: expected host:port, such as 127.0.0.1:8001"
        raise ValueError(msg)
    port = _split(address)[1]
    if not SCHEME.match(address) and port.isdecimal() and int(port) > MAX_PORT:
        msg = f"{address!r}: ports end with {MAX_PORT}"  # gRPC would take the rest of a division
        raise ValueError(msg)


def _is_local(address: str) -> bool:
    scheme = SCHEME.match(address)
    if scheme and scheme[1].startswith("unix"):
        return True
    rest = address[scheme.end() :] if scheme else address
    hosts = [_split(one)[0] for one in rest.rpartition("/")[2].split(",")]
    return all(_is_loopback(host) for host in hosts)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == LOOPBACK


def _split(address: str) -> tuple[str, str]:
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        return address.strip("[]"), ""
    return host.strip("[]"), port


def _look_up(address: str) -> tuple[str, int]:
    host, port = _split(address)
    if SCHEME.match(address) or not host or not port.isdigit():
        msg = f"{address!r}: of several addresses, each has to be host:port"
        raise ValueError(msg)
    try:
        return ipaddress.ip_address(host).compressed, int(port)
    except ValueError:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    # IPv4 first: where a name has both, the lists of all names shall be of one kind.
    found.sort(key=lambda info: info[0] is not socket.AF_INET)
    return str(found[0][4][0]), int(port)
