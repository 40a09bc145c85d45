"""Certificates and keys: read from their files, and checked before anybody relies on them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from jitney.errors import ConfigError

if TYPE_CHECKING:
    from jitney.config import ServerSettings

__all__ = ["Certificates", "PemFiles", "check", "read_files"]


class PemFiles(NamedTuple):
    """What stands in the files: a certificate with those above it, its key, and callers' roots.

    ``roots`` is None where nobody asks for them. An empty file is not that: it is one that went
    wrong, and must not open the server to everybody.
    """

    chain: bytes
    key: bytes
    roots: bytes | None = None

    def __repr__(self) -> str:
        """Return a line for logs and tests, without the key."""
        return f"<PemFiles, {len(self.chain)} bytes of certificates>"


class Certificates(NamedTuple):
    """Files that were found to be right.

    ``not_after`` is in seconds since the epoch; ``fingerprint`` is the SHA-256 of the certificate,
    as browsers and ``openssl x509 -fingerprint -sha256`` show it, without colons.
    """

    files: PemFiles
    not_after: float
    fingerprint: str


def read_files(settings: ServerSettings) -> PemFiles:
    """Return what stands in the files that the settings name.

    :raises ConfigError: naming the setting whose file cannot be read.
    """
    return PemFiles(
        _read(settings.tls_certificate, "tls_certificate"),
        _read(settings.tls_key, "tls_key"),
        _read(settings.tls_client_ca, "tls_client_ca") if settings.tls_client_ca else None,
    )


def check(files: PemFiles, now: float) -> Certificates:
    """Return the certificates in files.

    gRPC would take any, and fail each handshake later for reasons that only its own log has.

    :param now: seconds since the epoch.
    :raises ConfigError: when the key is not that of the certificate, when one of the chain is not
        signed by the next, or not valid now. It names the setting, and nothing of the key.
    """
    chain = _certificates(files.chain, "tls_certificate")
    _check_key(files.key, chain[0])
    for below, above in pairwise(chain):
        try:
            below.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            msg = (
                f"server.tls_certificate: that of {_name(below)} is not signed by the next one in "
                f"the file, that of {_name(above)}; expected the server's certificate first, and "
                "behind each the one that signed it"
            )
            raise ConfigError(msg) from None
    moment = datetime.fromtimestamp(now, UTC)
    for certificate in chain:
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not first <= moment <= last:
            msg = (
                f"server.tls_certificate: that of {_name(certificate)} is valid from "
                f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC, and now it is "
                f"{moment:%Y-%m-%d %H:%M}"
            )
            raise ConfigError(msg)
    if files.roots is not None:
        _certificates(files.roots, "tls_client_ca")
    return Certificates(
        files,
        min(c.not_valid_after_utc for c in chain).timestamp(),
        hashlib.sha256(chain[0].public_bytes(serialization.Encoding.DER)).hexdigest(),
    )


def _read(name: str, setting: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        msg = f"server.{setting}: cannot read {name!r}: {error.strerror}"
        raise ConfigError(msg) from None


def _certificates(text: bytes, setting: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text)
    except (ValueError, UnsupportedAlgorithm):
        msg = f"server.{setting}: expected certificates in PEM form"
        raise ConfigError(msg) from None


def _check_key(text: bytes, certificate: x509.Certificate) -> None:
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it wants a password
        msg = "server.tls_key: expected a private key in PEM form, without a password"
        raise ConfigError(msg) from None
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    try:
        same = key.public_key().public_bytes(*form) == certificate.public_key().public_bytes(*form)
    except (ValueError, UnsupportedAlgorithm):
        same = False
    if not same:
        msg = "server.tls_key: this is not the key of the certificate in server.tls_certificate"
        raise ConfigError(msg)


def _name(certificate: x509.Certificate) -> str:
    """Return whom a certificate is about, in one short line."""
    text = certificate.subject.rfc4514_string() or "nobody"
    return "".join(c if c.isprintable() else "?" for c in text[:80])
