"""Certificates and keys for tests, made by the command ``openssl``."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Pair", "make_ca", "make_pair"]


class Pair(NamedTuple):
    """A certificate and its key, as files in PEM form."""

    certificate: Path
    key: Path


def make_ca(folder: Path, name: str) -> Pair:
    """Make a certificate that signs others."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", f"/CN={name}", "-days", "2", "-keyout", pair.key, "-out", pair.certificate),
    )
    return pair


def make_pair(folder: Path, name: str, ca: Pair) -> Pair:
    """Make a certificate for ``localhost`` and 127.0.0.1 that a CA signed."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n", encoding="utf-8")
    _openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", f"/CN={name}", "-keyout", pair.key, "-out", request),
    )
    _openssl(
        *("x509", "-req", "-in", request, "-CA", ca.certificate, "-CAkey", ca.key),
        *("-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", pair.certificate),
    )
    return pair


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(
        ["openssl", *map(str, arguments)], check=True, capture_output=True
    )  # the one on the PATH
