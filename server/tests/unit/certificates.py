"""Certificates and keys for tests."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Pair", "make_ca", "make_pair"]

NAMES = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]


class Pair(NamedTuple):
    """A certificate and its key, as files in PEM form."""

    certificate: Path
    key: Path


def make_ca(folder: Path, name: str, above: Pair | None = None) -> Pair:
    """Make a certificate that signs others; itself, or signed by one above it."""
    return _make(folder, name, above, is_ca=True, days=(-1, 2))


def make_pair(
    folder: Path, name: str, ca: Pair, *, days: tuple[float, float] = (-1, 2), above: bytes = b""
) -> Pair:
    """Make a certificate for ``localhost`` and 127.0.0.1 that a CA signed.

    :param days: from when to when it is valid, from now.
    :param above: what follows it in its file.
    """
    pair = _make(folder, name, ca, is_ca=False, days=days)
    pair.certificate.write_bytes(pair.certificate.read_bytes() + above)
    return pair


def _make(
    folder: Path, name: str, above: Pair | None, *, is_ca: bool, days: tuple[float, float]
) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signer = key
    if above is not None:
        issuer = x509.load_pem_x509_certificate(above.certificate.read_bytes()).subject
        signer = serialization.load_pem_private_key(above.key.read_bytes(), None)  # type: ignore[assignment]  # it is one of ours
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if not is_ca:
        builder = builder.add_extension(x509.SubjectAlternativeName(NAMES), critical=False)
    pem = serialization.Encoding.PEM
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    pair.certificate.write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(pem))
    pair.key.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair
