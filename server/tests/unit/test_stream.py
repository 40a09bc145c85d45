"""One stream: the order of its replies, its errors, its bounds and its end."""

from __future__ import annotations

import asyncio
import functools
import gc
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import grpc.aio
import pytest

from jitney.errors import InvalidRequest, JitneyError, ModelError, ModelNotFound, Overloaded
from jitney.telemetry.metrics import Metrics
from jitney.testing import make_entry
from jitney.transport.status import Statuses
from jitney.transport.stream import (
    MESSAGE_COST,
    InferenceStream,
    StreamCall,
    StreamLimits,
    StreamTools,
    _Turn,
)
from jitney.transport.unread import Reader, UnreadReplies
from jitney.types import ModelRef, Request, RequestHeader
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

    from jitney.scheduling.batch import Entry

CODEC = cast("Any", None)
DECOUPLED = "repeat"


def message_of(id_: str, model: str = "plain", *, empty_final: bool = False) -> bytes:
    """Return a serialised request."""
    request = pb.ModelInferRequest(id=id_, model_name=model)
    if empty_final:
        request.parameters["triton_enable_empty_final_response"].bool_param = True
    return request.SerializeToString()


def reply_of(id_: str) -> bytes:
    """Return a serialised reply, as a carrier makes it."""
    reply = pb.ModelInferResponse(id=id_, model_name="m", model_version="1")
    return reply.SerializeToString()


class FakeCodec:
    """Decodes what the tests send; the id ``broken`` cannot be decoded."""

    deadline = 0.0

    def decode(self, message: bytes, deadline: float, tenant: str = "") -> Request:
        """Return the request."""
        self.deadline = deadline
        parsed = pb.ModelInferRequest.FromString(message)
        if parsed.id == "broken":
            msg = "malformed"
            raise InvalidRequest(msg)
        parameters = {key: value.bool_param for key, value in parsed.parameters.items()}
        header = RequestHeader(parsed.model_name, "", (), parameters=parameters)
        return Request(header, [], CODEC, id=parsed.id, deadline=deadline, tenant=tenant)


class FakeEngine:
    """Accepts everything but for the model ``nobody``; ends requests when the test says so."""

    def __init__(self) -> None:
        self.running: dict[str, tuple[Entry, Any, Any]] = {}
        self.cancelled: list[str] = []

    def submit(self, request: Request, waiter: Any, on_reply: Any = None) -> Entry:
        """Accept a request."""
        if request.header.model_name == "nobody":
            msg = "no such model"
            raise ModelNotFound(msg)
        if request.header.model_name == "bug":
            msg = "a secret"
            raise ValueError(msg)
        request.model = ModelRef(request.header.model_name, 1)
        entry = make_entry()
        if request.header.model_name == DECOUPLED:
            entry.partial = lambda _, reply: on_reply(reply)
        self.running[request.id] = (entry, waiter, on_reply)
        return entry

    def cancel(self, entry: Entry) -> None:
        """Forget a request."""
        (found,) = [name for name, (known, *_) in self.running.items() if known is entry]
        self.cancelled.append(found)
        del self.running[found]

    def produce(self, id_: str) -> None:
        """Make one of several replies."""
        self.running[id_][2](reply_of(id_))

    def end(self, id_: str, error: JitneyError | None = None) -> None:
        """End a request."""
        entry, waiter, _ = self.running.pop(id_)
        waiter(reply_of(id_) if error is None and entry.partial is None else None, error)


