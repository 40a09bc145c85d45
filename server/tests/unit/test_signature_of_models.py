"""Signatures in the format of OpenSSF Model Signing, and the commands that make and check them."""

from __future__ import annotations

import base64
import contextlib
import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from fake_loader import model_bytes, write_model
from listed_models import Bench, write_listed

from jitney.cli import main
from jitney.config import RepositorySettings
from jitney.errors import ConfigError, ModelError
from jitney.packing.listing import write_manifest
from jitney.repository.handle import VersionState
from jitney.repository.integrity import integrity_of
from jitney.repository.listing import Listed
from jitney.repository.signature import read_public_key, read_signer, sign, verified_listing
from jitney.repository.units import unit_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository whose files are listed."""
    return write_listed(tmp_path / "models")


def write_keys(folder: Path, name: str, curve: ec.EllipticCurve) -> tuple[Path, Path]:
    """Return the files of a new pair of keys, the private one first."""
    key = ec.generate_private_key(curve)
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """Return a pair of keys."""
    return write_keys(tmp_path, "key", ec.SECP256R1())


@pytest.fixture
def signed(root: Path, keys: tuple[Path, Path]) -> Path:
    """Return the repository, signed."""
    return write_listed(root, read_signer(keys[0]))


def demanding(root: Path, *keys: Path, **settings: Any) -> Bench:
    """Return a bench that demands signatures."""
    return Bench(root, model_signature="require", model_signature_key=keys, **settings)


def test_what_is_signed_is_served(signed: Path, keys: tuple[Path, Path]) -> None:
    """The audit log says by whom."""
    bench = demanding(signed, keys[1])
    assert {"a/2": "READY"} == bench.start()
    assert ("model.load", read_public_key(keys[1]).fingerprint) == bench.ear.last("signer")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda v: (v / "model.sig").unlink(), "not signed: there is no model.sig"),
        (lambda v: (v.parent / "model.sig").unlink(), "not signed: there is no model.sig"),
        (lambda v: (v / "model.sig").write_text("{}"), "no signature of OpenSSF Model Signing"),
        (lambda v: (v / "notes.txt").write_text("by m3"), "notes.txt: not the file that model.sig"),
        (lambda v: (v / "extra").touch(), "extra: not listed in model.sig"),
        (lambda v: (v / "manifest.json").unlink(), "manifest.json: listed in model.sig, and miss"),
        (lambda v: (v / "model.pt").write_bytes(model_bytes("x")), "model.pt: not the file that"),
        (
            lambda v: (v.parent / "labels.txt").write_text("dog\ncat\nbird\ncow\n"),
            "labels.txt: not the file",
        ),
        (
            lambda v: (v / "model.sig").write_bytes((v.parent / "1" / "model.sig").read_bytes()),
            "notes.txt: not listed in model.sig",
        ),
    ],
)
def test_what_is_not_as_signed_is_refused(
    signed: Path, keys: tuple[Path, Path], change: Callable[[Path], object], why: str
) -> None:
    """T20: unsigned, one byte changed, a file more or less, the signature of another version."""
    change(signed / "a" / "2")
    bench = demanding(signed, keys[1], model_integrity="off")
    (state,) = bench.start().values()
    assert state.startswith("UNAVAILABLE ")
    assert why in state
    assert "model.refused" == bench.ear.last()[0]


def test_another_key_is_no_key(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """T20: several may be trusted, and one of them must have signed."""
    _, other = write_keys(tmp_path, "other", ec.SECP384R1())
    (state,) = demanding(signed, other).start().values()
    assert "none of the keys that the operator trusts made it" in state
    assert {"a/2": "READY"} == demanding(signed, other, keys[1]).start()


def test_the_version_before_is_served_on_when_the_next_is_not_signed(
    signed: Path, keys: tuple[Path, Path]
) -> None:
    """T20: an unsigned version 3 is refused, and version 2 goes on."""
    bench = demanding(signed, keys[1])
    bench.start()
    write_model(signed, "a", 3, toml=(signed / "a" / "model.toml").read_text())
    states = bench.poll()
    assert ("READY", True) == (states["a/2"], "not signed" in states["a/3"])
    version = bench.repository.resolve("a", "")
    assert (2, VersionState.READY) == (version.ref.version, version.state)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_every_curve_of_the_format_signs(root: Path, tmp_path: Path, curve: Any) -> None:
    """Each with the hash that goes with it."""
    private, public = write_keys(tmp_path, "k", curve)
    write_manifest(unit_of(root / "a" / "2"), read_signer(private))
    data = (root / "a" / "2" / "model.sig").read_bytes()
    listing, signer = verified_listing(data, [read_public_key(public)])
    assert {"manifest.json", "model.pt", "notes.txt"} == set(listing)
    assert read_public_key(public).fingerprint == signer


def test_no_bit_of_a_signature_can_change(signed: Path, keys: tuple[Path, Path]) -> None:
    """Whatever is changed is refused, or was not signed and changes nothing: 2,000 flips."""
    good = (signed / "a" / "2" / "model.sig").read_bytes()
    trusted = [read_public_key(keys[1])]
    expected, chance = verified_listing(good, trusted), random.Random(3)  # noqa: S311
    for _ in range(2000):
        data = bytearray(good)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        with contextlib.suppress(ModelError):
            assert expected == verified_listing(bytes(data), trusted)


def test_a_signed_statement_of_any_form_raises_only_model_error(keys: tuple[Path, Path]) -> None:
    """A trusted key may have signed something else; a path may be a number in it."""
    signer, trusted = read_signer(keys[0]), [read_public_key(keys[1])]
    bundle = json.loads(sign({"a": Listed("00" * 32)}, "net", signer))
    envelope = bundle["dsseEnvelope"]
    good = json.loads(base64.b64decode(envelope["payload"]))
    resource = good["predicate"]["resources"][0]
    wrong: list[Any] = [5, [], "x", None, {**good, "predicate": []}, {**good, "subject": 5}]
    wrong += [
        {**good, "predicate": {**good["predicate"], "resources": [{**resource, **change}]}}
        for change in ({"name": 5}, {"name": None}, {"name": "../a"}, {"digest": 5}, {"digest": ""})
    ]
    for statement in wrong:
        payload = json.dumps(statement).encode()
        kind = envelope["payloadType"].encode()
        what = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
        made = signer.key.sign(what, ec.ECDSA(SHA256()))
        envelope["payload"] = base64.b64encode(payload).decode()
        envelope["signatures"] = [{"sig": base64.b64encode(made).decode()}]
        with pytest.raises(ModelError, match="it is signed, but its statement"):
            verified_listing(json.dumps(bundle).encode(), trusted)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    """At the start, with the setting and what would do."""
    file = tmp_path / "key.pub"
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    for data in (b"no key", key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)):
        file.write_bytes(data)
        with pytest.raises(ConfigError, match=r"repository\.model_signature_key: .*P-256"):
            integrity_of(RepositorySettings(model_signature="require", model_signature_key=(file,)))
    with pytest.raises(ConfigError, match="No such file"):
        read_public_key(tmp_path / "none")
    with pytest.raises(ConfigError, match="require needs --model-signature-key"):
        RepositorySettings(model_signature="require")


# -- commands -----------------------------------------------------------------------------------


def test_the_commands_write_and_compare(
    root: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """``jitney manifest`` lists and signs what ``jitney verify`` then finds as it is."""
    assert 0 == main(["manifest", str(root), "--sign", str(keys[0])])
    assert "a/2: 2 files listed and signed\n" in capsys.readouterr().out
    assert 0 == main(["verify", "a", "--repository", str(root), "--key", str(keys[1])])
    assert "a/2: 2 files as listed, signed by key " in capsys.readouterr().out
    (root / "a" / "2" / "notes.txt").write_text("other")
    (root / "a" / "1" / "more").touch()
    assert 1 == main(["verify", str(root)])
    output = capsys.readouterr().out
    assert "a/2: notes.txt: not the file that manifest.json lists" in output
    assert "a/1: more: not listed in manifest.json" in output
    assert 1 == main(["verify", str(root / "a" / "1"), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (False, ["more: not listed in manifest.json"]) == (
        report["valid"], report["folders"][0]["problems"],
    )  # fmt: skip
    (root / "a" / "1" / "manifest.json").unlink()
    assert 1 == main(["verify", str(root / "a" / "1")])
    assert "there is no manifest.json, and one is demanded" in capsys.readouterr().out


def test_the_commands_tell_what_they_cannot_do(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 for what is wrong with the command line, with its reason."""
    (tmp_path / "empty").mkdir()
    for arguments, text in (
        (["verify", str(tmp_path / "none")], "there is no such folder"),
        (["verify", str(tmp_path / "empty")], "neither a version's folder, nor a model's"),
        (["verify", str(root), "--key", str(tmp_path / "none")], "--key: "),
        (["manifest", str(root), "--sign", str(tmp_path / "none")], "cannot be read"),
        (["manifest", str(root), "--passphrase-file", "x"], "--passphrase-file: needs --sign"),
    ):
        assert 2 == main(arguments)
        assert text in capsys.readouterr().err


def test_a_key_may_have_a_passphrase(root: Path, tmp_path: Path) -> None:
    """It comes from a file: command lines are seen by everybody on the machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    locked, phrase = tmp_path / "locked.pem", tmp_path / "phrase"
    encryption = BestAvailableEncryption(b"secret")
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    phrase.write_text("secret\n")
    assert 2 == main(["manifest", str(root), "--sign", str(locked)])
    flags = ["--sign", str(locked), "--passphrase-file", str(phrase)]
    assert 0 == main(["manifest", str(root), *flags])


def test_a_manifest_written_anew_removes_the_signature_of_the_old_one(signed: Path) -> None:
    """It would be good for nothing any more, and confuse whoever finds it."""
    write_manifest(unit_of(signed / "a" / "2"))
    assert not (signed / "a" / "2" / "model.sig").exists()
