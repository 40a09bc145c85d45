"""OpenSSF Model Signing's own command and ours, each reading what the other signed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from jitney.cli import main

PYTHON = Path(__file__).resolve().parents[3] / ".compat" / "venv-signing" / "bin" / "python"
PATIENCE = 60.0

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="model-signing is not installed: make compat"
)


@pytest.fixture(params=[ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda c: c.name)
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """Return the files of a pair of keys, the private one first."""
    key = ec.generate_private_key(request.param)
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    private.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """Return a version's folder."""
    folder = tmp_path / "models" / "digits" / "1"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.pt").write_bytes(b"program")
    (folder / "deep" / "notes.txt").write_bytes(b"by me")
    return folder


def model_signing(verb: str, version: Path, key: str, file: Path) -> int:
    """Run its command; return the exit code."""
    command = [PYTHON, "-m", "model_signing", verb, "key", version]
    command += ["--signature", version / "model.sig", key, file]
    return subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE).returncode


def test_it_accepts_what_we_sign(version: Path, keys: tuple[Path, Path]) -> None:
    """And refuses it after a change."""
    private, public = keys
    assert 0 == main(["manifest", str(version), "--sign", str(private)])
    assert 0 == model_signing("verify", version, "--public_key", public)
    (version / "model.pt").write_bytes(b"Program")
    assert 0 != model_signing("verify", version, "--public_key", public)


def test_we_accept_what_it_signs(version: Path, keys: tuple[Path, Path]) -> None:
    """Without a manifest of ours, and refuse it after a change."""
    private, public = keys
    assert 0 == model_signing("sign", version, "--private_key", private)
    assert 0 == main(["verify", str(version), "--key", str(public)])
    (version / "deep" / "notes.txt").write_bytes(b"by You")
    assert 1 == main(["verify", str(version), "--key", str(public)])
