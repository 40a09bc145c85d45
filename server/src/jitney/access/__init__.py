"""Who calls, and what they may do; nothing here knows a transport.

``authority.Authority`` turns what comes with a call into a ``Principal``, ``RULES`` says which role
each method takes, and ``current()`` is the principal of the call that is being handled.
"""

from __future__ import annotations

from jitney.access.principal import (
    ADMIN,
    INFER,
    OPEN,
    READ,
    ROLES,
    UNIX,
    Grant,
    Principal,
    acting_as,
    become,
    current,
)
from jitney.access.rules import RULES, Rule

__all__ = [
    "ADMIN",
    "INFER",
    "OPEN",
    "READ",
    "ROLES",
    "RULES",
    "UNIX",
    "Grant",
    "Principal",
    "Rule",
    "acting_as",
    "become",
    "current",
]
