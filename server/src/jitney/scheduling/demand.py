"""How much is asked of a model, and the batch size that suits it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jitney.scheduling.queue import KeyQueue
    from jitney.types import ModelRef

__all__ = ["Demand", "demands"]


@dataclass(frozen=True, slots=True)
class Demand:
    """What the price of device time is made of, for one model.

    ``rate`` is the smoothed rate of arrival of rows that must leave by some moment, per second, and
    ``shapes`` how many shapes of a row were asked for lately. The rest is of the queue with the
    highest rate: ``slo``, the slack in seconds that nine of ten of its requests bring;
    ``best_rows`` (b*), the batch size at which the devices just keep it when all queues take turns;
    ``worth`` (p*), the rows per device second at that size. The last three are 0 where no request
    had a deadline; the worth also where nothing is known of the latencies.
    """

    rate: float
    shapes: int
    slo: float
    best_rows: int
    worth: float


def demands(queues: Iterable[KeyQueue], now: float) -> dict[ModelRef, Demand]:
    """Return the demand by model; O(queues)."""
    by_model: dict[ModelRef, list[tuple[float, KeyQueue]]] = {}
    for queue in queues:
        by_model.setdefault(queue.key.model, []).append((queue.rate_at(now), queue))
    found = {}
    for model, rated in by_model.items():
        _, busiest = max(rated, key=lambda pair: pair[0])
        found[model] = Demand(
            rate=sum(rate for rate, _ in rated),
            # Keys are made anew when their makers forget them, so there may be two of a shape.
            shapes=len({queue.key.inputs for _, queue in rated}),
            slo=busiest.slo,
            best_rows=busiest.best_rows if busiest.slo else 0,
            worth=busiest.worth,
        )
    return found
