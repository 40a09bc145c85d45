"""Requests in parts: cut, queued, joined and ended as one."""

from __future__ import annotations

import gc
import math
import random
import struct
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitney import splitting
from jitney.datatypes import DataType
from jitney.errors import (
    BatchTooLarge,
    InferenceFailed,
    InvalidRequest,
    JitneyError,
    OutputTooLarge,
    Overloaded,
    WorkerLost,
)
from jitney.scheduling.batch import Batch, BatchKey, Entry, Reason, State
from jitney.scheduling.placement import gather, place, runs_of_carriers
from jitney.signature import TensorSpec
from jitney.splitting import MAX_PARTS, Splitter, spans
from jitney.transport.codec import Codec
from jitney.types import BatchOutputs, ModelRef, OutputTensor, Request, Timing
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

REF = ModelRef("m", 1)
KEY = BatchKey(
    REF,
    ((DataType.FP32, (3,)), (DataType.BYTES, (2,))),
    (TensorSpec("y", DataType.FP32, ("N", 3)), TensorSpec("t", DataType.BYTES, ("N", 2))),
    max_rows=8,
    max_bytes=4096,
)
"""The key of an identity over rows of three numbers and two texts."""


class Bench:
    """A splitter between tests and a scheduler that does what it is told.

    ``waiting`` are the entries that it was given, ``cancelled`` those that were taken back;
    ``charged`` are the bytes that are held; ``told`` are the ends of whole requests.
    """

    def __init__(self, takes: int = 1 << 30, budget: int = 1 << 40) -> None:
        self.takes = takes
        self.budget = budget
        self.charged = 0
        self.waiting: list[Entry] = []
        self.cancelled: list[Entry] = []
        self.told: list[tuple[Entry, Any, JitneyError | None]] = []
        self.splitter = Splitter(self, self)
        self.codec = Codec()

    # What the splitter needs.

    def submit(self, entry: Entry) -> None:
        """Queue an entry, if there is room."""
        if len(self.waiting) >= self.takes:
            msg = "full"
            raise Overloaded(msg)
        self.waiting.append(entry)

    def cancel(self, entry: Entry) -> str:
        """Forget an entry."""
        stage = "queued" if entry.state is State.QUEUED else "running"
        entry.state = State.DONE
        self.cancelled.append(entry)
        if entry in self.waiting:
            self.waiting.remove(entry)
        return stage

    def charge(self, nbytes: int) -> None:
        """Count bytes, within the budget."""
        if self.charged + nbytes > self.budget:
            msg = "no room"
            raise Overloaded(msg, reason="BYTE_BUDGET")
        self.charged += nbytes

    def refund(self, nbytes: int) -> None:
        """Let go of bytes."""
        self.charged -= nbytes

    # What tests do.

    def entry(self, rows: int, seed: int = 0, key: BatchKey = KEY, **fields: Any) -> Entry:
        """Return an entry of random rows, with the codec as its carrier."""
        message = request_message(rows, seed)
        request = self.codec.decode(message.SerializeToString(), math.inf)
        nbytes = sum(map(len, request.data))
        order = {"inputs": (1, 0), "outputs": (0, 1)} | fields
        return Entry(request, key, rows, nbytes, 1.0, self.note, **order)

    def split(self, *arguments: Any, **fields: Any) -> Entry:
        """Submit such an entry."""
        entry = self.entry(*arguments, **fields)
        self.splitter.submit(entry)
        return entry

    def note(self, entry: Entry, reply: object, error: JitneyError | None) -> None:
        """Note the end of a whole request."""
        self.told.append((entry, reply, error))

    def run(self, *entries: Entry, width: int = 3) -> None:
        """Run a batch of waiting entries, as the scheduler would.

        :param width: numbers in a row of the output; as many as came where it is 3.
        """
        for entry in entries:
            self.waiting.remove(entry)
            entry.state = State.RUNNING
        rows = sum(entry.rows for entry in entries)
        batch = Batch(KEY, list(entries), rows, Reason.FULL, "d0", 0.0)
        outputs = echo(batch, width)
        for carrier, members in runs_of_carriers(place(batch)):
            timing = Timing(0.5, 0.25, 1.0, 0.125, 2.0)
            try:
                replies = carrier.reply([p for _, p in members], outputs, [timing] * len(members))
            except JitneyError as error:
                for entry, _ in members:
                    self.end(entry, None, error)
                continue
            for (entry, _), reply in zip(members, replies, strict=True):
                entry.timing = timing
                self.end(entry, reply, None)
        for output in outputs.outputs:
            output.data.release()

    def end(self, entry: Entry, reply: object, error: JitneyError | None) -> None:
        """End an entry, unless it was cancelled."""
        if entry.state is State.RUNNING:
            entry.state = State.DONE
            entry.done(entry, reply, error)


