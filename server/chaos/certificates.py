"""Certificates for a server that changes them while it runs."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Authority"]

PEM: Final = serialization.Encoding.PEM
NAMES: Final = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
DAYS: Final = 30
BROKEN: Final = b"-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n"


class Authority:
    """Signs certificates for this machine; ``certificate`` is its own, for those who trust it.

    ``write`` puts a new pair where the server looks, both files in one step each, as who rotates
    certificates does; ``write_broken`` puts something there that is none.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.chain, self.key = folder / "server.pem", folder / "server.key"
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("authority")
        self.certificate = self._signed(self._name, self._key, ca=True)
        self.write()

    def write(self) -> None:
        """Make a new pair and put it into force."""
        key = ec.generate_private_key(ec.SECP256R1())
        private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        self._put(self.key, key.private_bytes(PEM, *private))
        self._put(self.chain, self._signed(_named("server"), key, ca=False))

    def write_broken(self) -> None:
        """Put something there that is no certificate."""
        self._put(self.chain, BROKEN)

    def _put(self, file: Path, data: bytes) -> None:
        beside = self._folder / "next"
        beside.write_bytes(data)
        beside.replace(file)

    def _signed(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=DAYS))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            builder = builder.add_extension(x509.SubjectAlternativeName(NAMES), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(PEM)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
