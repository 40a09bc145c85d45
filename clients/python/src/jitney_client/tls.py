"""Encrypted connections: whom to trust, and who to be."""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import grpc

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    Pem: TypeAlias = str | os.PathLike[str] | bytes

__all__ = ["Tls"]


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM form, by their paths, or what is in them as bytes.

    :param ca: certificates of those who may sign the server's; by default the usual authorities.
    :param certificate: the client's own, for servers that ask for one (mTLS).
    :param key: its private key, without a password.
    :param server_name: the name that the server's certificate has to have, where that is not the
        one in the address.
    """

    ca: Pem | None = None
    certificate: Pem | None = None
    key: Pem | None = field(default=None, repr=False)
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Return them as gRPC takes them.

        gRPC itself takes anything, and fails each handshake later without a reason. So Python's
        ssl, which takes the same files, looks at them first.

        :raises ValueError: naming what cannot be used, and nothing of what is in it.
        :raises OSError: when a file cannot be read.
        """
        if (self.certificate is None) != (self.key is None):
            msg = "tls: certificate and key belong together; give both or neither"
            raise ValueError(msg)
        ca, certificate, key = (_read(pem) for pem in (self.ca, self.certificate, self.key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if ca is not None:
            try:
                context.load_verify_locations(cadata=ca.decode("ascii"))
            except (ssl.SSLError, UnicodeDecodeError):
                msg = "tls.ca: expected certificates in PEM form"
                raise ValueError(msg) from None
        if certificate is not None and key is not None:
            _check_pair(context, certificate, key)
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def options(self) -> Iterator[tuple[str, str]]:
        """Yield the channel options that belong to it."""
        if self.server_name is not None:
            yield "grpc.ssl_target_name_override", self.server_name


def _read(pem: Pem | None) -> bytes | None:
    return pem if pem is None or isinstance(pem, bytes) else Path(pem).read_bytes()


def _check_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # ssl reads pairs from files only. The folder is readable by its owner alone, and gone at once.
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "certificate", Path(folder) / "key"
        first.write_bytes(certificate)
        second.write_bytes(key)
        try:
            # A key that wants a password gets a wrong one, or ssl would ask for it on the terminal.
            context.load_cert_chain(first, second, password="-")  # noqa: S106
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                msg = "tls.key: this is not the key of the certificate"
            else:
                msg = (
                    "tls.certificate, tls.key: expected a certificate and its private key, both in "
                    "PEM form, the key without a password"
                )
            raise ValueError(msg) from None