def request_message(rows: int, seed: int) -> Any:
    """Return a request of numbers ``x`` and texts ``s``, the latter first."""
    chance = random.Random(seed)  # noqa: S311  # data, not a secret
    message = pb.ModelInferRequest(model_name="m", id=f"{seed}")
    message.inputs.add(name="s", datatype="BYTES", shape=[rows, 2])
    message.inputs.add(name="x", datatype="FP32", shape=[rows, 3])
    texts = [chance.randbytes(chance.choice((0, 1, 7, 40))) for _ in range(2 * rows)]
    message.raw_input_contents.extend(
        [
            b"".join(struct.pack("<I", len(text)) + text for text in texts),
            chance.randbytes(12 * rows),
        ]
    )
    return message


def echo(batch: Batch, width: int) -> BatchOutputs:
    """Return the batch's inputs as its outputs, gathered as into a slot."""
    placed = place(batch)
    sizes = [sum(len(p.request.data[p.order[i]]) for _, p in placed) for i in (0, 1)]
    numbers, texts = (memoryview(bytearray(size)) for size in sizes)
    gather(placed, [numbers, texts])
    offsets, at = [0], 0
    while at < len(texts):
        for _ in range(2):
            at += 4 + int.from_bytes(texts[at : at + 4], "little")
        offsets.append(at)
    rows = batch.rows
    numbers = memoryview(bytearray(bytes(numbers) + bytes(4 * rows * (width - 3))))
    return BatchOutputs(
        [
            OutputTensor("y", DataType.FP32, (rows, width), numbers, None),
            OutputTensor("t", DataType.BYTES, (rows, 2), texts, offsets),
        ],
        rows,
        batched=True,
    )


def whole_reply(entry: Entry) -> bytes:
    """Return what one batch would have answered."""
    batch = Batch(KEY, [entry], entry.rows, Reason.FULL, "d0", 0.0)
    [(_, placed)] = place(batch)
    timing = Timing(0, 0, 0, 0, 0)
    [reply] = entry.request.carrier.reply([placed], echo(batch, 3), [timing])
    assert isinstance(reply, bytes)
    return reply


# -- cutting --------------------------------------------------------------------------------------


def rows_of(
    rows: int, most: int, nbytes: Sequence[int] | None = None, limit: int = 99
) -> list[int]:
    """Return the rows of the parts of a request whose rows have so many bytes."""
    key = BatchKey(REF, (), (), max_rows=most, max_bytes=limit)
    request = Request(pb_header(), [], Codec())
    entry = Entry(request, key, rows, 0, 0.0, lambda *_: None)
    sizes = nbytes or [0] * rows
    found = spans(entry, lambda first, last: sum(sizes[first:last]))
    assert [0, *(last for _, last in found)] == [*(first for first, _ in found), rows]
    return [last - first for first, last in found]


def pb_header() -> Any:
    """Return a header of nothing."""
    return Codec().decode(pb.ModelInferRequest().SerializeToString(), math.inf).header


@pytest.mark.parametrize(
    ("rows", "most", "expected"),
    [(9, 8, [4, 5]), (16, 8, [8, 8]), (20, 8, [6, 7, 7]), (3, 1, [1, 1, 1])],
)
def test_parts_are_few_and_even(rows: int, most: int, expected: list[int]) -> None:
    """As many parts as there must be, whose rows differ by one at most."""
    assert expected == rows_of(rows, most)


def test_a_part_with_too_many_bytes_is_halved() -> None:
    """Where one row is long, only the part it is in becomes smaller."""
    assert [4, 1, 1, 2, 4] == rows_of(12, 4, [9] * 4 + [60, 60, 9, 9] + [9] * 4, limit=60)
    assert [1, 1] == rows_of(2, 8, [60, 60])


def test_a_row_that_no_batch_holds_is_refused() -> None:
    """It is named, with its bytes and the limit."""
    with pytest.raises(BatchTooLarge) as caught:
        rows_of(4, 8, [1, 1, 100, 1])

    assert (
        "row 2 of this request to 'm' has 100 bytes, and one batch may have 99 (the server's "
        "--slot-bytes)"
    ) == str(caught.value)


