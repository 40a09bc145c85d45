"""Tests of what judges the real server under open-loop load."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

# The benchmarks are a package beside the tests, not an installed one.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.simulation.arrivals import Arrivals
from benchmarks.wallclock.connection import LOST
from benchmarks.wallclock.hpack import HeaderError, HeaderReader, HeaderWriter
from benchmarks.wallclock.order import Seen, read_seen, write_seen
from benchmarks.wallclock.outcome import Outcome, passes
from benchmarks.wallclock.overload import recovery
from benchmarks.wallclock.plan import Phase, phases, steady

SLO = 0.2
FIRST = ((":path", "/a"), ("te", "trailers"))
SECOND = ((":path", "/a"), ("x-tenant", "b"))


def seen_of(*calls: tuple[float, float, float, int]) -> Seen:
    """Return what was seen of calls: scheduled, sent, ended, code."""
    at, sent, ended, code = (np.array(column) for column in zip(*calls, strict=True))
    zeros = np.zeros(len(at), np.uint8)
    return Seen(at, zeros, sent, ended, code, zeros, ("",), 0, 0.0)


def test_headers_are_written_once_and_then_by_one_byte() -> None:
    """The first block has a header in full, the next one its place in the table."""
    writer = HeaderWriter()

    first = writer.block(FIRST)
    again = writer.block(FIRST)

    assert b"/a" in first
    assert again == b"\x83\x86\xbf\xbe"  # the older entry of two is 63, the newer 62


def test_new_headers_move_the_places_of_old_ones() -> None:
    """A block that adds to the table refers to what came before by its new place."""
    writer = HeaderWriter()
    writer.block(FIRST)

    second = writer.block(SECOND)

    assert second.startswith(b"\x83\x86\xbf\x40")
    assert writer.block(FIRST) == b"\x83\x86\xc0\xbf"


def test_reader_follows_the_servers_table() -> None:
    """A header that went into the table is found by its place later, another one not at all."""
    reader = HeaderReader((b"grpc-status", b"jitney-reason"))
    status = b"\x40\x0bgrpc-status\x010"
    reason = b"\x00\x0djitney-reason\x04SHED"

    assert reader.read(b"\x88" + status) == {b"grpc-status": b"0"}
    assert reader.read(b"\xbe") == {b"grpc-status": b"0"}
    assert reader.read(b"\xbe" + reason) == {b"grpc-status": b"0", b"jitney-reason": b"SHED"}
    assert reader.read(b"\x88") == {}


def test_reader_refuses_what_it_cannot_follow() -> None:
    """A place outside the table is an error and no silent nothing."""
    with pytest.raises(HeaderError, match="no entry 62"):
        HeaderReader((b"grpc-status",)).read(b"\xbe")


def test_latency_counts_from_the_schedule() -> None:
    """A call that was sent late and answered fast is late all the same."""
    outcome = Outcome.of(seen_of((1.0, 1.15, 1.21, 0), (2.0, 2.0, 2.19, 0)), SLO, 0, 10)

    assert (outcome.count, outcome.hits) == (2, 1)
    assert not outcome.valid


def test_refusals_and_lost_calls_are_misses() -> None:
    """Only OK answers in time count, and each end is told by its name."""
    outcome = Outcome.of(
        seen_of((0.0, 0.0, 0.1, 0), (0.5, 0.5, 0.51, 8), (0.7, 0.7, 0.0, LOST)), SLO, 0, 1
    )

    assert outcome.share == pytest.approx(1 / 3)
    assert outcome.ends() == {"OK": 1, "RESOURCE_EXHAUSTED": 1, "LOST": 1}


def test_only_the_chosen_time_counts() -> None:
    """Calls that were to be sent before or after are left out."""
    outcome = Outcome.of(seen_of((0.0, 0, 0.1, 0), (1.0, 1, 1.1, 0), (2.0, 2, 2.1, 0)), SLO, 1, 2)

    assert (outcome.count, outcome.rate) == (1, 1.0)


def test_an_answer_of_any_kind_may_be_dishonest() -> None:
    """A refusal more than 20 ms past its deadline counts as late, one within 20 ms does not."""
    seen = seen_of((0.0, 0.0, 0.221, 4), (0.0, 0.0, 0.219, 4), (0.0, 0.0, 0.0, LOST))

    assert Outcome.of(seen, SLO, 0, 1).late(SLO) == 1


@pytest.mark.parametrize(("misses", "total"), [(0, 459), (1, 662), (10, 2010), (100, 12_571)])
def test_early_stopping_needs_as_many_calls_as_published(misses: int, total: int) -> None:
    """A rate is proven with MLPerf's least totals and not with one call less."""
    assert passes(total - misses, misses)
    assert not passes(total - misses - 1, misses)


def test_rates_scale_one_trace() -> None:
    """Twice the rate is the same moments in half the time."""
    slow, fast = (steady(Arrivals.POISSON, 50, rate, 3, 1) for rate in (10.0, 20.0))

    assert fast.at == pytest.approx([moment / 2 for moment in slow.at])
    assert fast.kinds == slow.kinds


def test_a_groups_calls_do_not_depend_on_the_others() -> None:
    """The calls of one tenant are the same alone and beside another one."""
    groups = ([0], [1])
    alone, beside = (phases([Phase(5.0, [rate, 20.0])], groups, 1) for rate in (0.0, 400.0))

    both = zip(beside.at, beside.kinds, strict=True)
    assert [at for at, kind in both if kind == 1] == alone.at
    assert len(beside.at) > 10 * len(alone.at)


def test_recovery_ends_where_windows_begin_to_be_normal() -> None:
    """Two slow windows after the load make a recovery as long as both, all slow ones none."""
    calls = [(t, t, t + (0.19 if t < 0.4 else 0.05), 0) for t in np.arange(0, 2.0, 0.01).tolist()]

    assert recovery(seen_of(*calls), SLO, 0.0, 2.0, normal=0.1) == pytest.approx(0.4)
    assert recovery(seen_of(*calls), SLO, 0.0, 2.0, normal=0.01) is None


def test_what_was_seen_survives_its_file(tmp_path: Path) -> None:
    """The judge reads what the generator wrote."""
    seen = seen_of((0.0, 0.0, 0.1, 0), (0.5, 0.5, 0.51, 8))
    file = str(tmp_path / "seen.npz")

    write_seen(file, seen)

    read = read_seen(file)
    assert read.ended.tolist() == seen.ended.tolist()
    assert (read.reasons, read.wrong) == (("",), 0)
