"""Certificates and keys: read, checked to belong together, and given to gRPC."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from jitney.errors import ConfigError

if TYPE_CHECKING:
    from jitney.config import ServerSettings

__all__ = ["credentials"]


def credentials(settings: ServerSettings) -> grpc.ServerCredentials | None:
    """Return what connections are encrypted with, None where nobody asked for that.

    gRPC would take any files, and fail each handshake later, for reasons that only its own log
    has. So Python's ssl, which takes the same ones, looks at them first.

    :raises ConfigError: naming the setting whose file cannot be read or used, and nothing of what
        is in it.
    """
    if not settings.tls:
        return None
    certificate = _read(settings.tls_certificate, "tls_certificate")
    key = _read(settings.tls_key, "tls_key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A key that wants a password gets a wrong one, or ssl would ask for it on the terminal.
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, password="-")  # noqa: S106
    except OSError as error:  # what ssl raises is one
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            msg = "server.tls_key: this is not the key of the certificate in server.tls_certificate"
        else:
            msg = (
                "server.tls_certificate, server.tls_key: expected a certificate and its private "
                "key, both in PEM form, the key without a password"
            )
        raise ConfigError(msg) from None
    if not settings.tls_client_ca:
        return grpc.ssl_server_credentials([(key, certificate)])
    roots = _read(settings.tls_client_ca, "tls_client_ca")
    try:
        context.load_verify_locations(settings.tls_client_ca)
    except OSError:
        msg = "server.tls_client_ca: expected certificates in PEM form"
        raise ConfigError(msg) from None
    return grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=roots, require_client_auth=True
    )


def _read(name: str, setting: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        msg = f"server.{setting}: cannot read {name!r}: {error.strerror}"
        raise ConfigError(msg) from None