def test_parts_are_bounded() -> None:
    """A request that falls into very many parts is refused."""
    assert [1] * MAX_PARTS == rows_of(MAX_PARTS, 1)
    with pytest.raises(BatchTooLarge):
        rows_of(MAX_PARTS + 2, 8, [60] * (MAX_PARTS + 2))


def test_what_fits_is_passed_on_as_it_is() -> None:
    """No part, no copy: the entry itself is queued, and cancelled."""
    bench = Bench()
    entry = bench.split(8)

    assert [entry] == bench.waiting
    assert "queued" == bench.splitter.cancel(entry)
    assert [entry] == bench.cancelled


def test_parts_ask_for_what_the_whole_asks_for() -> None:
    """Deadline, timeout, class, tenant and arrival are those of the request."""
    bench = Bench()
    bench.split(20, deadline=9.0, start_by=8.0, priority=2, tenant="a")

    assert {(9.0, 8.0, 2, "a", 1.0)} == {
        (e.deadline, e.start_by, e.priority, e.tenant, e.arrived) for e in bench.waiting
    }
    assert [6, 7, 7] == [entry.rows for entry in bench.waiting]
    assert sum(map(len, bench.entry(20).request.data)) == sum(e.nbytes for e in bench.waiting)


# -- joining --------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_a_reply_is_that_of_one_batch(rows: list[int], chance: random.Random) -> None:
    """Parts run in any order, in batches of their own or with parts of others: same reply."""
    bench = Bench()
    wholes = [bench.split(count, seed) for seed, count in enumerate(rows)]
    while bench.waiting:
        count = min(len(bench.waiting), chance.randint(1, 3))
        bench.run(*chance.sample(bench.waiting, count))

    assert {id(whole) for whole in wholes} >= {id(entry) for entry, _, _ in bench.told}
    for entry, reply, error in bench.told:
        assert (None, whole_reply(entry)) == (error, reply)
    assert (len(wholes), 0) == (len(bench.told), bench.charged)


@pytest.mark.parametrize("outputs", [(0,), (1,)])
def test_only_what_was_asked_for_is_kept(outputs: tuple[int, ...]) -> None:
    """Outputs that nobody asked for are neither copied nor charged."""
    bench = Bench()
    entry = bench.split(9, outputs=outputs)
    first, second = bench.waiting
    bench.run(first)
    texts = bench.codec.decode(request_message(9, 0).SerializeToString(), math.inf).data[0]
    charged = bench.charged
    bench.run(second)

    [(_, reply, _)] = bench.told
    assert whole_reply(entry) == reply
    assert charged == 9 * 12 if outputs == (0,) else charged < len(texts)


def test_a_request_in_parts_counts_as_one() -> None:
    """The last part has the longest wait and the sums of the stages; the others have nothing."""
    bench = Bench()
    whole = bench.split(20)
    parts = list(bench.waiting)
    for part in parts:
        bench.run(part)

    expected = Timing(0.5, 0.75, 3.0, 0.375, 2.0)
    assert [None, None, expected] == [part.timing for part in parts]
    assert expected == whole.timing


# -- ends -----------------------------------------------------------------------------------------


def test_all_parts_are_queued_or_none() -> None:
    """A refusal of the third part takes the first two back, and nobody is told twice."""
    bench = Bench(takes=2)

    with pytest.raises(Overloaded):
        bench.split(20)

    assert ([], 2, []) == (bench.waiting, len(bench.cancelled), bench.told)
    assert "<Splitter 0 requests in parts>" == repr(bench.splitter)


def test_the_first_error_ends_the_whole() -> None:
    """What waits is cancelled, what ends later is ignored, and the caller hears the first error."""
    bench = Bench()
    whole = bench.split(28)
    first, second, third, fourth = bench.waiting
    bench.run(first)
    for part in (second, third):
        bench.waiting.remove(part)
        part.state = State.RUNNING
    bench.end(second, None, error := WorkerLost("gone"))
    bench.end(third, None, WorkerLost("gone as well"))

    assert [(whole, None, error)] == bench.told
    assert [third, fourth] == bench.cancelled
    assert (0, State.DONE) == (bench.charged, whole.state)


def test_cancelling_the_whole_cancels_what_has_not_ended() -> None:
    """What has come is let go of; a part that runs on is ignored when it ends."""
    bench = Bench()
    whole = bench.split(20)
    first, second, third = bench.waiting
    bench.run(first)
    bench.splitter.cancel(whole)
    bench.splitter.cancel(whole)

    assert [second, third] == bench.cancelled[:2]
    assert ([], 0, State.DONE) == (bench.told, bench.charged, whole.state)


