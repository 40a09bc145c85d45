"""Bugs, as their callers are told: under a number that the log has as well."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

__all__ = ["numbered"]


def numbered(log: logging.Logger, what: str, error: BaseException, **facts: object) -> str:
    """Log a bug with its traceback under a new number; return the text for whoever it hit.

    That text has the number and nothing of the error: details are the operator's.

    :param what: what could not be done.
    :param facts: fields of the record, such as ``model`` and ``request_id``.
    """
    number = secrets.token_hex(6)
    known = {name: fact for name, fact in facts.items() if fact not in ("", None)}
    log.error("error %s: %s", number, what, exc_info=error, extra={"error": number, **known})
    return f"internal error {number}; the server's log has the details"
