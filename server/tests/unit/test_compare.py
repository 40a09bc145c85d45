"""Tests of what the comparison with other servers makes of what it sees."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# The benchmarks are a package beside the tests, not an installed one.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.compare.figures import (
    ModelResult,
    Place,
    Point,
    Spread,
    Visit,
    ratio,
    rotated,
    spread,
    visit_of,
    void_reason,
)
from benchmarks.compare.goals import add_ratios
from benchmarks.compare.table import model_document, model_text, point_text
from benchmarks.compare.turns import take_turns
from benchmarks.comparison import Effort, Ratio
from benchmarks.usage import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SEEN = {
    "requests": 200,
    "seconds": 2.0,
    "p50_ms": 1.5,
    "p99_ms": 4.0,
    "cpu_seconds": 0.5,
    "wrong": 0,
    "failed": 0,
    "example": "",
}
ECHO = "bare grpc.aio echo"
TRITON = "Triton 2.51, Python backend"


def visit(rate: float, p99: float = 2.0) -> Visit:
    """Return a visit of some rate."""
    return Visit(int(rate), rate, 1.0, p99, 100.0, 0.1, 0.0)


def place(*rates: float) -> Place:
    """Return a place of some rates, a round each."""
    return Place([visit(rate) for rate in rates])


def point(model: str, **places: Place) -> Point:
    """Return a point at 16 in flight; underlines in titles stand for blanks."""
    titles = {"echo": ECHO, "triton": TRITON}
    named = {titles.get(title, title): one for title, one in places.items()}
    return Point(model, 16, 4, "prepared HTTP/2 callers", named)


class FakeEntrant:
    """Shows the rates that it is given, then ``void``; writes down when it was visited."""

    def __init__(self, title: str, rates: Sequence[float], diary: list[str]) -> None:
        self.title = title
        self._rates = list(rates)
        self._diary = diary

    def visit(
        self, concurrency: int, seconds: float, others_cpu: Callable[[], float]
    ) -> tuple[Visit | None, str]:
        """Show the next rate."""
        self._diary.append(self.title)
        if not self._rates:
            return None, "3 of 9 answers were wrong"
        rate = self._rates.pop(0)
        return Visit(concurrency, rate, seconds, 2.0, 100.0, 0.1, others_cpu()), ""

    def cpu_seconds(self) -> float:
        """Return the length of the name, to be told apart."""
        return float(len(self.title))

    def memory(self) -> Memory:
        """Return none."""
        return Memory(0.0, 0.0)


def test_every_round_begins_one_further_on() -> None:
    """After as many rounds as there are peers, each has been the first one once."""
    orders = [rotated(["a", "b", "c"], nth) for nth in range(4)]
    expected = [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
    assert expected == orders


def test_nobody_has_an_order() -> None:
    """Where nobody takes part, there is nothing to turn."""
    assert [] == rotated([], 3)


def test_a_spread_is_the_median_with_its_ends() -> None:
    """The median does not move with one bad round; the ends show it."""
    assert Spread(10.0, 1.0, 12.0) == spread([12.0, 1.0, 10.0])


def test_cpu_time_is_shared_by_the_requests() -> None:
    """CPU seconds of the tree over requests are microseconds of each; the rest is per second."""
    assert Visit(200, 100.0, 1.5, 4.0, 5000.0, 0.25, 0.1) == visit_of(SEEN, 1.0, 0.2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"wrong": 2, "example": "request 3"}, "2 of 200 answers were wrong: request 3"),
        ({"failed": 1, "example": "UNAVAILABLE"}, "1 calls failed beside 200"),
        ({"requests": 0}, "nothing was answered"),
    ],
)
def test_wrong_answers_and_failed_calls_void_a_figure(
    change: dict[str, object], words: str
) -> None:
    """A figure is void by a wrong answer, a failed call, or no answer, and says by which."""
    reason = void_reason({**SEEN, **change})
    assert words in reason
    assert bool(words) is bool(reason)


def test_a_ratio_is_the_median_of_single_rounds() -> None:
    """Rounds are divided one by one, so that a slow minute slows both sides of its ratio."""
    places = {"ours": place(10, 40, 30), "theirs": place(5, 10, 30)}
    found = ratio(places, "ours", "theirs", "rate", (2.5, False))
    assert Ratio("rate over theirs", 2.0, 1.0, 4.0, 2.5, at_most=False) == found
    assert found is not None
    assert found.verdict == "miss"


@pytest.mark.parametrize("void", ["ours", "theirs"])
def test_a_void_figure_has_no_ratio(void: str) -> None:
    """Neither side of a ratio may be void."""
    places = {"ours": place(1), "theirs": place(1)}
    places[void] = Place(void="1 of 2 answers were wrong")
    assert ratio(places, "ours", "theirs", "rate") is None


def test_one_that_is_absent_has_no_ratio() -> None:
    """There is no ratio to a peer that could not be started."""
    assert ratio({"ours": place(1)}, "ours", "theirs", "rate") is None


def test_our_server_is_held_to_the_echo_of_small_models() -> None:
    """The bar of 0.65 counts for the rate over the grpc.aio echo, and for nothing else."""
    found = point("mlp", jitney=place(70), echo=place(100), triton=place(100))
    add_ratios(found)
    bars = {one.name: (one.bar, one.verdict) for one in found.ratios if one.bar is not None}
    assert {f"rate over {ECHO}": (0.65, "pass")} == bars
    assert len(found.ratios) == 8


def test_our_server_is_held_to_triton_on_images() -> None:
    """On resnet18 the rate has to be 1.5 times Triton's, and the p99 no worse."""
    ours, theirs = Place([visit(90, p99=3.0)]), Place([visit(50, p99=2.0)])
    found = point("resnet18", jitney=ours, triton=theirs)
    add_ratios(found)
    verdicts = {one.name: one.verdict for one in found.ratios if one.bar is not None}
    assert {f"rate over {TRITON}": "pass", f"p99_ms over {TRITON}": "miss"} == verdicts