@pytest.mark.parametrize(
    ("begun", "ended", "stage"), [(0, 0, "queued"), (1, 0, "running"), (0, 1, "running")]
)
def test_a_request_in_parts_is_where_its_foremost_part_is(
    begun: int, ended: int, stage: str
) -> None:
    """It was queued when it is cancelled only if no part of it had left the queue."""
    bench = Bench()
    whole = bench.split(20)
    bench.run(*bench.waiting[:ended])
    for part in bench.waiting[:begun]:
        part.state = State.RUNNING

    assert stage == bench.splitter.cancel(whole)


def test_a_part_that_runs_when_the_whole_is_cancelled_is_ignored() -> None:
    """Its outputs come to nobody, and are not kept."""
    bench = Bench()
    whole = bench.split(16)
    first = bench.waiting[0]
    carrier, batch = first.request.carrier, Batch(KEY, [first], 8, Reason.FULL, "d0", 0.0)
    bench.splitter.cancel(whole)

    [(_, placed)] = place(batch)
    carrier.reply([placed], echo(batch, 3), [Timing(0, 0, 0, 0, 0)])
    first.done(first, None, None)

    assert (0, []) == (bench.charged, bench.told)


def test_outputs_of_different_shapes_cannot_be_joined() -> None:
    """A model whose output's shape depends on its batch must not be asked so much at once."""
    bench = Bench()
    bench.split(16)
    first, second = bench.waiting
    bench.run(first)
    bench.run(second, width=4)

    [(_, reply, error)] = bench.told
    assert (None, BatchTooLarge) == (reply, type(error))
    assert (
        "the rows of output 'y' have the shape [4] in one part of this request and [3] in another, "
        "so they cannot be joined; send no more rows than a batch has"
    ) == str(error)


def test_outputs_beyond_one_reply_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the first part it is known that all rows together would be too much."""
    monkeypatch.setattr(splitting, "MAX_OUTPUT_BYTES", 191)
    bench = Bench()
    bench.split(16)
    bench.run(bench.waiting[0])

    [(_, _, error)] = bench.told
    assert (OutputTooLarge, 0, []) == (type(error), bench.charged, bench.waiting)


def test_outputs_are_held_within_the_budget() -> None:
    """Many callers' joined outputs cannot fill the memory: over the budget a request ends."""
    bench = Bench(budget=300)
    bench.split(16, outputs=(0,))
    bench.split(16, seed=1, outputs=(0,))
    bench.run(bench.waiting[0])
    assert 192 == bench.charged
    bench.run(bench.waiting[1])

    [(entry, _, error)] = bench.told
    assert ("1", "BYTE_BUDGET") == (entry.request.id, error.reason if error else "")
    bench.run(bench.waiting[0])
    assert (2, 0) == (len(bench.told), bench.charged)


class Refuser:
    """A carrier that cannot make replies."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def gather(self, placed: Any, inputs: Any) -> None:
        """Do nothing."""

    def reply(self, *_: Any) -> list[object]:
        """Raise."""
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (InvalidRequest("no"), InvalidRequest, "no"),
        (ValueError("bug"), InferenceFailed, "internal error "),
    ],
)
def test_a_reply_that_cannot_be_made_is_an_error(
    error: Exception, kind: type[JitneyError], text: str
) -> None:
    """A transport that raises ends its own request, and nothing else."""
    bench = Bench()
    entry = bench.entry(9)
    entry.request.carrier = Refuser(error)
    bench.splitter.submit(entry)
    for part in list(bench.waiting):
        bench.run(part)

    [(_, reply, found)] = bench.told
    assert (None, kind) == (reply, type(found))
    assert str(found).startswith(text)
    assert entry.timing is None


@pytest.mark.parametrize("end", ["reply", "error", "cancel"])
def test_nothing_is_left_for_the_collector_of_cycles(end: str) -> None:
    """The message is free as soon as its request has ended, not when cycles are looked for."""
    bench = Bench()
    whole = bench.split(20)
    parts = [weakref.ref(part.request.carrier) for part in bench.waiting]
    gc.disable()
    try:
        if end == "cancel":
            bench.splitter.cancel(whole)
        elif end == "error":
            part = bench.waiting.pop(0)
            part.state = State.RUNNING
            bench.end(part, None, WorkerLost("gone"))
            del part
        else:
            while bench.waiting:
                bench.run(bench.waiting[0])
        bench.cancelled.clear()
        bench.told.clear()
        assert {None} == {reference() for reference in parts}
    finally:
        gc.enable()