class Bench:
    """A stream between queues: ``send``, ``half_close``, and ``receive`` are its caller.

    ``slow`` is a caller who does not read: writes begin, and end with ``read_on``.
    """

    def __init__(
        self, limits: StreamLimits | None = None, *, slow: bool = False, **call: Any
    ) -> None:
        self.engine = FakeEngine()
        self.codec = FakeCodec()
        self.metrics = Metrics()
        limits = limits or StreamLimits(64, 1 << 20)
        tools = StreamTools(self.engine, self.codec, self.metrics, Statuses(), limits)
        self.stream = InferenceStream(tools, StreamCall(call.pop("deadline", math.inf), **call))
        self.wants_more = asyncio.Queue[None]()
        self.is_broken = False
        self._sent = asyncio.Queue[bytes | None]()
        self._received = asyncio.Queue[bytes]()
        self._reading = asyncio.Event()
        if not slow:
            self._reading.set()
        self.served = asyncio.ensure_future(self.stream.serve(self._messages(), self))

    async def _messages(self) -> AsyncIterator[bytes]:
        self.wants_more.put_nowait(None)
        while (message := await self._sent.get()) is not None:
            yield message
            self.wants_more.put_nowait(None)

    async def write(self, message: bytes) -> None:
        """Be the context's."""
        await self._reading.wait()
        if self.is_broken:
            msg = "Failed to execute_batch"
            raise grpc.aio.InternalError(msg)
        self._received.put_nowait(message)

    def read_on(self) -> None:
        """Read, from now on."""
        self._reading.set()

    async def send(self, *messages: bytes) -> None:
        """Send requests; return when they were read and more is wanted."""
        for message in messages:
            await self.wants_more.get()
            self._sent.put_nowait(message)
        await self.wants_more.get()
        self.wants_more.put_nowait(None)

    def push(self, *messages: bytes) -> None:
        """Send requests without waiting for them to be read."""
        for message in messages:
            self._sent.put_nowait(message)

    def half_close(self) -> None:
        """Send nothing more."""
        self._sent.put_nowait(None)

    async def receive(self) -> pb.ModelStreamInferResponse:
        """Return the next message."""
        return pb.ModelStreamInferResponse.FromString(await self._received.get())

    async def ids(self, count: int) -> list[str]:
        """Return the ids of the next messages."""
        return [(await self.receive()).infer_response.id for _ in range(count)]

    async def rest(self) -> list[str]:
        """Half-close; return the ids of what comes until the end."""
        self.half_close()
        await self.served
        return await self.ids(self.unread)

    @property
    def unread(self) -> int:
        """How many messages came and were not received."""
        return self._received.qsize()

    def counted(self) -> dict[str, int]:
        """Return how many requests ended with each code."""
        ends: Counter[str] = Counter()
        for (*_, code), count in self.metrics.requests.items():
            ends[code] += round(count)
        return dict(ends)

    async def settle(self) -> None:
        """Let everything happen that needs nothing from outside."""
        for _ in range(50):
            await asyncio.sleep(0)


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on an event loop; what it waits for comes within seconds, or it hangs."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 10))

    return run


def is_final(reply: pb.ModelStreamInferResponse) -> bool:
    """Return the flag of a reply; it has to be there."""
    parameter = reply.infer_response.parameters["triton_final_response"]
    assert "bool_param" == parameter.WhichOneof("parameter_choice")
    return parameter.bool_param


# -- order ----------------------------------------------------------------------------------------


@in_a_loop
async def test_replies_come_in_the_order_of_their_requests() -> None:
    """A reply that is made early waits for those before it, and no longer."""
    bench = Bench()
    await bench.send(message_of("a"), message_of("b"), message_of("c"))

    bench.engine.end("b")
    bench.engine.end("a")
    first = await bench.ids(2)
    bench.engine.end("c")

    assert (["a", "b"], ["c"]) == (first, await bench.rest())
    assert {"OK": 3} == bench.counted()


@in_a_loop
async def test_a_reply_is_what_the_carrier_made_and_final() -> None:
    """Nothing of the reply is lost, and the flag is added to it."""
    bench = Bench()
    await bench.send(message_of("a"))
    bench.engine.end("a")
    reply = await bench.receive()

    assert ("a", "m", "1", "") == (
        reply.infer_response.id,
        reply.infer_response.model_name,
        reply.infer_response.model_version,
        reply.error_message,
    )
    assert is_final(reply)
    assert [] == await bench.rest()


@in_a_loop
async def test_decoupled_replies_come_as_they_are_produced() -> None:
    """They wait for nobody, and nobody waits for them."""
    bench = Bench()
    await bench.send(message_of("plain"), message_of("many", DECOUPLED), message_of("other"))
    bench.engine.end("other")
    bench.engine.produce("many")
    early = await bench.receive()
    bench.engine.end("plain")
    bench.engine.produce("many")
    bench.engine.end("many")

    assert ("many", False) == (early.infer_response.id, is_final(early))
    assert ["plain", "other", "many"] == await bench.rest()
    assert {"OK": 3} == bench.counted()


@pytest.mark.parametrize("wanted", [True, False])
@in_a_loop
async def test_the_end_of_a_decoupled_request_is_told_to_who_asks(*, wanted: bool) -> None:
    """An empty final reply has the id and the model, and comes only where it was asked for."""
    bench = Bench()
    await bench.send(message_of("many", DECOUPLED, empty_final=wanted))
    bench.engine.end("many")
    bench.half_close()
    await bench.served
    if not wanted:
        assert [] == await bench.ids(bench.unread)
        return
    reply = await bench.receive()

    assert ("many", DECOUPLED, "") == (
        reply.infer_response.id,
        reply.infer_response.model_name,
        reply.infer_response.model_version,
    )
    assert (True, 0) == (is_final(reply), len(reply.infer_response.outputs))


# -- errors ---------------------------------------------------------------------------------------


