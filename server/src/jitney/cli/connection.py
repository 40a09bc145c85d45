"""The commands' connection to a server, and their words for how a call ends."""

from __future__ import annotations

import argparse
import os
import ssl
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jitney.cli.failure import CommandError
from jitney.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc

    from jitney_client import Client, ConnectionOptions

__all__ = ["add_flags", "client_options", "connect", "explained", "shown"]

ADDRESS: Final = "127.0.0.1:8001"
TOKEN: Final = "JITNEY_TOKEN"  # noqa: S105  # the name of a variable
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
    group = parser.add_argument_group("who calls")
    group.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"a file with the token to show, for a server that asks who calls (or set {TOKEN})",
    )
    group.add_argument("--token", action=_NoToken, nargs="?", help=argparse.SUPPRESS)


class _NoToken(argparse.Action):
    """Refuses ``--token``, without repeating what was given."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """End the command."""
        parser.error(
            "--token: what stands on a command line, everybody on this machine can read; write it "
            f"into a file (--token-file) or into {TOKEN}"
        )


@contextmanager
def connect(arguments: argparse.Namespace) -> Iterator[Client]:
    """Give a client of the server that the flags name.

    :raises ConfigError: when a file of the flags cannot be used.
    :raises CommandError: when a call inside fails, with the server's text.
    """
    import jitney_client  # noqa: PLC0415  # brings grpc and numpy along

    options = client_options(arguments)
    with explained(arguments), jitney_client.Client(arguments.address, **options) as client:
        yield client


def client_options(arguments: argparse.Namespace) -> ConnectionOptions:
    """Return what a client of either kind is made with, beside the address.

    :raises ConfigError: when a file of the flags cannot be used.
    """
    return {
        "timeout": arguments.timeout,
        "credentials": _credentials(arguments),
        "token": _token(arguments),
        # Whoever types a command sees what the server says to it, and can repeat it.
        "retries": None,
        "check": False,
    }


@contextmanager
def explained(arguments: argparse.Namespace) -> Iterator[None]:
    """Turn the errors of calls inside into words for whoever wrote the flags.

    :raises CommandError: when one fails.
    """
    import jitney_client  # noqa: PLC0415  # brings grpc and numpy along

    try:
        yield
    except jitney_client.Unavailable as error:
        msg = _unavailable(arguments.address, str(error), encrypted=_encrypted(arguments))
        raise CommandError(msg) from None
    except jitney_client.DeadlineExceeded as error:
        msg = f"no answer within {arguments.timeout:g} seconds (--timeout): {error}"
        raise CommandError(msg) from None
    except jitney_client.Unauthenticated as error:
        msg = f"{error} (--token-file, or {TOKEN})"
        raise CommandError(msg) from None
    except jitney_client.JitneyError as error:
        raise CommandError(str(error)) from None


def _token(arguments: argparse.Namespace) -> str | None:
    """Return the token to show, None for none; it is never part of a text.

    :raises ConfigError: when there is none where there should be one, or it would be sent where
        others can read it.
    """
    from jitney_client.target import target_of  # noqa: PLC0415  # only commands that call need it

    where, token = TOKEN, os.environ.get(TOKEN)
    if arguments.token_file is not None:
        where, token = "--token-file", _read_token(arguments.token_file)
    if token is None:
        return None
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        msg = f"{where}: expected a token, one line without blanks"
        raise ConfigError(msg)
    if not _encrypted(arguments) and not target_of(arguments.address).local:
        msg = (
            f"{where}: the token would travel to {arguments.address} unencrypted, for all on the "
            "way to read; see --tls-ca"
        )
        raise ConfigError(msg)
    return token


def _read_token(file: str) -> str:
    from jitney.access.tokens import looks_like_token  # noqa: PLC0415  # only for who shows one

    if looks_like_token(file):
        msg = "--token-file: expected the name of a file that has the token, not the token"
        raise ConfigError(msg)
    try:
        return _read(file, "--token-file").decode("ascii")
    except UnicodeDecodeError:
        msg = f"--token-file: {file} holds no token"
        raise ConfigError(msg) from None


def shown(arguments: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    """Return the metadata that shows the token, for calls that no client of ours makes.

    :raises ConfigError: as ``client_options``.
    """
    token = _token(arguments)
    return () if token is None else (("authorization", f"Bearer {token}"),)


def _encrypted(arguments: argparse.Namespace) -> bool:
    return bool(arguments.tls or arguments.tls_ca or arguments.tls_certificate)


def _credentials(arguments: argparse.Namespace) -> grpc.ChannelCredentials | None:
    """Return what to encrypt with, None without any of the flags.

    gRPC takes whatever files it is given, and fails at the handshake for reasons that only its own
    log has. So Python's ssl looks at them first.
    """
    certificate, key = arguments.tls_certificate, arguments.tls_key
    if (certificate is None) != (key is None):
        msg = "--tls-certificate and --tls-key belong together; give both or neither"
        raise ConfigError(msg)
    if not _encrypted(arguments):
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
