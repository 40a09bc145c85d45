"""What the harnesses of faults are made of: that they would find what they look for."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from chaos.catalogue import SCENARIOS
from chaos.faults.soaking import slope
from chaos.faulty_model import (
    INPUT_BYTES,
    ODD,
    WORD,
    Command,
    answer,
    message,
    mix,
    read_answer,
)
from chaos.fuzz.names import NameReader
from chaos.fuzz.run import TARGETS
from chaos.fuzz.target import Target, feed, kept
from chaos.history import History
from chaos.page import Page
from chaos.verdict import Bound, Figure, Verdict, percentile

from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.fuzz.target import Reader
    from chaos.scenario import Scenario

# -- histories ------------------------------------------------------------------------------------


def test_a_request_that_ends_twice_is_found() -> None:
    """The second end counts as double, and not among the ends."""
    history = History()
    history.invoke(1, 10.0)
    history.end(1, 11.0, "OK")
    history.end(1, 12.0, "UNAVAILABLE")

    assert (1, {"OK": 1}) == (history.double, dict(history.codes))
    assert ["request 1 ended twice, or was never sent"] == history.problems


def test_a_request_that_never_ends_is_found() -> None:
    """What was invoked and has not ended stays open."""
    history = History()
    history.invoke(1, 10.0)

    assert (1, 1, {}) == (history.invoked, history.open, dict(history.codes))


def test_a_wrong_answer_is_an_end_and_a_problem() -> None:
    """It is none of the statuses that a server can give."""
    history = History()
    history.invoke(1, 10.0)
    history.wrongly(1, 11.0, "another's row")

    assert (1, 0, {"WRONG": 1}) == (history.wrong, history.open, dict(history.codes))


@pytest.mark.parametrize(
    ("began", "ended", "stamp", "bad"),
    [
        (0.5, 0.9, 1, 0),  # before the second load began
        (0.5, 0.9, 2, 1),  # which it cannot know of
        (1.5, 1.9, 1, 0),  # while it goes on, either may answer
        (1.5, 1.9, 2, 0),
        (2.5, 2.9, 1, 1),  # after it has ended, the first is over
        (2.5, 2.9, 2, 0),
        (1.5, 2.9, 1, 0),  # a request that was there before may have been in its batch
    ],
)
def test_answers_of_loads_that_were_not_serving_are_found(
    began: float, ended: float, stamp: int, bad: int
) -> None:
    """The first load serves from the start, the second is asked for at 1 and done at 2."""
    history = History()
    history.invoke(1, began)
    history.end(1, ended, "OK", stamp=stamp)

    assert bad == history.stamp_problems([(0.0, 0.0, 1), (1.0, 2.0, 2)])


# -- models ---------------------------------------------------------------------------------------


def reply_to(request: bytes, *, stamp: int = 0) -> pb.ModelInferResponse:
    """Return what a right worker makes of a request."""
    asked = pb.ModelInferRequest.FromString(request)
    (data,) = asked.raw_input_contents
    rows = [data[at : at + INPUT_BYTES] for at in range(0, len(data), INPUT_BYTES)]
    response = pb.ModelInferResponse(model_name=asked.model_name, id=asked.id)
    response.raw_output_contents.append(b"".join(answer(row, stamp) for row in rows))
    return response


@pytest.mark.parametrize("rows", [1, 3])
def test_a_right_answer_tells_the_load_that_gave_it(rows: int) -> None:
    """All rows carry the request's number, its mix, and one stamp."""
    reply = reply_to(message(7, rows=rows), stamp=4)

    assert 4 == read_answer(reply.SerializeToString(), 7, rows)


