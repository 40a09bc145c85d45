"""The search for the highest rate, and what is shown of it."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest

from jitney.cli.bench_text import describe
from jitney.loadgen import document
from jitney.loadgen.point import QUANTILES, Point
from jitney.loadgen.report import page
from jitney.loadgen.search import Found, Search, search, search_all

ALONE = 2.0


def point(
    load: float, *, met: bool = True, valid: bool = True, wrong: int = 0, **changed: Any
) -> Point:
    """Return a run of a made-up server."""
    ends = {"OK": 900, "RESOURCE_EXHAUSTED SHED": 100}
    calls = {
        "sent": 1000,
        "seconds": 10.0,
        "slo_ms": 50.0,
        "in_slo": 900,
        "share": 0.9,
        "rate": 0.9 * load,
        "send_lag_p99_ms": 0.5 if valid else 7.0,
        "valid": valid,
        **{f"{name}_ms": 3.25 for name in ("p50", "p90", "p95", "p99", "p99_9", "max")},
        "wrong": wrong,
        "ends": ends,
    }
    server = {
        "requests": 900,
        "failed": 100,
        "rows": 900,
        "batches": 300,
        "mean_rows": 3.0,
        "queue_ms": 1.5,
        "compute_input_ms": 0.1,
        "compute_infer_ms": 0.7,
        "compute_output_ms": 0.2,
        "batches_by_rows": {"1": 100, "3": 100, "5": 100},
    }
    given = {"closed": False, "callers": {}, "server": server, "seed": 1} | changed
    return Point(
        load=load,
        calls=calls,
        proven=met and valid,
        wrong=wrong,
        example="output 'y': <differs>" if wrong else "",
        unchecked=0,
        texts={"RESOURCE_EXHAUSTED SHED": "given up & gone"},
        quantiles=[1.0 + 0.1 * q for q in QUANTILES],
        generator_busy=0.2,
        **given,
    )


class FakeBench:
    """A server that does up to ``limit`` calls per second, and a generator up to ``fastest``."""

    def __init__(self, limit: float, fastest: float = 1e9, wrong_from: float = 1e9) -> None:
        self.limit, self.fastest, self.wrong_from = limit, fastest, wrong_from
        self.asked: list[tuple[float, float]] = []
        self.bad: set[int] = set()
        """Numbers of runs that something else disturbs."""

    def at_rate(self, rate: float, seed: int, seconds: float = 0.0) -> Point:
        """Return what would become of that rate."""
        self.asked.append((rate, seconds))
        return point(
            rate,
            met=rate <= self.limit and len(self.asked) not in self.bad,
            valid=rate <= self.fastest,
            wrong=int(rate >= self.wrong_from),
            seed=seed,
        )


@pytest.mark.parametrize("start", [1.0, 99.0, 100.0, 101.0, 30_000.0])
def test_the_search_ends_within_two_per_cent(start: float) -> None:
    """Wherever it begins, what it finds works and 2 % more does not."""
    found = search(FakeBench(100.0), start, 1)

    assert 98.0 <= found.rate <= 100.0
    assert "" == found.limit


def test_a_step_has_enough_calls_to_prove_something() -> None:
    """Low rates take longer: 1,001 calls prove 99 % in spite of three misses."""
    bench = FakeBench(20.0)

    search(bench, 10.0, 1)

    assert all(pytest.approx(1001) == rate * seconds for rate, seconds in bench.asked)


def test_one_bad_second_does_not_decide() -> None:
    """A rate that failed once, far below what the server can do, is tried again and passed."""
    bench = FakeBench(1000.0)
    bench.bad = {3}  # the third run

    found = search(bench, 50.0, 1)

    assert 200.0 == bench.asked[2][0]
    assert 980.0 <= found.rate <= 1000.0


def test_there_may_be_nothing_to_find() -> None:
    """A server that never keeps the promise has the goodput 0, and the search ends."""
    assert 0.0 == search(FakeBench(0.0), 1000.0, 1).rate


def test_a_generator_that_lags_is_named_as_the_limit() -> None:
    """Where the generator fails below the server, what is found is a least rate."""
    found = search(FakeBench(1000.0, fastest=300.0), 100.0, 1)

    assert 294.0 <= found.rate <= 300.0
    assert "generator" in found.limit


def test_a_generator_that_lags_far_above_is_no_limit() -> None:
    """Where the server fails first, it does not matter what the generator could not do."""
    assert "" == search(FakeBench(100.0, fastest=130.0), 90.0, 1).limit


def test_a_wrong_answer_ends_the_search() -> None:
    """A figure with a wrong answer in it is void, and so is the search."""
    bench = FakeBench(1000.0, wrong_from=350.0)

    found = search_all(bench, 100.0, seeds=3)

    assert (0.0, 1) == (found.rate, len(found.searches))
    assert [100.0, 200.0, 400.0] == [rate for rate, _ in bench.asked]


def test_several_searches_are_told_by_their_median() -> None:
    """Later seeds begin near the first one's rate."""
    bench = FakeBench(100.0)

    found = search_all(bench, 1.0, seeds=3)

    assert 3 == len(found.searches)
    assert 98.0 <= found.rate <= 100.0
    assert len(found.searches[1].points) < len(found.searches[0].points)


