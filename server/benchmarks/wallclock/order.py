"""What a load generator is told. The files beside it are those of ``jitney bench``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

__all__ = ["Kind", "Order"]


class Kind(NamedTuple):
    """What calls of one kind have in common: the model, whose they are, and their deadline.

    ``timeout_ms`` is what they tell gRPC; 0 tells nothing.
    """

    model: str
    tenant: str = ""
    timeout_ms: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """A run of a generator.

    ``schedule`` is a file of ``jitney.loadgen.order.write_schedule``, ``out`` where that of
    ``Seen`` is to be. Calls that have not ended ``grace`` seconds after the last was sent are lost.
    ``tenant_key`` is the metadata key of tenants.
    """

    address: str
    schedule: str
    out: str
    kinds: tuple[Kind, ...]
    connections: int
    grace: float
    tenant_key: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> Order:
        """Read the JSON form."""
        return cls(**{**table, "kinds": tuple(Kind(*kind) for kind in table["kinds"])})
