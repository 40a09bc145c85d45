"""Virtual time: the driver, its devices, the baselines, and our policy in small."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jitney.errors import JitneyError, Overloaded
from jitney.scheduling.batch import Batch, Reason, State
from jitney.testing import Simulation, VirtualDevice, make_entry, make_key

# The benchmarks are a package beside the tests, not an installed one.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.simulation.__main__ import main
from benchmarks.simulation.baselines import Baseline, Deferred, Fixed, LookAhead, Nexus, Turn
from benchmarks.simulation.bounds import clairvoyant, staggered
from benchmarks.simulation.goodput import best_goodput, goodput, meets
from benchmarks.simulation.grid import figure, grid
from benchmarks.simulation.jobs import Job, run
from benchmarks.simulation.line import Line
from benchmarks.simulation.load import Caller, Load
from benchmarks.simulation.policies import JITNEY, POLICIES, REFERENCE, fixed_choices, mode_of
from benchmarks.simulation.settings import SETTINGS, Setting
from benchmarks.simulation.tally import Misses, Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.simulation.baselines import Rule

    from jitney.scheduling.batch import Entry
    from jitney.testing.simulation import Decider

KEY = make_key(max_rows=64)
LINE = Line(1.0, 2.0)
"""A batch of n rows takes n + 2 seconds."""
SHORT = [replace(setting, count=1000, seeds=(1,)) for setting in SETTINGS]
SEVERAL = [setting for setting in SHORT if setting.name in {"S1", "S4", "S7", "R3"}]


class Script:
    """A policy that does at each turn what it was told, and remembers what it saw."""

    def __init__(self, *turns: Turn, due: float | None = None) -> None:
        self._turns = list(turns)
        self._due = due
        self._last: Entry | None = None
        self.seen: list[tuple[str, float]] = []

    def offer(self, entry: Entry, now: float) -> Sequence[tuple[Entry, JitneyError]]:
        """Refuse entries of two rows; for entry "evicts" turn the one before it out."""
        self.seen.append((f"offer {entry.request.id}", now))
        if entry.rows > 1:
            msg = "no"
            raise Overloaded(msg)
        before, self._last = self._last, entry
        if entry.request.id != "evicts" or before is None:
            return ()
        return [(before, Overloaded("for another", reason="TENANT_QUOTA"))]

    def turn(self, now: float) -> Turn:  # noqa: ARG002
        """Do what comes next."""
        return self._turns.pop(0) if self._turns else Turn([], [])

    def completed(
        self, batch: Batch, now: float, seconds: float | None, overhead: float = 0.0
    ) -> None:
        """Remember."""
        states = {entry.state for entry in batch.entries}
        assert State.DONE not in states
        assert seconds is not None
        self.seen.append((f"completed {batch.device} {seconds:g} {overhead:g}", now))

    def next_due(self, now: float) -> float | None:  # noqa: ARG002
        """Say what the script says."""
        return self._due


def batch_of(*entries: Entry, device: str = "d0", staged: bool = False) -> Batch:
    """Return a batch."""
    return Batch(KEY, list(entries), len(entries), Reason.IDLE, device, 0.0, staged=staged)


def device(name: str = "d0") -> VirtualDevice:
    """Return a device that is on LINE."""
    return VirtualDevice(name, lambda batch: LINE.seconds(batch.rows))


def entries_at(*times: float, slo: float = 10.0) -> list[Entry]:
    """Return entries that arrive then."""
    return [
        make_entry(KEY, id=str(i), arrived=time, deadline=time + slo)
        for i, time in enumerate(times)
    ]


def run_rule(rule: Rule, entries: Sequence[Entry]) -> list[tuple[float, int]]:
    """Let a rule run one device; return when each batch started and how many were in it."""
    starts: list[tuple[float, int]] = []

    class Notes(Tally):
        def answered(self, batch: Batch, now: float, seconds: float) -> None:
            starts.append((now - seconds, batch.rows))
            super().answered(batch, now, seconds)

    Simulation(Baseline(rule, ["d0"]), [device()], Notes()).run(entries)
    return starts


def test_a_batch_ends_when_its_device_is_done() -> None:
    """Arrivals, ends and turns come at their moments, and the device's seconds are reported."""
    one, two = entries_at(1.0, 2.0)
    script = Script(Turn([], [batch_of(one)]), Turn([], []))
    tally = Tally()
    simulation = Simulation(script, [device()], tally)
    simulation.run([one, two])
    expected = [("offer 0", 1.0), ("offer 1", 2.0), ("completed d0 3 0", 4.0)]
    assert expected == script.seen
    assert (1, 1, [3.0]) == (simulation.waiting, tally.all.in_time, tally.all.latencies)
    assert State.DONE is one.state