def test_answers_to_others_are_told_from_ones_own() -> None:
    """Another's reply, another's row in one's own, and rows of two loads are no answer."""
    others = reply_to(message(8))
    mixed = reply_to(message(7, rows=2))
    mixed.raw_output_contents[0] = answer(row_of(7), 0) + answer(row_of(8), 0)
    torn = reply_to(message(7, rows=2))
    torn.raw_output_contents[0] = answer(row_of(7), 1) + answer(row_of(7), 2)
    short = reply_to(message(7))

    replies = ((others, 1), (mixed, 2), (torn, 2), (short, 2))
    assert [None] * 4 == [read_answer(r.SerializeToString(), 7, rows) for r, rows in replies]


def row_of(number: int) -> bytes:
    """Return a row of a request."""
    return number.to_bytes(8, "little") + bytes(8)


@pytest.mark.parametrize("number", [0, 1, 2, 12_345, (1 << 62) + 1])
def test_a_mix_is_what_wrapping_arithmetic_makes_of_it(number: int) -> None:
    """A device that multiplies in 64 bits with a sign gets the same."""
    odd = ODD - (WORD + 1)
    with np.errstate(over="ignore"):
        wrapped = (np.int64(number) * np.int64(odd) >> np.int64(1)) & np.int64((1 << 63) - 1)

    assert int(wrapped) == mix(number)


def test_only_the_first_row_of_a_request_commands() -> None:
    """The others are its company, as rows of other requests are."""
    (data,) = pb.ModelInferRequest.FromString(message(3, Command.DIE, rows=3)).raw_input_contents

    commands = [int.from_bytes(data[at + 8 : at + 16], "little") for at in range(0, len(data), 16)]
    assert [Command.DIE, 0, 0] == commands


# -- verdicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "goal", "bound", "missed"),
    [
        (1.0, 1.0, Bound.AT_MOST, False),
        (1.1, 1.0, Bound.AT_MOST, True),
        (1.0, 1.0, Bound.AT_LEAST, False),
        (0.9, 1.0, Bound.AT_LEAST, True),
        (1.0, 1.0, Bound.EXACTLY, False),
        (0.9, 1.0, Bound.EXACTLY, True),
        (math.nan, 1.0, Bound.AT_MOST, True),
        (math.nan, 1.0, Bound.AT_LEAST, True),
        (math.nan, 1.0, Bound.EXACTLY, True),
        (math.inf, 1.0, Bound.AT_MOST, True),
        (5.0, None, Bound.AT_MOST, False),
    ],
)
def test_a_figure_misses_its_goal_on_one_side(
    value: float, goal: float | None, bound: Bound, *, missed: bool
) -> None:
    """What is no number reaches no goal, and what has no goal misses none."""
    assert missed is Figure("x", value, "s", goal, bound).missed


def test_a_verdict_says_what_was_missed() -> None:
    """In text one line per figure, in JSON the same; infinity is null there."""
    verdict = Verdict("some")
    verdict.at_most("slow", math.inf, 3, "s")
    verdict.tell("count", 1_000_000)

    assert ["some               slow: inf s (goal: at most 3 s) MISS"] == [
        line for line in verdict.to_text().splitlines() if "MISS" in line
    ]
    document = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert ("miss", None) == (document["verdict"], document["figures"][0]["value"])


@pytest.mark.parametrize(("percent", "expected"), [(50, 2.0), (99, 4.0), (0, 1.0)])
def test_a_percentile_is_one_of_the_values(percent: float, expected: float) -> None:
    """The smallest that so many percent are not above."""
    assert expected == percentile([3.0, 1.0, 2.0, 4.0], percent)


def test_what_grows_has_a_slope() -> None:
    """Bytes per request, whatever the level."""
    assert 8.0 == pytest.approx(slope([0, 100, 200], [5000, 5800, 6600]))


def test_a_page_is_summed_by_its_labels() -> None:
    """Samples without the labels that are asked for do not count."""
    page = Page(
        '# TYPE calls counter\ncalls_total{code="OK",method="a"} 3\n'
        'calls_total{code="OK",method="b"} 4\ncalls_total{code="NO",method="a"} 5\n'
    )

    assert (12, 8) == (page.total("calls_total"), page.total("calls_total", method="a"))
    assert {"OK": 3, "NO": 5} == dict(page.by("calls_total", "code", method="a"))


