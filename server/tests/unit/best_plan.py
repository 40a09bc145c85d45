"""What ``scheduling.plan`` should find, by trying everything: slow and obvious."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from jitney.scheduling.plan import WEIGHTS, Terms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.scheduling.batch import Entry

__all__ = ["Best", "best_plan", "plan_from"]


class Best(NamedTuple):
    """The batch ``first`` … ``end`` - 1 of ``rows`` rows, and its value.

    From ``skip`` to ``first`` entries are given up; those before are left alone.
    """

    value: float
    skip: int
    first: int
    end: int
    rows: int


def best_plan(
    entries: Sequence[Entry], planned: Callable[[int], float], terms: Terms, skip: int = 0
) -> Best:
    """Try every number of entries to give up, from ``skip`` on.

    By the words of ``plan``'s contract and nothing cleverer: the longest batch from each first
    entry that ends in time, and no further one is tried once nothing behind is left out, or no
    deadline bounds the batch. Those with more rows than there is time for cost no reach, and are
    left alone if they come first.
    """
    best = Best(-math.inf, skip, skip, skip, 0)
    reach = terms.reach
    for first in range(skip, len(entries)):
        made = plan_from(entries, planned, terms, skip, first)
        if not made.rows and not best.rows:
            skip = first + 1
            best = Best(-math.inf, skip, skip, skip, 0)
            continue
        if made.rows and made.value > best.value:
            best = made
        rows, nbytes, _ = sums(entries[first : made.end])
        all_fit = made.end == len(entries)
        if all_fit or rows == terms.max_rows or nbytes >= terms.max_bytes or reach == 0:
            break
        following = entries[made.end]
        slack = entries[first].position - terms.start
        if planned(terms.max_rows) <= slack or (
            nbytes + following.nbytes > terms.max_bytes and planned(rows + following.rows) <= slack
        ):
            break  # the limits of a batch bound it, not a deadline
        reach -= made.end > first
    return best


def plan_from(
    entries: Sequence[Entry],
    planned: Callable[[int], float],
    terms: Terms,
    skip: int,
    first: int,
) -> Best:
    """Return the longest batch that begins with ``first`` and ends in time, and what it is worth.

    That is what its rows are, less the price of its time, less what was given up from ``skip`` on.
    """
    end = first
    slack = entries[first].position - terms.start
    while end < len(entries) and fits(entries[first : end + 1], planned, terms, slack):
        end += 1
    rows, _, weight = sums(entries[first:end])
    given_up = sums(entries[skip:first])[2]
    value = weight - terms.price * planned(rows) - terms.keep * given_up
    return Best(value, skip, first, end, rows)


def fits(
    entries: Sequence[Entry], planned: Callable[[int], float], terms: Terms, slack: float
) -> bool:
    """Whether entries make a batch that ends in time."""
    rows, nbytes, _ = sums(entries)
    return rows <= terms.max_rows and nbytes <= terms.max_bytes and planned(rows) <= slack


def sums(entries: Sequence[Entry]) -> tuple[int, int, float]:
    """Return rows, bytes and weight."""
    return (
        sum(entry.rows for entry in entries),
        sum(entry.nbytes for entry in entries),
        sum(entry.rows * WEIGHTS[entry.priority] for entry in entries),
    )