def test_a_staged_batch_starts_when_the_one_before_it_ends() -> None:
    """It is held on the device, takes its own time only, and nothing runs beside another."""
    one, two = entries_at(0.0, 1.0)
    script = Script(Turn([], [batch_of(one)]), Turn([], [batch_of(two, staged=True)]))
    simulation = Simulation(script, [device()], Tally())
    simulation.run([one, two])
    assert [("completed d0 3 0", 3.0), ("completed d0 3 0", 6.0)] == script.seen[2:]
    assert 6.0 == simulation.devices[0].busy


@pytest.mark.parametrize("staged", [False, True])
def test_a_device_takes_no_second_batch(*, staged: bool) -> None:
    """What a policy may not do ends the simulation instead of being put right."""
    one, two, three = entries_at(0.0, 1.0, 2.0)
    turns = [Turn([], [batch_of(one)]), Turn([], [batch_of(two, staged=staged)])]
    script = Script(*turns, Turn([], [batch_of(three, staged=staged)]))
    with pytest.raises(RuntimeError, match="cannot take"):
        Simulation(script, [device()], Tally()).run([one, two, three])


def test_nothing_can_be_staged_behind_nothing() -> None:
    """A staged batch on an idle device would never start."""
    (one,) = entries_at(0.0)
    script = Script(Turn([], [batch_of(one, staged=True)]))
    with pytest.raises(RuntimeError, match="cannot take"):
        Simulation(script, [device()], Tally()).run([one])


def test_a_policy_that_spins_is_found_out() -> None:
    """Waking at one moment again and again, with nothing to do, ends the simulation."""
    with pytest.raises(RuntimeError, match="was woken"):
        Simulation(Script(due=0.0), [device()], Tally()).run([])


def test_refusals_are_counted_by_reason() -> None:
    """One at the door and one in a turn; neither waits any more."""
    one, two = entries_at(0.0, 1.0)
    big = make_entry(KEY, rows=2, arrived=0.5)
    shed: tuple[Entry, JitneyError] = (one, Overloaded("given up", reason="SHED"))
    script = Script(Turn([], []), Turn([], []), Turn([shed], [batch_of(two)]))
    tally = Tally()
    simulation = Simulation(script, [device()], tally)
    simulation.run([one, big, two])
    assert {"QUEUE_FULL": 1, "SHED": 1} == tally.all.refusals
    assert (0, 1) == (simulation.waiting, tally.all.in_time)
    assert 1 / 3 == tally.all.share


def test_who_makes_room_is_refused() -> None:
    """An entry that is turned out for a newcomer ends as refused, and waits no more."""
    (one,) = entries_at(0.0)
    two = make_entry(KEY, id="evicts", arrived=1.0)
    tally = Tally()
    simulation = Simulation(Script(), [device()], tally)
    simulation.run([one, two])
    assert ({"TENANT_QUOTA": 1}, 1) == (tally.all.refusals, simulation.waiting)


def test_eager_takes_all_there_is() -> None:
    """What arrived while the device was busy shares the next batch."""
    assert [(0.0, 1), (3.0, 2)] == run_rule(Fixed(LINE), entries_at(0.0, 1.0, 2.0))