# -- scenarios ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_is_given_what_it_takes(scenario: Scenario) -> None:
    """Its sizes and its control set parameters that it has, and all that it needs."""
    parameters = inspect.signature(scenario.run).parameters
    sizes = [scenario.long, scenario.short or scenario.long]
    if scenario.control is not None:
        sizes.append({**scenario.long, **scenario.control.parameters})
    for size in sizes:
        inspect.signature(scenario.run).bind(None, None, **size)
        assert set() == size.keys() - parameters.keys()
    assert scenario.goal[0] in "RT"


def test_scenarios_have_names_of_their_own() -> None:
    """Or one would overwrite the results of another."""
    names = [scenario.name for scenario in SCENARIOS]

    assert sorted(set(names)) == sorted(names)


# -- fuzzing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_once_stays_fixed(name: str) -> None:
    """Every input that ever was a finding is taken, or refused in good order."""
    reader = TARGETS[name].make()
    for data in kept(name):
        reader.read(data)
    reader.settle()


@pytest.mark.parametrize(
    ("name", "least"), [("requests", 6), ("control", 7), ("configs", 5), ("archives", 3)]
)
def test_fuzzing_begins_with_inputs_that_are_taken(name: str, least: int) -> None:
    """Wounds of what is refused at the door show nothing of what is behind it."""
    target = TARGETS[name]
    reader = target.make()

    taken = sum(reader.read(data) for data in target.corpus())
    reader.settle()

    assert least <= taken


class Fragile:
    """A reader with a defect: it cannot bear a certain byte."""

    def __init__(self) -> None:
        self.seen = 0

    def read(self, data: bytes) -> bool:
        """Read an input, or break."""
        self.seen += 1
        if b"\xff" in data:
            msg = "a byte that nobody thought of"
            raise LookupError(msg)
        return len(data) > 0

    def settle(self) -> None:
        """Say that something is left."""
        msg = "a slot is still held"
        raise AssertionError(msg)


def test_a_defect_is_found_and_its_input_kept() -> None:
    """Both what reading raises and what is left at the end are faults."""

    def make() -> Reader:
        return Fragile()

    def corpus() -> Sequence[bytes]:
        return [b"abc", b"def"]

    fed = feed(Target("fragile", make, corpus), 500, seed=1)

    assert 0 < len(fed.crashers) == len(fed.faults) - 1
    assert all(b"\xff" in crasher for crasher in fed.crashers)
    assert "at the end: AssertionError: a slot is still held" == fed.faults[-1]


def test_what_is_opened_outside_is_noticed(tmp_path: Path) -> None:
    """The reader of names is told of every file that Python opens, also by a defect."""
    outside = tmp_path / "secret"
    outside.write_text("swordfish")
    reader = NameReader()
    # As a server would that believes in names: joined, and opened.
    reader.uses = (lambda name: os.close(os.open(Path("/", name), os.O_RDONLY)),)

    with pytest.raises(AssertionError, match=r"opened .*secret"):
        reader.read(str(outside).encode())
    reader.settle()


def test_mutated_inputs_are_the_same_for_the_same_seed() -> None:
    """A finding can be found again."""
    corpus = TARGETS["names"].corpus()

    first, second = (feed_inputs(corpus, seed) for seed in (3, 3))

    assert first == second != feed_inputs(corpus, 4)


def feed_inputs(corpus: Sequence[bytes], seed: int) -> list[bytes]:
    """Return what a reader is fed with."""
    seen: list[bytes] = []

    class Collector:
        def read(self, data: bytes) -> bool:
            seen.append(data)
            return True

        def settle(self) -> None:
            pass

    feed(Target("collector", Collector, lambda: corpus), 50, seed)
    return list(itertools.islice(seen, len(corpus), None))
