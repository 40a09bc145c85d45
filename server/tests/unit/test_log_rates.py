"""How many records of one line of the program go through."""

from __future__ import annotations

import logging

from jitney.telemetry.log_rates import SiteRates

HERE, THERE = ("jitney.x", 1), ("jitney.x", 2)


def taken(rates: SiteRates, count: int, now: float, site: tuple[str, int | str] = HERE) -> int:
    """Log so often; return how many went through."""
    return sum(rates.take(site, logging.INFO, now) for _ in range(count))


def test_so_many_go_through_in_a_second() -> None:
    """The next second has room again."""
    rates = SiteRates(3)

    assert [3, 0, 3] == [taken(rates, 5, 0.0), taken(rates, 1, 0.9), _after(rates, 1.0)]


def _after(rates: SiteRates, now: float) -> int:
    rates.summaries(now)
    return taken(rates, 5, now)


def test_each_line_counts_for_itself() -> None:
    """A flood from one place does not hide what another one says."""
    rates = SiteRates(2)

    assert [2, 2] == [taken(rates, 9, 0.0), taken(rates, 9, 0.0, THERE)]


def test_what_was_left_out_is_told_when_its_second_is_over() -> None:
    """Once, with the highest level of the site."""
    rates = SiteRates(2)
    taken(rates, 5, 0.0)
    rates.take(HERE, logging.ERROR, 0.1)
    taken(rates, 2, 0.0, THERE)

    assert (True, []) == (rates.pending, rates.summaries(0.5))
    assert [(HERE, logging.ERROR, 4)] == rates.summaries(1.0)
    assert (False, [], 4) == (rates.pending, rates.summaries(2.0), rates.left_out)


def test_at_the_end_everything_is_told() -> None:
    """A second that is not over is taken for it."""
    rates = SiteRates(1)
    taken(rates, 3, 0.0)

    assert [(HERE, logging.INFO, 2)] == rates.summaries(0.0, final=True)


def test_a_count_that_was_not_told_is_not_forgotten() -> None:
    """Records that come after the second, and before anybody looked, are of the same count."""
    rates = SiteRates(1)
    taken(rates, 3, 0.0)
    taken(rates, 3, 5.0)

    assert [(HERE, logging.INFO, 5)] == rates.summaries(5.0)


def test_no_rate_lets_everything_through() -> None:
    """And counts nothing."""
    rates = SiteRates(0)

    assert (1000, False) == (taken(rates, 1000, 0.0), rates.pending)
