"""Many requests at a time, through both clients."""

from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jitney_client import InferResult, InvalidRequest
from jitney_client.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_server import FakeServer


def row(value: float) -> Any:
    """Return one row."""
    return np.full((1, 2), value, np.float32)


def test_results_come_in_order(client: Any) -> None:
    """Whatever runs at the same time, the n-th result is that of the n-th item."""
    results = client.infer_many("one", [row(n) for n in range(50)], concurrency=7)
    assert [float(n) for n in range(50)] == [result["x_out"][0, 0] for result in results]


def test_no_more_than_allowed_run_at_a_time(server: FakeServer, client: Any) -> None:
    """While the first ones wait, only so many have reached the server, and the rest do so later."""
    items = [{"a": row(n)} for n in range(20)]
    results = client.infer_many("slow", items, concurrency=3)
    server.release.wait(0.1)
    assert len(server.infers) <= 3
    server.release.set()
    assert 20 == len(list(results))


def test_items_may_be_endless(server: FakeServer, client: Any) -> None:
    """Items are taken as they are needed; leaving early sends nothing more."""
    taken = []

    def items() -> Iterator[Any]:
        for n in itertools.count():
            taken.append(n)
            yield row(n)

    results = client.infer_many("one", items(), concurrency=2)
    assert [0.0, 1.0, 2.0] == [r["x_out"][0, 0] for r in itertools.islice(results, 3)]
    results.close()
    assert len(taken) <= 3 + 2 * 2 + 1
    assert len(server.infers) <= len(taken)


def test_the_first_failure_is_raised(client: Any) -> None:
    """By default an item that fails ends the run, after the results before it."""
    results = client.infer_many("one", [row(0), np.zeros((1, 2)), row(2)])
    assert 0.0 == next(results)["x_out"][0, 0]
    with pytest.raises(InvalidRequest):
        next(results)


def test_failures_can_be_given_out(client: Any) -> None:
    """An item that fails has its error in its place, whatever is wrong with it."""
    items = [row(0), np.zeros((1, 2)), np.zeros((1, 2), complex), row(3)]
    kinds = [type(r) for r in client.infer_many("one", items, return_errors=True)]
    assert [InferResult, InvalidRequest, TypeError, InferResult] == kinds


def test_a_function_is_told_how_far_it_is(client: Any) -> None:
    """After each result it gets the number done, and the number of all where that is known."""
    told: list[Any] = []
    list(client.infer_many("one", [row(0)] * 3, progress=lambda *far: told.append(far)))
    list(client.infer_many("one", iter([row(0)]), progress=lambda *far: told.append(far)))
    assert [(1, 3), (2, 3), (3, 3), (1, None)] == told


@pytest.mark.parametrize("count", [0, -1])
def test_nothing_at_a_time_is_refused(client: Any, count: int) -> None:
    """At least one request has to be allowed."""
    with pytest.raises(ValueError, match="concurrency: expected 1 or more"):
        list(client.infer_many("one", [], concurrency=count))


class Terminal(io.StringIO):
    """A terminal, as far as writing goes."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


def test_the_bar_shows_share_rate_and_rest() -> None:
    """The line is rewritten ten times a second at most, and stays at the end."""
    times = iter([0.0, 1.0, 1.05, 4.0, 4.0])
    terminal = Terminal()
    progress = Progress(show=True, total=8, stream=terminal, clock=lambda: next(times))
    for _ in range(3):
        progress.advance()
    progress.close()
    progress.close()
    lines = terminal.getvalue().split("\r\x1b[K")
    assert [
        "",
        "[###.....................] 1/8 (12 %), 1/s, 0:07 left",
        "[#########...............] 3/8 (37 %), 1/s, 0:07 left",
        "[#########...............] 3/8 (37 %), 1/s, 0:07 left\n",
    ] == lines


def test_without_a_total_the_time_so_far_is_shown() -> None:
    """Of an endless run nobody knows the rest."""
    times = iter([0.0, 3725.0])
    terminal = Terminal()
    progress = Progress(show=True, total=None, stream=terminal, clock=lambda: next(times))
    progress.advance()
    assert "\r\x1b[K1 done, 0/s, 1:02:05" == terminal.getvalue()


def test_there_is_no_bar_without_a_terminal() -> None:
    """In a file, a line that is rewritten would be noise."""
    file = io.StringIO()
    progress = Progress(show=True, total=1, stream=file)
    progress.advance()
    progress.close()
    assert "" == file.getvalue()