def test_all_are_visited_in_turn_and_the_first_round_does_not_count() -> None:
    """Three entrants and two rounds are nine visits, of which six count."""
    diary: list[str] = []
    entrants = {name: FakeEntrant(name, (1, 2, 3), diary) for name in ("a", "bb", "ccc")}
    places = take_turns(entrants, 16, Effort(2, 0.5), lambda _: None)
    assert ["a", "bb", "ccc", "bb", "ccc", "a", "ccc", "a", "bb"] == diary
    assert {"a": [2, 3], "bb": [2, 3], "ccc": [2, 3]} == {
        title: [one.rate for one in found.visits] for title, found in places.items()
    }


def test_what_the_others_used_is_told() -> None:
    """A visit is told the CPU time of all entrants but the visited one."""
    entrants = {name: FakeEntrant(name, (1, 2), []) for name in ("a", "bb", "ccc")}
    places = take_turns(entrants, 16, Effort(1, 0.5), lambda _: None)
    assert [5.0, 4.0, 3.0] == [found.visits[0].others_busy for found in places.values()]


def test_one_that_is_void_is_left_out_of_later_rounds() -> None:
    """A void figure stays void, and its peer takes no more of the others' time."""
    diary: list[str] = []
    said: list[str] = []
    entrants = {"a": FakeEntrant("a", (1, 2, 3), diary), "b": FakeEntrant("b", (1,), diary)}
    places = take_turns(entrants, 16, Effort(2, 0.5), said.append)
    assert places["b"].void == "3 of 9 answers were wrong"
    assert diary.count("b") == 2
    assert len(places["a"].visits) == 2
    assert "b is void: 3 of 9 answers were wrong" in said


def test_the_table_shows_medians_voids_and_verdicts() -> None:
    """A person sees each median with its ends, the reason of a void figure, and what was missed."""
    found = point("mlp", jitney=place(10, 30, 20), echo=place(100, 100, 100))
    found.places["Mosec (HTTP)"] = Place(void="1 of 9 answers were wrong:\nrequest 3")
    add_ratios(found)
    text = point_text(found)
    assert "## mlp, 16 in flight over 4 connections (prepared HTTP/2 callers)" in text
    assert "(10 to 30)" in text
    assert "void: request 3" in text
    assert "rate 0.20 (0.10 to 0.30) [at least 0.65: miss]" in text


def test_the_document_has_every_round_and_every_reason() -> None:
    """The file of results keeps single rounds, void figures' reasons, and who took no part."""
    found = point("mlp", jitney=place(10, 30), echo=Place(void="1 calls failed"))
    result = ModelResult("mlp", {"MLServer": "it ended (1)\nwhy"}, ["a note"], [found])
    result.memory["jitney"] = Memory(100.0, 60.0)
    document = model_document(result)
    places = document["points"][0]["places"]
    assert [10, 30] == [one["rate"] for one in places["jitney"]["rounds"]]
    assert {"median": 20.0, "low": 10.0, "high": 30.0} == places["jitney"]["rate"]
    assert {"void": "1 calls failed"} == places[ECHO]
    assert {"MLServer": "it ended (1)\nwhy"} == document["absent"]
    assert {"jitney": {"peak_rss": 100.0, "pss": 60.0}} == document["memory_mib"]


def test_who_took_no_part_is_named_with_the_reason() -> None:
    """No peer is left out silently."""
    result = ModelResult("mlp", {"MLServer": "it ended (1): first\nwhy"}, [])
    assert "MLServer took no part: why" in model_text(result)
