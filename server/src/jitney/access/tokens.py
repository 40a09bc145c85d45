"""Tokens: how they look, and what is kept of them.

A token is ``jitney_<id>_<secret>``: 16 hexadecimal digits that find its line in the file, and 256
random bits. The file has the id, a salt and the SHA-256 of salt and token, from which nobody gets
the token back: hashes that are slow on purpose protect what people choose, and these bits are not
to be guessed at any speed. The beginning lets scanners of source code and logs recognise a token
that went astray.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Final, NamedTuple

__all__ = ["Hashed", "id_of", "looks_like_token", "masked", "new_token"]

SECRET_BYTES: Final = 32
ID_BYTES: Final = 8
SALT_BYTES: Final = 16
_TOKEN: Final = re.compile(r"jitney_([0-9a-f]{16})_[A-Za-z0-9_-]{43}", re.ASCII)
_LIKE_TOKEN: Final = re.compile(r"(jitney_[0-9a-f]{16}_)[A-Za-z0-9_-]+", re.ASCII)
_HASHED: Final = re.compile(r"sha256:([0-9a-f]{32}):([0-9a-f]{64})", re.ASCII)


class Hashed(NamedTuple):
    """What is kept of a token: enough to know it again."""

    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, token: str, salt: bytes | None = None) -> Hashed:
        """Return what to keep of a token, with a new salt where none is given."""
        salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
        return cls(salt, hashlib.sha256(salt + token.encode()).digest())

    @classmethod
    def read(cls, text: str) -> Hashed | None:
        """Return what ``str`` made a text of; None where it is no such text."""
        match = _HASHED.fullmatch(text)
        return cls(*map(bytes.fromhex, match.groups())) if match else None

    def __str__(self) -> str:
        """Return the text that stands in the file."""
        return f"sha256:{self.salt.hex()}:{self.digest.hex()}"

    def matches(self, token: str) -> bool:
        """Tell whether it was made of this token; how long that takes tells nothing."""
        return hmac.compare_digest(self.digest, Hashed.of(token, self.salt).digest)


def new_token() -> str:
    """Return a token that nobody has."""
    return f"jitney_{secrets.token_hex(ID_BYTES)}_{secrets.token_urlsafe(SECRET_BYTES)}"


def id_of(token: str) -> str | None:
    """Return the id in a token, None where the text is none."""
    match = _TOKEN.fullmatch(token)
    return match[1] if match else None


def looks_like_token(text: str) -> bool:
    """Tell whether a text has a token in it, which then must not be shown to anybody."""
    return _LIKE_TOKEN.search(text) is not None


def masked(text: str) -> str:
    """Return a text with the secrets left out of the tokens in it, for people and logs."""
    return _LIKE_TOKEN.sub(r"\1***", text)