@in_a_loop
async def test_a_refused_request_is_a_message_in_its_place() -> None:
    """It has the text and the id, and nothing else; the stream goes on."""
    bench = Bench()
    await bench.send(
        message_of("a"), message_of("b", "nobody"), message_of("broken"), message_of("c")
    )
    bench.engine.end("c")
    bench.engine.end("a")
    first, refused, broken, last = [await bench.receive() for _ in range(4)]

    assert ("a", "c") == (first.infer_response.id, last.infer_response.id)
    assert ("b", "no such model") == (refused.infer_response.id, refused.error_message)
    assert ("broken", "malformed") == (broken.infer_response.id, broken.error_message)
    assert ("", 0) == (refused.infer_response.model_name, len(refused.infer_response.parameters))
    assert [] == await bench.rest()
    assert {"OK": 2, "NOT_FOUND": 1, "INVALID_ARGUMENT": 1} == bench.counted()


@in_a_loop
async def test_a_failed_request_names_its_model() -> None:
    """An error of execution has the model's name, and is final."""
    bench = Bench()
    await bench.send(message_of("a"))
    bench.engine.end("a", ModelError("it broke"))
    reply = await bench.receive()

    assert ("it broke", "a", "plain") == (
        reply.error_message,
        reply.infer_response.id,
        reply.infer_response.model_name,
    )
    assert is_final(reply)
    assert [] == await bench.rest()


@in_a_loop
async def test_a_bug_tells_a_number_and_no_more() -> None:
    """What goes wrong inside stays inside; the stream goes on."""
    bench = Bench()
    await bench.send(message_of("a", "bug"), message_of("b"))
    bench.engine.end("b")
    reply = await bench.receive()

    assert reply.error_message.startswith("internal error ")
    assert "secret" not in reply.error_message
    assert ["b"] == await bench.rest()
    assert {"INTERNAL": 1, "OK": 1} == bench.counted()


@in_a_loop
async def test_the_first_error_ends_a_stream_that_asked_for_a_status() -> None:
    """The replies before it are sent, what runs behind it is forgotten."""
    bench = Bench(real_status=True)
    await bench.send(message_of("a"), message_of("b", "nobody"), message_of("c"))
    bench.engine.end("a")

    with pytest.raises(ModelNotFound):
        await bench.served

    assert ["a"] == await bench.ids(1)
    assert ["c"] == bench.engine.cancelled
    assert {"OK": 1, "NOT_FOUND": 1, "CANCELLED": 1} == bench.counted()


# -- bounds ---------------------------------------------------------------------------------------


@in_a_loop
async def test_reading_stops_at_the_limit_of_requests() -> None:
    """The next one is read when a reply was sent, not when it was made."""
    bench = Bench(StreamLimits(2, 1 << 20), slow=True)
    bench.push(message_of("a"), message_of("b"), message_of("c"))
    await bench.settle()
    assert {"a", "b"} == set(bench.engine.running)
    bench.engine.end("a")
    await bench.settle()
    before = list(bench.engine.running)
    bench.read_on()
    assert ["a"] == await bench.ids(1)
    await bench.settle()

    assert (["b"], ["b", "c"]) == (before, list(bench.engine.running))
    bench.engine.end("b")
    bench.engine.end("c")
    assert ["b", "c"] == await bench.rest()


@in_a_loop
async def test_reading_stops_where_replies_may_be_too_many_bytes() -> None:
    """Large messages are fewer at a time."""
    bench = Bench(StreamLimits(64, 2500))
    bench.push(*(message_of(name * 1000) for name in "abcd"))
    await bench.settle()

    assert "<InferenceStream 3 open, 0 bytes unsent>" == repr(bench.stream)
    bench.served.cancel()


@in_a_loop
async def test_replies_that_nobody_reads_end_a_stream() -> None:
    """A decoupled model cannot be told to wait, so it is stopped, with all else on the stream."""
    bench = Bench(StreamLimits(64, 1000), slow=True)
    await bench.send(message_of("many", DECOUPLED), message_of("a"))
    while "many" in bench.engine.running:
        bench.engine.produce("many")
    assert {"many", "a"} == set(bench.engine.cancelled)
    bench.read_on()

    with pytest.raises(Overloaded) as caught:
        await bench.served

    assert "STREAM_UNREAD" == caught.value.reason
    assert "limits.max_stream_bytes" in str(caught.value)


@in_a_loop
async def test_small_replies_count_with_what_they_take_in_memory() -> None:
    """Of a million replies of a few bytes those bytes are the smaller part."""
    bench = Bench(StreamLimits(64, 100 * MESSAGE_COST), slow=True)
    await bench.send(message_of("many", DECOUPLED))
    count = 0
    while "many" in bench.engine.running:
        bench.engine.produce("many")
        count += 1

    assert 50 < count <= 100
    bench.served.cancel()


