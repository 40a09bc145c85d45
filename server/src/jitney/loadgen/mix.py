"""Whose calls they are: tenants and priorities, and how often each of them calls."""

from __future__ import annotations

import math
from itertools import product
from typing import Final, NamedTuple

from jitney.errors import ConfigError

__all__ = ["Caller", "callers", "parse_shares"]

NOBODY: Final = {"": 1.0}


class Caller(NamedTuple):
    """A kind of caller: ``weight`` is its share of all; ``priority`` 0 is the model's default."""

    tenant: str
    priority: int
    weight: float

    @property
    def name(self) -> str:
        """What results are shown under."""
        priority = f"priority {self.priority}" if self.priority else ""
        return " ".join(filter(None, (self.tenant, priority))) or "all"


def parse_shares(text: str, flag: str) -> dict[str, float]:
    """Return the names and weights of a text such as ``a=2,b=1``.

    :raises ConfigError: when it is none.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = (piece.strip() for piece in part.partition("="))
        try:
            value = float(weight)
        except ValueError:
            value = 0.0
        if not name or name in shares or not 0 < value < math.inf:
            msg = f"{flag} {text!r}: expected NAME=WEIGHT,…, each name once, weights above 0"
            raise ConfigError(msg)
        shares[name] = value
    return shares


def callers(tenants: str, priorities: str) -> list[Caller]:
    """Return every combination of the two texts; an empty one stands for no such distinction.

    :raises ConfigError: when one is wrong.
    """
    by_tenant = parse_shares(tenants, "--tenants") if tenants else NOBODY
    by_level = parse_shares(priorities, "--priorities") if priorities else {"0": 1.0}
    if not all(level.isdecimal() for level in by_level):
        msg = f"--priorities {priorities!r}: priorities are numbers, 1 the highest"
        raise ConfigError(msg)
    total = sum(by_tenant.values()) * sum(by_level.values())
    return [
        Caller(tenant, int(level), one * other / total)
        for (tenant, one), (level, other) in product(by_tenant.items(), by_level.items())
    ]
