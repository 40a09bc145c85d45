"""What follows from a latency profile: how large batches should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jitney.scheduling.latency import LatencyModel

if TYPE_CHECKING:
    from jitney.latency_profile import LatencyProfile

__all__ = ["ENOUGH", "Advice", "advise"]

ENOUGH: Final = 0.9
"""Of the best throughput: beyond, batches take longer and bring little."""
STILL_RISING: Final = 1.05


@dataclass(frozen=True, slots=True)
class Advice:
    """Figures that an operator can set.

    ``alpha`` and ``beta`` are seconds per row and per batch of the fitted line. ``throughput`` is
    the best, in rows per second, reached at ``fastest`` rows. ``limit`` is the smallest size with
    90 % of it. ``rising`` tells that the largest size measured is the fastest by far, so that a
    larger one may be faster still.

    ``target`` is the batch size that the promise ``slo`` allows on ``devices``, None where nothing
    is promised and 0 where not even one row fits: of those that fit, the one with the best
    throughput. ``target_throughput`` is what all devices do with it. ``buckets`` are the sizes that
    a device that pads should have, nothing on others.
    """

    alpha: float
    beta: float
    throughput: float
    fastest: int
    limit: int
    rising: bool
    slo: float
    devices: int
    target: int | None
    target_throughput: float
    buckets: tuple[int, ...]


def advise(profile: LatencyProfile, *, slo: float = 0.0, devices: int = 1) -> Advice:
    """Draw the conclusions from a profile.

    While a request waits, on average the next of ``devices`` becomes free after the ``devices``-th
    part of a batch; then it runs with its own batch. Both have to fit: (1 + 1 / devices) plans, a
    plan being the mean and two spreads, as the scheduler counts.

    :param slo: seconds that are promised; 0 for nothing.
    """
    sizes = profile.sizes
    model = LatencyModel(profile, sizes[-1])
    rates = {n: n / seconds for n, seconds in zip(sizes, profile.seconds, strict=True)}
    best = max(rates.values())
    target, target_rate = None, 0.0
    if slo > 0:
        within = model.rows_within(slo / (1 + 1 / devices))
        # Not simply the largest: some sizes run at half the speed of the next smaller one.
        fitting = {within: within / model.mean(within)} | rates
        target_rate, target = max((rate, n) for n, rate in fitting.items() if n <= within)
    return Advice(
        alpha=model.alpha,
        beta=model.beta,
        throughput=best,
        fastest=next(n for n in sizes if rates[n] == best),
        limit=next(n for n in sizes if rates[n] >= ENOUGH * best),
        rising=best == rates[sizes[-1]] and best > STILL_RISING * rates[sizes[-2:][0]],
        slo=slo,
        devices=devices,
        target=target,
        target_throughput=devices * target_rate,
        buckets=sizes if profile.padded else (),
    )
