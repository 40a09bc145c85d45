"""The commands' connection to a server, and their words for how a call ends."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.cli.failure import CommandError
from jitney.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import grpc

    from jitney_client import Client

__all__ = ["add_flags", "connect"]

ADDRESS: Final = "127.0.0.1:8001"
NOT_REACHED: Final = ("connect", "handshake", "socket closed")
TLS_HINTS: Final = (
    ("VERIFY_FAILED", "its certificate was signed by nobody whom you trust; see --tls-ca"),
    ("WRONG_VERSION_NUMBER", "it does not encrypt; leave the --tls flags out"),
    ("Hostname Verification", "its certificate is for another name than that in --address"),
    ("Socket closed", "it may ask for a certificate; see --tls-certificate"),
)
PLAIN_HINTS: Final = (
    ("Socket closed", "it may encrypt; see --tls-ca"),
    ("reset", "it may encrypt; see --tls-ca"),
)
"""Parts of gRPC's texts, and what they mean to whoever wrote the flags."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which server, how to reach it, and how long to wait for it."""
    parser.add_argument(
        "--address", default=ADDRESS, metavar="HOST:PORT", help=f"the server (default {ADDRESS})"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long one call may take (default 60)",
    )
    group = parser.add_argument_group("encrypted connections (TLS)")
    group.add_argument(
        "--tls", action="store_true", help="encrypt, and trust the usual authorities"
    )
    group.add_argument(
        "--tls-ca",
        metavar="FILE",
        help="encrypt, and trust who signed with these certificates (PEM)",
    )
    group.add_argument(
        "--tls-certificate",
        metavar="FILE",
        help="a certificate of your own (PEM), for a server that asks for one",
    )
    group.add_argument("--tls-key", metavar="FILE", help="its private key (PEM)")


@contextmanager
def connect(arguments: argparse.Namespace) -> Iterator[Client]:
    """Give a client of the server that the flags name.

    :raises ConfigError: when a file of the flags cannot be used.
    :raises CommandError: when a call inside fails, with the server's text.
    """
    import jitney_client  # noqa: PLC0415  # brings grpc and numpy along

    credentials = _credentials(arguments)
    try:
        # Whoever types a command sees what the server says to it, and can repeat it.
        with jitney_client.Client(
            arguments.address,
            timeout=arguments.timeout,
            credentials=credentials,
            retries=None,
            check=False,
        ) as client:
            yield client
    except jitney_client.Unavailable as error:
        encrypted = credentials is not None
        msg = _unavailable(arguments.address, str(error), encrypted=encrypted)
        raise CommandError(msg) from None
    except jitney_client.DeadlineExceeded as error:
        msg = f"no answer within {arguments.timeout:g} seconds (--timeout): {error}"
        raise CommandError(msg) from None
    except jitney_client.JitneyError as error:
        raise CommandError(str(error)) from None


def _credentials(arguments: argparse.Namespace) -> grpc.ChannelCredentials | None:
    """Return what to encrypt with, None without any of the flags.

    gRPC takes whatever files it is given, and fails at the handshake for reasons that only its own
    log has. So Python's ssl looks at them first.
    """
    certificate, key = arguments.tls_certificate, arguments.tls_key
    if (certificate is None) != (key is None):
        msg = "--tls-certificate and --tls-key belong together; give both or neither"
        raise ConfigError(msg)
    if not (arguments.tls or arguments.tls_ca or certificate):
        return None
    import grpc  # noqa: PLC0415  # only commands that call need it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    roots = chain = private = None
    if arguments.tls_ca is not None:
        roots = _read(arguments.tls_ca, "--tls-ca")
        try:
            context.load_verify_locations(arguments.tls_ca)
        except OSError:  # what ssl raises is one
            msg = f"--tls-ca: {arguments.tls_ca} holds no certificates in PEM form"
            raise ConfigError(msg) from None
    if certificate is not None:
        chain, private = _read(certificate, "--tls-certificate"), _read(key, "--tls-key")
        try:
            # A key that wants a password gets a wrong one, or ssl would ask on the terminal.
            context.load_cert_chain(certificate, key, password="-")  # noqa: S106
        except OSError:
            msg = (
                "--tls-certificate, --tls-key: expected a certificate and its private key, both in "
                "PEM form, the key without a password"
            )
            raise ConfigError(msg) from None
    return grpc.ssl_channel_credentials(roots, private, chain)


def _read(file: str, flag: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        msg = f"{flag}: cannot read {file!r}: {error.strerror}"
        raise ConfigError(msg) from None


def _unavailable(address: str, text: str, *, encrypted: bool) -> str:
    """Return what to say of a call that no server took.

    The same status also means "not ready", which a server says in its own words; these are the
    words of a client that reached nobody, or not in the way it tried.
    """
    if not any(words in text.lower() for words in NOT_REACHED):
        return text
    if "refused" in text:
        return f"no server answers at {address}; start one with: jitney serve"
    for words, hint in TLS_HINTS if encrypted else PLAIN_HINTS:
        if words in text:
            return f"no connection to {address}: {hint}"
    return f"no server answers at {address}: {text}"
