"""How many threads a model's operators use, by the size of the batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from jitney.runtime.threads import AS_SET, Threads, choose_threads

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeRunner:
    """Takes as long as it is told, by rows and threads; values are their number of rows."""

    def __init__(self, seconds: Callable[[int, int], float], threads: int = 2) -> None:
        self.device = SimpleNamespace(threads=threads, use_threads=self._use)
        self.timed: set[int] = set()
        self._seconds = seconds
        self._using = threads

    def _use(self, count: int) -> None:
        self._using = count

    def seconds(self, _: object, rows: int, __: int, repeats: int = 1) -> float:
        """Return the seconds of one run."""
        assert repeats > 0
        self.timed.add(rows)
        return self._seconds(rows, self._using)


def chosen(runner: FakeRunner, buckets: list[int]) -> tuple[Threads, str]:
    """Let a runner choose; inputs of so many rows are that number."""
    source = SimpleNamespace(make=lambda rows, seed: rows)  # noqa: ARG005  # the source's signature
    return choose_threads(cast("Any", runner), cast("Any", None), cast("Any", source), buckets)


def transformer(rows: int, threads: int) -> float:
    """Gain nothing at one row and 1.7 times the speed at 32, as measured of a small one."""
    gain = {1: 1.02, 2: 1.16, 4: 1.38, 8: 1.40, 16: 1.59, 32: 1.71}[rows]
    return 0.005 * rows / (gain if threads == 2 else 1)


def test_small_batches_use_one_thread_and_larger_ones_all() -> None:
    """Where only larger batches gain, smaller ones keep to one thread."""
    threads, why = chosen(FakeRunner(transformer), [1, 2, 4, 8, 16, 32])
    assert Threads(2, 2) == threads
    assert [1, 2, 2, 2] == [threads.of(rows) for rows in (1, 2, 3, 32)]
    assert why.endswith(
        "1.02 at 1, 1.16 at 2, 1.38 at 4, 1.59 at 16, 1.71 at 32; so it uses 2 from 2 rows on"
    )


def test_a_model_that_always_gains_uses_all() -> None:
    """Where every size gains, every size uses all threads."""
    threads, why = chosen(FakeRunner(lambda rows, threads: 1e-3 * rows / threads), [1, 8])
    assert (Threads(2), True) == (threads, why.endswith("so it uses 2"))


def test_a_model_that_loses_uses_one() -> None:
    """Where threads cost more than they bring, there is one, whatever the rows."""
    threads, why = chosen(FakeRunner(lambda rows, threads: 1e-5 * rows * threads), [1, 8, 64])
    assert (Threads(1), True) == (threads, why.endswith("so it uses 1"))
    assert [1, 1] == [threads.of(1), threads.of(64)]


def test_one_disturbed_size_does_not_decide() -> None:
    """A size in the middle that seems to gain little does not take the larger ones' threads."""

    def seconds(rows: int, threads: int) -> float:
        gain = {1: 1.5, 4: 1.05, 16: 1.6}[rows]
        return 1e-3 * rows / (gain if threads == 2 else 1)

    assert Threads(2) == chosen(FakeRunner(seconds), [1, 4, 16])[0]


def test_sizes_that_take_too_long_are_left_out() -> None:
    """Of sizes whose rounds would take seconds only the first is timed."""
    runner = FakeRunner(lambda rows, threads: 1.0 * rows / threads)
    assert Threads(2) == chosen(runner, [1, 2, 4])[0]
    # The second was looked at once, to know how long it takes.
    assert {1, 2} == runner.timed


@pytest.mark.parametrize("threads", [0, 1])
def test_without_threads_there_is_nothing_to_choose(threads: int) -> None:
    """A device with one thread, or whose threads decide nothing, is left as it is."""
    runner = FakeRunner(lambda *_: 1.0, threads)
    assert (AS_SET, "") == chosen(runner, [1])
    assert (0, set()) == (AS_SET.of(8), runner.timed)