@in_a_loop
async def test_what_all_streams_hold_has_a_budget() -> None:
    """A stream that would exceed it ends, and says why; what was being sent goes on counting."""
    dropped: list[str] = []

    def drop(peers: Iterable[str]) -> list[str]:
        dropped.extend(peers)
        return dropped

    replies = UnreadReplies(2000, drop)
    readers = [Reader(replies, name) for name in ("one", "other")]
    one, other = (Bench(StreamLimits(64, 1 << 20), slow=True, reader=r) for r in readers)
    await one.send(message_of("a"), message_of("b"))
    await other.send(message_of("c"))
    one.engine.end("a")
    await one.settle()
    waiting = replies.nbytes
    Reader(replies, "others").add(2000 - waiting)
    other.engine.end("c")
    await other.settle()
    other.read_on()

    with pytest.raises(Overloaded) as caught:
        await other.served

    assert ("REPLY_BUDGET", []) == (caught.value.reason, dropped)
    assert waiting == readers[0].nbytes
    one.served.cancel()
    await one.settle()
    assert 0 == readers[0].nbytes + readers[1].nbytes


@in_a_loop
async def test_streams_read_no_further_while_too_much_waits_elsewhere() -> None:
    """Those that have something unsent; a stream without may always ask."""
    replies = UnreadReplies(1000)
    others = Reader(replies, "others")
    others.add(600)
    bench = Bench(StreamLimits(64, 1 << 20), slow=True, reader=Reader(replies, "one"))
    bench.push(message_of("a"))
    await bench.settle()
    bench.engine.end("a")
    bench.push(message_of("b"), message_of("c"))
    await bench.settle()
    assert ["b"] == list(bench.engine.running)  # it was being read already
    bench.read_on()
    await bench.settle()

    assert ["b", "c"] == list(bench.engine.running)
    for name in "bc":
        bench.engine.end(name)
    assert ["a", "b", "c"] == await bench.rest()
    assert 600 == replies.nbytes


# -- the end --------------------------------------------------------------------------------------


@in_a_loop
async def test_a_half_close_lets_what_runs_finish() -> None:
    """The call ends, well, with the last reply."""
    bench = Bench()
    await bench.send(message_of("a"))
    bench.half_close()
    bench.engine.end("a")
    await bench.served

    assert ["a"] == await bench.ids(1)


@in_a_loop
async def test_a_cancelled_stream_is_forgotten() -> None:
    """Nothing of it stays in the engine."""
    bench = Bench()
    await bench.send(message_of("a"), message_of("b", DECOUPLED))
    bench.served.cancel()
    await asyncio.wait([bench.served])

    assert {"a", "b"} == set(bench.engine.cancelled)
    assert {"CANCELLED": 2} == bench.counted()


@in_a_loop
async def test_a_caller_who_goes_away_during_a_write_cancels_the_stream() -> None:
    """The transport fails then in its own way: no error of ours, which would be logged as a bug."""
    bench = Bench()
    await bench.send(message_of("a"), message_of("b"))
    bench.is_broken = True
    bench.engine.end("a")
    await asyncio.wait([bench.served])

    assert (True, ["b"]) == (bench.served.cancelled(), bench.engine.cancelled)
    assert {"OK": 1, "CANCELLED": 1} == bench.counted()


def turns() -> int:
    """Return how many requests of streams there are in memory."""
    return sum(type(thing) is _Turn for thing in gc.get_objects())


@pytest.mark.parametrize("cancelled", [False, True])
@in_a_loop
async def test_nothing_of_a_stream_waits_for_the_collector(*, cancelled: bool) -> None:
    """A request and its reply, megabytes perhaps, are gone with the stream, however it ended."""
    gc.collect()
    before = turns()
    gc.disable()
    try:
        bench = Bench()
        await bench.send(message_of("a"), message_of("b"), message_of("c"))
        bench.engine.end("b")
        if cancelled:
            bench.served.cancel()
            await asyncio.wait([bench.served])
        else:
            bench.engine.end("a")
            bench.engine.end("c", ModelError("no"))
            assert ["a", "b", "c"] == await bench.rest()
        assert before == turns()
    finally:
        gc.enable()


@in_a_loop
async def test_the_deadline_of_the_call_is_that_of_each_request() -> None:
    """Requests are due when the stream is."""
    bench = Bench(deadline=17.0)
    await bench.send(message_of("a"))
    bench.engine.end("a")

    assert (17.0, ["a"]) == (bench.codec.deadline, await bench.rest())


@in_a_loop
async def test_a_stream_shows_what_it_holds() -> None:
    """Its line has the open requests and the bytes that wait."""
    bench = Bench()
    await bench.send(message_of("a"))

    assert "<InferenceStream 1 open, 0 bytes unsent>" == repr(bench.stream)
    bench.engine.end("a")
    assert ["a"] == await bench.rest()
