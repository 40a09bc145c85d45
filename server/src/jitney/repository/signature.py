"""``model.sig``: a signature over the files of a folder, in the format of OpenSSF Model Signing.

A Sigstore bundle (version 0.3) holds a DSSE envelope, whose payload is an in-toto statement that
lists the files with their digests. It is what ``model_signing sign key`` writes and
``model_signing verify key`` reads; a test holds both against each other.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from jitney.errors import ConfigError, ModelError
from jitney.repository.integrity import SIGNATURE_FILE
from jitney.repository.listing import MAX_FILES, Listed, Listing, is_listable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["PublicKey", "Signer", "read_public_key", "read_signer", "verified_listing"]

BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD: Final = "application/vnd.in-toto+json"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://model_signing/signature/v1.0"
METHOD: Final = {"method": "files", "hash_type": "sha256"}
CURVES: Final[dict[str, hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
KEY_FORM: Final = "a PEM file of a key on the curve P-256, P-384 or P-521"


class PublicKey(NamedTuple):
    """A key that signatures are checked with; ``fingerprint`` is what signatures call it."""

    key: ec.EllipticCurvePublicKey
    fingerprint: str


class Signer(NamedTuple):
    """A key that signs."""

    key: ec.EllipticCurvePrivateKey


def read_public_key(path: Path) -> PublicKey:
    """Read a public key.

    :raises ConfigError: when it cannot be read, or is of another kind.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror})"
        raise ConfigError(msg) from None
    except (ValueError, UnsupportedAlgorithm):
        msg = f"{path}: no public key: expected {KEY_FORM}"
        raise ConfigError(msg) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        msg = f"{path}: a key of another kind: expected {KEY_FORM}"
        raise ConfigError(msg)
    return PublicKey(key, _fingerprint(key))


def read_signer(path: Path, passphrase: bytes | None = None) -> Signer:
    """Read a private key.

    :raises ConfigError: when it cannot be read, is of another kind, or the passphrase is wrong.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), passphrase)
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror})"
        raise ConfigError(msg) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        msg = f"{path}: no private key, or its passphrase is missing or wrong: expected {KEY_FORM}"
        raise ConfigError(msg) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        msg = f"{path}: a key of another kind: expected {KEY_FORM}"
        raise ConfigError(msg)
    return Signer(key)


def sign(files: Listing, name: str, signer: Signer) -> str:
    """Return the text of a ``model.sig``.

    :param files: all files of the folder but the signature itself.
    :param name: of what is signed; it is shown by tools, and checked by none.
    """
    resources = [
        {"name": path, "algorithm": "sha256", "digest": listed.sha256}
        for path, listed in sorted(files.items())
    ]
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": _root(files)}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                **METHOD,
                "allow_symlinks": False,
                "ignore_paths": [SIGNATURE_FILE],
            },
            "resources": resources,
        },
    }
    payload = json.dumps(statement).encode()
    key = signer.key
    made = key.sign(_pre_authentication(payload), ec.ECDSA(CURVES[key.curve.name]))
    bundle = {
        "mediaType": BUNDLE,
        "verificationMaterial": {
            "publicKey": {"hint": _fingerprint(key.public_key())},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD,
            "signatures": [{"sig": base64.b64encode(made).decode(), "keyid": ""}],
        },
    }
    return json.dumps(bundle) + "\n"


def verified_listing(data: bytes, keys: Iterable[PublicKey]) -> tuple[Listing, str]:
    """Return the files that a signature covers, and the fingerprint of the key that made it.

    :raises ModelError: when none of the keys made it, or it is no such signature.
    """
    try:
        bundle = json.loads(data.decode("utf-8"))
        envelope = bundle["dsseEnvelope"]
        kinds = (bundle["mediaType"], envelope["payloadType"])
        payload = base64.b64decode(envelope["payload"], validate=True)
        (signature,) = envelope["signatures"]
        made = base64.b64decode(signature["sig"], validate=True)
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
        why = "it is no signature of OpenSSF Model Signing"
        raise _wrong(why) from None
    if kinds != (BUNDLE, PAYLOAD):
        why = f"it is of the kinds {str(kinds)[:160]}, expected {(BUNDLE, PAYLOAD)}"
        raise _wrong(why)
    for key in keys:
        try:
            algorithm = ec.ECDSA(CURVES[key.key.curve.name])
            key.key.verify(made, _pre_authentication(payload), algorithm)
        except InvalidSignature:
            continue
        # Only now is what it says worth reading.
        return _listing_of(payload), key.fingerprint
    why = "none of the keys that the operator trusts made it"
    raise _wrong(why)


def _listing_of(payload: bytes) -> Listing:
    try:
        statement = json.loads(payload.decode("utf-8"))
        return _read_statement(statement)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        why = "it is signed, but its statement is not that of a model"
        raise _wrong(why) from None


def _read_statement(statement: Any) -> Listing:  # noqa: ANN401  # JSON
    if statement["_type"] != STATEMENT or statement["predicateType"] != PREDICATE:
        raise ValueError
    predicate = statement["predicate"]
    method = predicate["serialization"]
    if {name: method[name] for name in METHOD} != METHOD:
        why = "it was made of parts of files, or not with SHA-256: sign it with the defaults"
        raise _wrong(why)
    resources = predicate["resources"]
    files: dict[str, Listed] = {}
    for resource in resources:
        path, digest = resource["name"], resource["digest"]
        if not is_listable(path) or resource["algorithm"] != "sha256":
            raise ValueError
        files[path] = Listed(bytes.fromhex(digest).hex())
    (subject,) = statement["subject"]
    if len(files) != len(resources) or len(files) > MAX_FILES:
        raise ValueError
    if subject["digest"]["sha256"] != _root(files, [resource["name"] for resource in resources]):
        raise ValueError
    return files


def _root(files: Listing, order: Iterable[str] = ()) -> str:
    """Return the digest of all digests, in the order of the statement."""
    digest = hashlib.sha256()
    for path in order or sorted(files):
        digest.update(bytes.fromhex(files[path].sha256))
    return digest.hexdigest()


def _pre_authentication(payload: bytes) -> bytes:
    """Return what is signed (DSSE v1: the type is signed as well, so it cannot be mistaken)."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)


def _fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _wrong(why: str) -> ModelError:
    return ModelError(f"{SIGNATURE_FILE}: {why}")
