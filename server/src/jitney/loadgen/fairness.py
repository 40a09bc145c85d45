"""Whether tenants got what was theirs, as one number."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["fairness", "jain", "max_min"]


def fairness(tenants: Mapping[str, tuple[float, float]]) -> float | None:
    """Return Jain's index over what each tenant got, as a share of what it should have got.

    What it should have got is the max-min fair share of all that was answered in time: as much as
    it asked for, or as much as everybody else whose demand was not met either. So a tenant that
    asks for little and gets it does not look favoured, nor one that asks for too much, robbed.

    :param tenants: calls sent, and calls answered in time, by tenant.
    :returns: 1 where all got their share, 1/n where one of n got everything; None where there are
        not several tenants, or nothing was answered.
    """
    sent, good = zip(*tenants.values(), strict=True) if tenants else ((), ())
    if len(good) < 2 or not any(good):  # noqa: PLR2004  # several
        return None
    fair = max_min(sent, sum(good))
    return jain([got / share for got, share in zip(good, fair, strict=True) if share > 0])


def jain(shares: Sequence[float]) -> float:
    """Return Jain's index of fairness, (Σx)² / (n Σx²).

    R. Jain, D. Chiu, W. Hawe, "A Quantitative Measure of Fairness and Discrimination for Resource
    Allocation in Shared Computer Systems", DEC TR-301, 1984.
    """
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def max_min(demands: Sequence[float], total: float) -> list[float]:
    """Divide ``total`` so that nobody gets more than his demand, and the least get the most."""
    fair = [0.0] * len(demands)
    left = total
    for done, index in enumerate(sorted(range(len(demands)), key=demands.__getitem__)):
        fair[index] = min(demands[index], left / (len(demands) - done))
        left -= fair[index]
    return fair