# -- what is shown --------------------------------------------------------------------------------

SETUP = {
    "model": "m",
    "version": "",
    "address": "h:1",
    "slo_ms": 50.0,
    "deadline_ms": 50.0,
    "seconds": 10.0,
    "arrivals": "Poisson",
    "inputs": "random",
    "different_inputs": 32,
    "rows": 1,
    "shapes": {"x": [1, 2]},
    "tenants": "",
    "priorities": "",
    "connections": 8,
    "processes": 1,
    "unchecked": "",
    "alone_ms": ALONE,
}
CALLER = point(1.0).calls


def results(*points: Point, **changed: Any) -> dict[str, Any]:
    """Return a document of runs and of the search that they were."""
    found = Found([Search(1, 200.0, points=list(points))])
    over = [(2.0, point(400.0, met=False))]
    made = document.make(SETUP, points, found, over)
    return {**made, **changed}


def test_a_search_is_told_in_a_table_and_a_sentence() -> None:
    """Each run is a line, in order of the load; the goodput stands below."""
    lines = list(describe(results(point(200.0), point(100.0), point(300.0, met=False))))

    table = [line.split()[0] for line in lines if re.match(r"\d", line)]
    assert ["100", "200", "300", "400"] == table
    assert "goodput 200.0/s: 99 % within 50 ms, at a confidence of 99 %" in lines


def test_single_runs_are_told_with_how_calls_ended() -> None:
    """Failures are counted with the server's words, and callers have lines of their own."""
    made = point(100.0, callers={"a": CALLER, "b": CALLER})

    lines = list(describe(results(made, found=None, overload=[])))

    assert "100/s: 100 RESOURCE_EXHAUSTED SHED: given up & gone" in lines
    assert "100/s: a: 90.00% of 1,000 in time, p50 3.25, p99 3.25 ms" in lines


def test_figures_that_are_worth_nothing_say_so() -> None:
    """A lagging generator and a wrong answer stand below the table and in the page."""
    made = results(point(100.0, valid=False), point(200.0, wrong=3))

    text, html = "\n".join(describe(made)), page(made)

    assert "100: invalid: the generator lagged, p99 7.00 ms (over 2% of the SLO)" in text
    assert "200: void: 3 wrong answers (output 'y': <differs>)" in text
    assert "Void: 3 wrong answers." in html
    # Below its row, and as wide as the table: there is no column of it.
    assert re.search(r'<td class="text" colspan="13">invalid: the generator lagged', html)
    assert "&lt;differs&gt;" in html


def test_the_page_stands_alone() -> None:
    """It has plots inside, and neither scripts nor anything to be fetched."""
    html = page(results(point(100.0, callers={"a": CALLER}), point(200.0)))

    assert 6 == html.count("<svg")
    assert "<script" not in html
    assert not re.findall(r'(?:src|href)="(?!#)', re.sub(r'xlink:href="#', "", html))
    assert "Goodput: 200.0 calls/s with 99 % within 50 ms." in html


def test_the_page_does_without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where matplotlib is not installed there are tables, and what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    html = page(results(point(100.0)))

    assert "<svg" not in html
    assert "jitney[plots]" in html


def test_the_page_of_a_closed_loop_has_no_promises() -> None:
    """Without an SLO there is throughput, by calls at once."""
    setup = {**SETUP, "slo_ms": 0, "arrivals": "closed loop"}
    made = point(16, closed=True, server=None)

    html = page({**results(made), "setup": setup, "found": None, "overload": []})

    assert "calls, /s" in html
    assert "proven</th>" not in html
    assert 3 == html.count("<svg")


def test_no_rate_at_all_is_said_plainly() -> None:
    """Text and page say that nothing was found."""
    nothing = results(point(1.0, met=False), overload=[])
    nothing["found"] = {"rate": 0.0, "rates": [0.0], "limit": ""}

    assert "no rate was found with 99 % of the calls within 50 ms" in list(describe(nothing))
    assert "No rate was found" in page(nothing)


def test_a_document_names_the_machine() -> None:
    """Figures without their machine are worth little."""
    made = results(point(1.0))

    assert {"cpu", "cores", "system", "load_before", "versions"} == set(made["machine"])
    assert "python" in made["machine"]["versions"]