def test_fixed_waits_for_rows_or_for_the_delay() -> None:
    """Two rows leave at once, one alone after the delay."""
    rule = Fixed(LINE, rows=2, delay=1.5)
    assert [(1.0, 2), (9.5, 1)] == run_rule(rule, entries_at(0.0, 1.0, 8.0))


def test_look_ahead_takes_what_the_head_allows() -> None:
    """Of four that wait the first has the time for two rows; the last two come too late."""
    entries = entries_at(0.0, 0.5, 0.5, 0.5, 0.5, slo=6.5)
    assert [(0.0, 1), (3.0, 2)] == run_rule(LookAhead(LINE), entries)


def test_deferred_starts_at_the_last_moment() -> None:
    """One more would not fit beside two from deadline - l(3) on."""
    assert [(5.0, 2)] == run_rule(Deferred(LINE), entries_at(0.0, 1.0))


def test_nexus_drops_heads_that_would_miss_its_batch() -> None:
    """With a target of 3 the first of four would miss the end of the batch and is given up."""
    entries = entries_at(0.0, 0.5, 2.9, 2.9, 2.9, slo=7.0)
    assert [(0.0, 1), (3.0, 3)] == run_rule(Nexus(LINE, 3), entries)


def test_eager_batching_keeps_inoues_bound() -> None:
    """The mean response of one eager device is at most the bound of arXiv 1912.06322."""
    setting = SETTINGS[1]
    alpha, beta = setting.line
    for load in (0.3, 0.6, 0.9):
        rate = load / alpha
        tally = Tally()
        traffic = Load(setting, 1, who=lambda _: Caller(1e6))
        traffic.simulate(POLICIES["eager"](traffic), rate, tally)
        mean = sum(tally.all.latencies) / setting.count
        bound = 1.5 * beta / (1 - load) + alpha / 2 * (load + 2) / (1 - load**2)
        assert 0.9 * bound < mean <= 1.02 * bound


@pytest.mark.parametrize("setting", SEVERAL, ids=[setting.name for setting in SEVERAL])
@pytest.mark.parametrize("name", POLICIES)
def test_every_request_ends_once(setting: Setting, name: str) -> None:
    """At three times the capacity nothing is lost, and nothing is left waiting."""
    load = Load(setting, 1, mode=mode_of(name))
    ended: list[int] = []

    class Everyone(Tally):
        def answered(self, batch: Batch, now: float, seconds: float) -> None:
            ended.extend(map(id, batch.entries))
            super().answered(batch, now, seconds)

        def refused(self, entry: Entry, error: JitneyError, now: float) -> None:
            ended.append(id(entry))
            super().refused(entry, error, now)

    tally = Everyone()
    rate = 3 * staggered(setting)
    entries = list(load.entries(rate))
    devices = [VirtualDevice(n, lambda b: load.planned(b.rows)) for n in load.devices]
    simulation = Simulation(POLICIES[name](load), devices, tally)
    simulation.run(iter(entries))
    assert sorted(map(id, entries)) == sorted(ended)
    assert (0, setting.count) == (simulation.waiting, tally.all.total)
    assert tally.busy == pytest.approx(sum(d.busy for d in devices))
    assert all(d.running is None and d.staged is None for d in devices)


@pytest.mark.parametrize("name", [REFERENCE, JITNEY])
def test_what_is_answered_is_in_time(name: str) -> None:
    """Where latencies are known nobody is answered late, whatever is asked for."""
    for setting in SHORT:
        load, tally = Load(setting, 1), Tally()
        load.simulate(POLICIES[name](load), 2 * staggered(setting), tally)
        assert (setting.name, 0, 0.0) == (setting.name, tally.all.late, tally.wasted)


def test_the_search_keeps_to_the_last_rate_that_meets_the_target() -> None:
    """Goodput is a rate that meets 99 %; the best of several policies is none of the others'."""
    setting = SHORT[1]
    load, bound = Load(setting, 1), clairvoyant(setting, 1)
    make = POLICIES["eager"]
    found = goodput(make, load, bound, 6)
    assert meets(make, load, found)
    assert not meets(make, load, found + 1.02 * bound / 2**6)
    choices = [POLICIES["deferred"], make]
    assert max(goodput(m, load, bound, 6) for m in choices) == best_goodput(choices, load, bound, 6)
    assert 24 == len(fixed_choices(Load(SETTINGS[0], 1)))


