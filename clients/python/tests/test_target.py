"""Addresses, tokens and the options of connections."""

from __future__ import annotations

import math
from typing import Any

import pytest

from jitney_client import Tls
from jitney_client.connection import Connection
from jitney_client.deadline import Deadline
from jitney_client.target import Target, target_of


@pytest.mark.parametrize(
    ("address", "uri", "balanced", "local"),
    [
        ("127.0.0.1:8001", "127.0.0.1:8001", False, True),
        ("localhost:8001", "localhost:8001", False, True),
        ("[::1]:8001", "[::1]:8001", False, True),
        ("unix:/run/jitney.sock", "unix:/run/jitney.sock", False, True),
        ("unix-abstract:jitney", "unix-abstract:jitney", False, True),
        ("ipv4:127.0.0.1:1,10.0.0.1:1", "ipv4:127.0.0.1:1,10.0.0.1:1", False, False),
        ("dns:///localhost:8001", "dns:///localhost:8001", False, True),
        ("10.1.2.3:8001", "10.1.2.3:8001", False, False),
        ("gpu-box:8001", "gpu-box:8001", False, False),
        (["gpu-box:8001"], "gpu-box:8001", True, False),
        (["10.0.0.1:1", "10.0.0.2:2"], "ipv4:10.0.0.1:1,10.0.0.2:2", True, False),
        (["[fe80::1]:1", "[fe80::2]:2"], "ipv6:[fe80::1]:1,[fe80::2]:2", True, False),
        (["127.0.0.1:1", "127.0.0.2:2"], "ipv4:127.0.0.1:1,127.0.0.2:2", True, True),
        (["localhost:1", "127.0.0.1:2"], "ipv4:127.0.0.1:1,127.0.0.1:2", True, True),
    ],
)
def test_addresses_become_targets(address: Any, uri: str, *, balanced: bool, local: bool) -> None:
    """A single one is gRPC's own; several are a list of numbers, balanced."""
    assert Target(uri, balanced, local) == target_of(address)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("http://box:8001", "'http://box:8001': expected host:port, without http://"),
        ("grpc://box:8001", "expected host:port, without grpc://"),
        ("", "'': expected host:port, such as"),
        ("box:65536", "'box:65536': ports end with 65535"),
        (["box:65536"], "ports end with 65535"),
        ("box: 8001", "'box: 8001': expected host:port"),
        ([], "expected at least one address"),
        (["10.0.0.1:1", "10.0.0.2"], "'10.0.0.2': of several addresses, each has to be host:port"),
        (["10.0.0.1:1", "dns:///b:1"], "'dns:///b:1': of several addresses"),
        (["10.0.0.1:1", "[::1]:1"], "expected addresses of one kind, IPv4 or IPv6, got both"),
    ],
)
def test_what_is_no_address_is_refused(address: Any, text: str) -> None:
    """The text says what one looks like."""
    with pytest.raises(ValueError, match=text.replace("[", r"\[")):
        target_of(address)


@pytest.mark.parametrize(
    ("address", "options", "text"),
    [
        ("box:1", {"token": "t"}, "the token would travel to box:1 unencrypted"),
        ("box:1", {"tls": Tls(), "credentials": object()}, "give tls or credentials, not both"),
        ("box:1", {"channels": 0}, "channels: expected 1 or more, got 0"),
        ("box:1", {"timeout": 0}, "timeout: expected seconds above 0 or None, got 0"),
        ("box:1", {"timeout": math.nan}, "timeout: expected seconds above 0 or None, got nan"),
        ("box:1", {"keepalive": 0}, "keepalive: expected seconds above 0 or None, got 0"),
        ("a:1", {"token": "secret\n", "tls": Tls()}, "authorization: headers have ASCII only"),
        (
            "box:1",
            {"headers": {"X-Y": "\u00e4"}},
            "x-y: headers have ASCII only, and no line breaks",
        ),
        ("box:1", {"headers": {"x y": "1"}}, "'x y': a header is named with letters"),
        ("box:1", {"tenant": "a\n"}, "x-tenant: headers have ASCII only"),
        ("box:1", {"tenant_key": "x\n"}, "a header is named with letters"),
        ("box:1", {"shared_memory": "on"}, "expected \"auto\", True or False, got 'on'"),
        ("box:1", {"shared_memory": True}, "with one server on this machine only, not with box:1"),
        ("box:1", {"tls": Tls(certificate=b"x")}, "certificate and key belong together"),
        ("box:1", {"tls": Tls(ca=b"x")}, "tls.ca: expected certificates in PEM form"),
        ("box:1", {"tls": Tls(certificate=b"x", key=b"y")}, "expected a certificate and its"),
    ],
)
def test_options_that_make_no_sense_are_refused(address: str, options: Any, text: str) -> None:
    """A wrong option is an error where the client is made, not at its first call."""
    with pytest.raises(ValueError, match=text):
        Connection.to(address, options).channel_credentials()


def test_what_is_no_policy_of_retries_is_refused() -> None:
    """A number of them would be noticed at the first failure only."""
    with pytest.raises(TypeError, match="retries: expected Retries\\(attempts=…\\) or None, got 3"):
        Connection.to("a:1", {"retries": 3})  # type: ignore[typeddict-item]


def test_a_token_that_cannot_be_sent_is_not_shown() -> None:
    """Nor one that a function returns; the line break of its file is the usual reason."""
    connection = Connection.to("127.0.0.1:1", {"token": lambda: "secret\n"})
    with pytest.raises(ValueError, match="authorization: headers have ASCII only") as caught:
        connection.metadata()
    assert "secret" not in str(caught.value)


def test_names_of_headers_are_written_in_any_case() -> None:
    """They are sent in lower case, as HTTP/2 has them."""
    connection = Connection.to("a:1", {"tenant_key": "X-Team", "headers": {"X-Y": "1"}})
    assert (("x-y", "1"), ("x-team", "a")) == connection.metadata("a")


def test_a_tenant_that_cannot_be_sent_is_refused() -> None:
    """It may be another one with each call."""
    with pytest.raises(ValueError, match="x-tenant: headers have ASCII only"):
        Connection.to("a:1", {}).metadata("\u00e4")


def test_an_infinite_keepalive_is_none() -> None:
    """As is an infinite timeout."""
    names = {name for name, _ in Connection.to("a:1", {"keepalive": math.inf}).options()}
    assert not any("keepalive" in name for name in names)
    assert None is Deadline(math.inf).remaining()
    assert None is Deadline(1e12).remaining()


@pytest.mark.parametrize(
    ("address", "options"),
    [("127.0.0.1:1", {}), ("unix:/x", {}), ("box:1", {"tls": Tls()})],
)
def test_a_token_goes_where_nobody_reads_it(address: str, options: Any) -> None:
    """Encrypted, or without leaving the machine."""
    connection = Connection.to(address, {"token": "t", **options})
    assert (("authorization", "Bearer t"),) == connection.metadata()


def test_options_of_the_caller_win() -> None:
    """Each of gRPC's options is given once, by the caller where the caller has an opinion."""
    own = [("grpc.keepalive_time_ms", 5)]
    options = Connection.to("a:1", {"channel_options": own}).options()
    assert [5] == [value for name, value in options if name == "grpc.keepalive_time_ms"]
    names = {name for name, _ in Connection.to("a:1", {"keepalive": None}).options()}
    assert not any("keepalive" in name for name in names)


def test_the_key_is_not_shown() -> None:
    """What is logged of a client holds no secret."""
    assert "secret" not in repr(Tls(certificate=b"c", key=b"secret"))
