"""What a run of load comes to, and what became of it in the files between processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from jitney.loadgen.connection import LOST
from jitney.loadgen.figures import Figures
from jitney.loadgen.order import (
    Order,
    Request,
    Tls,
    read_blobs,
    read_schedule,
    write_blobs,
    write_schedule,
)
from jitney.loadgen.outcome import Outcome
from jitney.loadgen.replies import Replies, Reply, read_replies
from jitney.loadgen.seen import Seen, joined, read_seen, write_seen
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from pathlib import Path

SLO = 0.2


def seen_of(
    *calls: tuple[float, float, float, int], reasons: tuple[str, ...] = ("",), reason: int = 0
) -> Seen:
    """Return what was seen of calls: scheduled, sent, ended, code."""
    at, sent, ended, code = (np.array(column) for column in zip(*calls, strict=True))
    kinds = np.zeros(len(at), np.uint8)
    return Seen(at, kinds, sent, ended, code, np.full(len(at), reason), reasons, 0, 0.0)


def test_latency_counts_from_the_schedule() -> None:
    """A call that was sent late and answered fast is late all the same."""
    outcome = Outcome.of(seen_of((1.0, 1.15, 1.21, 0), (2.0, 2.0, 2.19, 0)), SLO, 0, 10)

    assert (2, 1) == (outcome.count, outcome.hits)
    assert not outcome.valid


def test_refusals_and_lost_calls_are_misses() -> None:
    """Only OK answers in time count, and each end is told by its name."""
    outcome = Outcome.of(
        seen_of((0.0, 0.0, 0.1, 0), (0.5, 0.5, 0.51, 8), (0.7, 0.7, 0.0, LOST)), SLO, 0, 1
    )

    assert pytest.approx(1 / 3) == outcome.share
    assert {"OK": 1, "RESOURCE_EXHAUSTED": 1, "LOST": 1} == outcome.ends()


def test_only_the_chosen_time_counts() -> None:
    """Calls that were to be sent before or after are left out."""
    outcome = Outcome.of(seen_of((0.0, 0, 0.1, 0), (1.0, 1, 1.1, 0), (2.0, 2, 2.1, 0)), SLO, 1, 2)

    assert (1, 1.0) == (outcome.count, outcome.rate)


def test_an_answer_of_any_kind_may_be_dishonest() -> None:
    """A refusal more than 20 ms past its deadline counts as late, one within 20 ms does not."""
    seen = seen_of((0.0, 0.0, 0.221, 4), (0.0, 0.0, 0.219, 4), (0.0, 0.0, 0.0, LOST))

    assert 1 == Outcome.of(seen, SLO, 0, 1).late(SLO)


def test_a_run_proves_nothing_with_a_generator_that_lagged() -> None:
    """A thousand calls in time prove a rate, unless they were sent too late."""
    prompt = seen_of(*[(0.0, 0.0, 0.1, 0)] * 1000)
    lagging = seen_of(*[(0.0, 0.01, 0.1, 0)] * 1000)

    assert Outcome.of(prompt, SLO, 0, 1).proven
    assert not Outcome.of(lagging, SLO, 0, 1).proven


def test_a_run_of_nothing_has_figures() -> None:
    """No call at all is no error: percentiles and shares are 0."""
    figures = Outcome.of(seen_of((5.0, 5.0, 5.1, 0)), SLO, 0, 1).to_json()

    assert (0, 0.0, 0.0) == (figures["sent"], figures["share"], figures["p99_ms"])


def test_what_was_seen_survives_its_file(tmp_path: Path) -> None:
    """The judge reads what the generator wrote."""
    seen = seen_of((0.0, 0.0, 0.1, 0), (0.5, 0.5, 0.51, 8))
    file = str(tmp_path / "seen.npz")

    write_seen(file, seen)

    read = read_seen(file)
    assert seen.ended.tolist() == read.ended.tolist()
    assert (("",), 0) == (read.reasons, read.wrong)


def test_generators_that_worked_together_are_joined() -> None:
    """Calls are in the order of the schedule, and keep the words that they ended with."""
    one = seen_of((0.0, 0, 1, 8), (2.0, 2, 3, 8), reasons=("", "SHED"), reason=1)
    other = seen_of((1.0, 1, 2, 8), reasons=("", "LATE", "SHED"), reason=1)

    both = joined([one, other])

    assert [0.0, 1.0, 2.0] == both.at.tolist()
    assert ["SHED", "LATE", "SHED"] == [both.reasons[i] for i in both.reason]


def test_an_order_survives_its_line() -> None:
    """A generator reads the order that was written for it."""
    request = Request(3, (("x-tenant", "a"),))
    order = Order("h:1", "/p", "m", (request,), "s", "o", "r", 2, 1.5, tls=Tls("ca.pem"))

    assert order == Order.from_json(order.to_json())


def test_schedules_and_messages_survive_their_files(tmp_path: Path) -> None:
    """Moments, kinds, byte strings and their numbers come back, empty ones too."""
    schedule, blobs = tmp_path / "s", str(tmp_path / "b")

    write_schedule(schedule, [0.5, 1.0], [1, 0])
    write_blobs(blobs, [b"ab", b"", b"c"], [7, 8, 9])

    at, kinds = read_schedule(str(schedule))
    assert ([0.5, 1.0], [1, 0]) == (at.tolist(), kinds.tolist())
    assert ([b"ab", b"", b"c"], [7, 8, 9]) == read_blobs(blobs)


def test_each_different_reply_is_kept_once(tmp_path: Path) -> None:
    """Equal replies to a message are counted, equal ones to another message are others."""
    replies = Replies(2)
    for message, body in ((0, b"a"), (0, b"a"), (1, b"a"), (0, b"b")):
        assert replies.note(message, body)
    replies.write(str(tmp_path / "r"))

    assert [Reply(0, 2, b"a"), Reply(0, 1, b"b"), Reply(1, 1, b"a")] == read_replies(
        str(tmp_path / "r")
    )


def test_replies_are_not_kept_without_bound() -> None:
    """Beyond the limit a new reply is not kept, and a known one still counts."""
    replies = Replies(1, limit=3)

    assert [True, False, True, True] == [
        replies.note(0, body) for body in (b"ab", b"cd", b"ab", b"e")
    ]


def statistics(requests: int, rows: int, batches: dict[int, int]) -> pb.ModelStatistics:
    """Return a server's counters, with 2 ms of waiting for each request."""
    message = pb.ModelStatistics(inference_count=rows, execution_count=sum(batches.values()))
    message.inference_stats.success.count = requests
    message.inference_stats.queue.ns = 2_000_000 * requests
    for size, count in batches.items():
        message.batch_stats.add(batch_size=size).compute_infer.count = count
    return message


def test_figures_are_what_was_added() -> None:
    """Of two readings the difference counts, over all versions."""
    before = Figures.of([statistics(10, 10, {1: 10})])
    after = Figures.of([statistics(30, 50, {1: 10, 2: 20}), statistics(4, 4, {4: 1})])

    added = after.since(before).to_json()

    assert (24, 44, 21, 2.1, 2.0) == tuple(
        added[key] for key in ("requests", "rows", "batches", "mean_rows", "queue_ms")
    )
    assert {"2": 20, "4": 1} == added["batches_by_rows"]
