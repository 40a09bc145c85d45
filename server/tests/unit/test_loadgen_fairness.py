"""How evenly what a server could do was shared out, as one number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney.loadgen.fairness import fairness, jain, max_min


@pytest.mark.parametrize(
    ("demands", "total", "expected"),
    [
        ([10, 10], 10, [5, 5]),
        ([20, 1], 10, [9, 1]),
        ([4, 2, 10, 1], 11, [4, 2, 4, 1]),
        ([5, 5], 20, [5, 5]),
        ([0, 5], 3, [0, 3]),
        ([], 3, []),
    ],
)
def test_nobody_gets_more_than_he_asked_for(
    demands: list[float], total: float, expected: list[float]
) -> None:
    """What is left of small demands goes to the others, in equal parts."""
    assert expected == max_min(demands, total)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8), st.floats(0, 1e7))
def test_everything_is_given_away(demands: list[float], total: float) -> None:
    """Up to what all ask for together."""
    fair = max_min(demands, total)

    assert min(total, sum(demands)) == pytest.approx(sum(fair), abs=1e-6)
    assert all(got <= asked + 1e-9 for got, asked in zip(fair, demands, strict=True))


@pytest.mark.parametrize(
    ("shares", "expected"), [([1, 1, 1], 1.0), ([1, 0], 0.5), ([3, 1], 0.8), ([0, 0], 1.0)]
)
def test_the_index_is_jains(shares: list[float], expected: float) -> None:
    """Its values are those of the paper's formula."""
    assert expected == pytest.approx(jain(shares))


def test_a_small_demand_that_is_met_is_fair() -> None:
    """A tenant that floods a server and gets the rest of it is not robbed."""
    assert 1.0 == pytest.approx(fairness({"noisy": (2000, 900), "quiet": (100, 100)}))


def test_a_small_demand_that_is_crowded_out_is_not() -> None:
    """What counts is the share of one's own, not the number of calls."""
    crowded = {"noisy": (2000, 990), "quiet": (100, 10)}

    assert 1.2**2 / (2 * (1.1**2 + 0.1**2)) == pytest.approx(fairness(crowded))


@pytest.mark.parametrize("tenants", [{}, {"one": (5, 5)}, {"a": (5, 0), "b": (5, 0)}])
def test_there_is_nothing_to_share(tenants: dict[str, tuple[int, int]]) -> None:
    """One tenant, or a server that answers nobody, is neither fair nor unfair."""
    assert fairness(tenants) is None