def test_misses_stop_a_run_that_is_lost() -> None:
    """More than the limit is enough; those before the first that counts are not counted."""
    early, late, later = entries_at(0.0, 5.0, 6.0, slo=1.0)
    misses = Misses(since=1.0, limit=1)
    misses.answered(batch_of(early, late), 10.0, 1.0)
    assert (1, False) == (misses.count, misses.enough)
    misses.refused(later, Overloaded("full"), 10.0)
    assert (2, True) == (misses.count, misses.enough)


def test_who_never_ends_up_served_is_counted() -> None:
    """An entry without deadline that only the end of the arrivals sets free was not answered."""
    tally = Tally(closes=5.0)
    batch = batch_of(make_entry(KEY), *entries_at(0.0))
    tally.answered(batch, 9.0, 1.0)
    assert ({"UNSERVED": 1}, 1) == (tally.all.refusals, tally.all.in_time)


def test_ladders_and_jitter_change_what_devices_take() -> None:
    """A padded batch takes the time of its bucket, jitter keeps the mean and is repeatable."""
    setting = SHORT[1]
    padded = Load(setting, 1, ladder=(1, 4, 16))
    assert setting.line.seconds(4) == padded.planned(3)

    def busy() -> float:
        load, tally = Load(setting, 1, jitter=0.05), Tally()
        load.simulate(POLICIES["eager"](load), 300, tally)
        return tally.busy

    plain = Tally()
    load = Load(setting, 1)
    load.simulate(POLICIES["eager"](load), 300, plain)
    assert busy() == busy()
    assert plain.busy == pytest.approx(busy(), rel=0.05)


def test_tables_are_aligned() -> None:
    """Columns are as wide as their widest cell; figures have no zero before the point."""
    text = grid(("a", "bb"), [[figure(0.5), figure(1.25, 2)], [figure(None), ""]])
    assert ["| a    | bb   |", "| ---- | ---- |", "| .500 | 1.25 |", "| -    |      |"] == (
        text.splitlines()
    )


def test_jobs_keep_their_order() -> None:
    """However long each takes, and however many at once, records come in the order of jobs."""
    jobs = [Job(_square, (i,), cost=i) for i in range(5)]
    expected = [{"square": i * i} for i in range(5)]
    assert (expected, expected) == (run(jobs, 1), run(jobs, 2))


def test_the_command_line_simulates_prints_and_keeps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables go to standard output, the records and their plots to the folder of results."""
    pytest.importorskip("matplotlib")
    chosen = ["--settings", "S2", "--policies", "jitney", "--seeds", "3"]
    where = ["--results", str(tmp_path), "--quick", "--processes", "1"]
    assert 0 == main(["goodput", "overload", *chosen, *where])
    printed = capsys.readouterr().out
    assert "## goodput" in printed
    assert "| S2      | jitney" in printed
    document = json.loads((tmp_path / "simulation.json").read_text())
    (record,) = document["parts"]["goodput"]
    assert ("S2", "jitney", 3) == (record["setting"], record["policy"], record["seed"])
    for name in ("goodput", "overload"):
        picture = (tmp_path / f"simulation-{name}.png").read_bytes()
        assert b"\x89PNG" == picture[:4]


def test_the_command_line_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A part, setting or policy that does not exist is refused with those that do."""
    for arguments in (["noise"], ["--settings", "S0"], ["--policies", "random"]):
        with pytest.raises(SystemExit):
            main(arguments)
    complaints = capsys.readouterr().err
    assert all(words in complaints for words in ("'noise'", "there are S1, S2", "eager, "))


def _square(i: int) -> dict[str, int]:
    return {"square": i * i}


def _is_a_decider(policy: Decider) -> Decider:
    """Let the type checker see that baselines and scripts can stand in for the policy."""
    return policy


_is_a_decider(Script())
