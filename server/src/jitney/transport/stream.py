"""ModelStreamInfer: many requests over one call, and their replies in the protocol's order."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

import grpc.aio

from jitney.errors import InvalidRequest, JitneyError, Overloaded
from jitney.transport.framing import bytes_field, cut
from jitney.transport.status import text_of
from jitney.transport.unread import Reader, UnreadReplies
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable

    from jitney.scheduling.batch import Entry
    from jitney.telemetry.metrics import Metrics
    from jitney.telemetry.spans import StreamTrace
    from jitney.transport.forwarding import Forwarder
    from jitney.transport.status import Statuses
    from jitney.types import Request

__all__ = ["METHOD", "InferenceStream", "StreamCall", "StreamLimits", "StreamTools"]

METHOD: Final = "ModelStreamInfer"
REAL_STATUS: Final = ("triton_grpc_error", "true")
"""Metadata with which a caller asks for a status where there would be an error message."""
EMPTY_FINAL: Final = "triton_enable_empty_final_response"
FINAL: Final = "triton_final_response"
MESSAGE_COST: Final = 128
"""Bytes that a message takes in memory beside its own, while it waits to be sent."""
UNBOUNDED: Final = 1 << 62
INFER_RESPONSE: Final = 2
"""The field of ModelStreamInferResponse that holds a reply."""


def _final(*, flag: bool) -> bytes:
    response = pb.ModelInferResponse()
    response.parameters[FINAL].bool_param = flag
    return response.SerializeToString()


# Serialised messages that follow each other are one message, so a flag is appended to a reply.
LAST, MORE = _final(flag=True), _final(flag=False)


class Submitting(Protocol):
    """What of the engine a stream needs; see ``engine.Engine``."""

    def submit(
        self,
        request: Request,
        waiter: Callable[[object, JitneyError | None], None],
        on_reply: Callable[[object], None] | None = None,
    ) -> Entry:
        """Accept a request; the entry has ``partial`` if its model is decoupled."""

    def cancel(self, entry: Entry) -> None:
        """Forget a request."""


class Decoding(Protocol):
    """What of the codec a stream needs."""

    def decode(self, message: bytes, deadline: float, tenant: str = "") -> Request:
        """Decode a request; raises JitneyError where it is malformed."""


class Writing(Protocol):
    """What of a call's context a stream needs."""

    async def write(self, message: bytes) -> None:
        """Send a message; returns when the transport takes the next one."""


class StreamLimits(NamedTuple):
    """How much one stream may hold.

    ``requests`` bounds those of which not every reply was sent, ``nbytes`` the replies that wait to
    be sent.
    """

    requests: int
    nbytes: int


class StreamTools(NamedTuple):
    """What the streams of a server share."""

    engine: Submitting
    codec: Decoding
    metrics: Metrics
    statuses: Statuses
    limits: StreamLimits


class StreamCall(NamedTuple):
    """What one call says about all of its requests.

    ``deadline`` is in the clock's monotonic seconds, infinite where the caller set none.
    ``forward`` adds the call's metadata to each request, where that is wanted. ``real_status`` asks
    for a status in place of an error message. ``check`` raises JitneyError for each request whose
    model the caller may not run, where callers are asked. ``reader`` counts what waits to be read,
    over all streams. ``trace`` makes spans of its requests, where somebody collects them.
    """

    deadline: float
    tenant: str = ""
    forward: Forwarder | None = None
    real_status: bool = False
    check: Callable[[str], None] | None = None
    reader: Reader | None = None
    trace: StreamTrace | None = None


class _Turn:
    """A request of the stream, until its last message was sent.

    ``entry`` is there while the engine has it. ``ordered`` tells that it has its place in the order
    of the stream, ``item`` is what then waits for the requests before it.
    """

    __slots__ = ("entry", "item", "ordered", "request")

    def __init__(self) -> None:
        self.request: Request | None = None
        self.entry: Entry | None = None
        self.ordered = True
        self.item: _Item | None = None


class _Item(NamedTuple):
    """A message, and whose last one it is; or an error, with which the call ends."""

    message: bytes
    last_of: _Turn | None = None
    error: Exception | None = None


class InferenceStream:
    """One ModelStreamInfer call.

    - A request to a model that is not decoupled has exactly one reply, and these come in the order
      of their requests across the whole stream, whatever models they are for. Replies of decoupled
      models come as they are produced, in order within their request.
    - An error of a request is a message in its place, and the stream goes on; unless the caller
      asked for a real status: then the first error ends the stream.
    - Reading stops while ``limits.requests`` are unfinished, or while they would hold more than
      ``limits.nbytes`` if each had a reply as large as the largest message so far. So whoever sends
      without reading has to wait, as on any call.
    - What a decoupled model produces cannot be held back: where more than ``limits.nbytes`` wait to
      be read, the stream ends with RESOURCE_EXHAUSTED.
    - Where all streams and calls together would exceed their budget, one whose caller does not read
      is dropped, or this one ends with RESOURCE_EXHAUSTED.
    - After the caller's half-close it ends with the last reply. However it ends, and also when its
      caller goes away, the engine forgets what is left of it.

    Everything happens on the engine's event loop. ``serve`` writes, and a task of its own reads, so
    that no two writes overlap and reading goes on while replies are made.
    """

    def __init__(self, tools: StreamTools, call: StreamCall) -> None:
        self._tools = tools
        self._call = call
        self._open: set[_Turn] = set()
        self._line: deque[_Turn] = deque()
        self._outbox: deque[_Item] = deque()
        self._unsent = self._writing = 0
        self._reader = call.reader or Reader(UnreadReplies(UNBOUNDED), "")
        self._largest = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._over = False

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<InferenceStream {len(self._open)} open, {self._unsent} bytes unsent>"

    async def serve(self, messages: AsyncIterable[bytes], context: Writing) -> None:
        """Serve the call to its end.

        :raises Exception: the error that ends it, which is the call's status.
        """
        reader = asyncio.ensure_future(self._read(messages))
        reader.add_done_callback(lambda _: self._news.set())
        try:
            while True:
                self._news.clear()
                await self._write(context)
                if reader.done() and not self._open:
                    break
                await self._news.wait()
            await reader
        finally:
            reader.cancel()
            self._writing = 0
            self._abandon()

    async def _read(self, messages: AsyncIterable[bytes]) -> None:
        async for message in messages:
            self._accept(message)
            del message  # the next one may not come for hours
            while self._is_full():
                self._room.clear()
                await self._room.wait()

    def _is_full(self) -> bool:
        requests, nbytes = self._tools.limits
        count = len(self._open)
        # Half of it is left to what decoupled models produce for requests that were read already.
        return (
            self._over
            or count >= requests
            or count * self._largest > nbytes
            or self._unsent > nbytes // 2
            or (self._unsent > 0 and self._reader.pressed)
        )

    async def _write(self, context: Writing) -> None:
        while self._outbox:
            message, turn, error = self._outbox.popleft()
            if error is not None:
                raise error
            size = self._writing = len(message) + MESSAGE_COST
            try:
                await context.write(message)
            except grpc.aio.InternalError:
                # The caller went away while it was sent; mostly, but not always, gRPC cancels us.
                raise asyncio.CancelledError from None
            self._writing = 0
            self._unsent -= size
            self._reader.sent(size)
            if turn is not None:
                self._open.discard(turn)
            self._room.set()

    # -- requests -------------------------------------------------------------------------------

    def _accept(self, message: bytes) -> None:
        tools, call = self._tools, self._call
        turn = _Turn()
        self._open.add(turn)
        self._line.append(turn)
        self._largest = max(self._largest, len(message))
        try:
            request = tools.codec.decode(message, call.deadline, call.tenant)
            if call.check is not None:
                call.check(request.header.model_name)  # before the turn has it: counted like others
            turn.request = request
            if call.trace is not None:
                call.trace.begin(request)
            if call.forward is not None:
                call.forward(request)
            turn.entry = entry = tools.engine.submit(
                request,
                functools.partial(self._ended, turn),
                functools.partial(self._produced, turn),
            )
            if entry.partial is not None:  # the model is decoupled: it has no place in the order
                turn.ordered = False
                self._line.remove(turn)
        except Exception as error:  # noqa: BLE001  # the RPC boundary: a bug ends one request
            self._refused(turn, message, error)

    def _refused(self, turn: _Turn, message: bytes, error: Exception) -> None:
        request = turn.request
        if isinstance(error, JitneyError):
            if request is None:
                # What came later was counted where it was refused.
                self._tools.metrics.request_refused(None, error)
            else:
                request.release()
            # It may end the call, and then stays for a while, with all frames that it passed.
            error.__traceback__ = None
        self._count(request, self._tools.statuses.code_of(error).name, error)
        request_id = _id_of(message) if request is None else request.id
        self._end(turn, self._error_item(turn, error, pb.ModelInferResponse(id=request_id)))

    def _produced(self, turn: _Turn, reply: object) -> None:
        if self._over or turn.entry is None:
            return
        self._send(_Item(_reply_message(cast("bytes", reply), MORE)))
        if self._unsent > self._tools.limits.nbytes:
            msg = (
                f"{self._unsent} bytes of replies wait to be read on this stream, more than the "
                f"{self._tools.limits.nbytes} that may (limits.max_stream_bytes); read faster, or "
                "ask for less at a time"
            )
            self._fail(Overloaded(msg, reason="STREAM_UNREAD"))

    def _ended(self, turn: _Turn, reply: object, error: JitneyError | None) -> None:
        request = cast("Request", turn.request)  # it was submitted
        turn.entry = None  # they refer to each other
        if error is not None:
            self._count(request, self._tools.statuses.code_of(error).name, error)
            response = pb.ModelInferResponse(id=request.id, model_name=request.header.model_name)
            response.parameters[FINAL].bool_param = True
            self._end(turn, self._error_item(turn, error, response))
            return
        self._count(request, "OK")
        if reply is not None:
            self._end(turn, _Item(_reply_message(cast("bytes", reply), LAST), turn))
        elif (request.header.parameters or {}).get(EMPTY_FINAL) is True:
            self._end(turn, _Item(_reply_message(_empty_reply(request), LAST), turn))
        else:
            self._open.discard(turn)
            self._news.set()
            self._room.set()

    def _count(self, request: Request | None, code: str, error: Exception | None = None) -> None:
        self._tools.metrics.request_ended(request.model if request else None, METHOD, code)
        if self._call.trace is not None and request is not None:
            reason = error.reason if isinstance(error, JitneyError) else ""
            self._call.trace.end(request, code, reason)

    # -- replies --------------------------------------------------------------------------------

    def _error_item(self, turn: _Turn, error: Exception, response: pb.ModelInferResponse) -> _Item:
        if self._call.real_status:
            return _Item(b"", turn, error)
        message = pb.ModelStreamInferResponse(
            error_message=text_of(error, turn.request), infer_response=response
        )
        return _Item(message.SerializeToString(), turn)

    def _end(self, turn: _Turn, item: _Item) -> None:
        """Send the last message of a request, once those of the requests before it were sent."""
        if not turn.ordered:
            self._send(item)
            return
        turn.item = item
        while self._line and (head := self._line[0].item) is not None:
            self._line.popleft().item = None  # they refer to each other, and it has the reply
            self._send(head)

    def _send(self, item: _Item) -> None:
        if self._over:
            return
        size = len(item.message) + MESSAGE_COST
        try:
            self._reader.add(size)
        except Overloaded as error:
            error.__traceback__ = None
            self._fail(error)
            return
        self._outbox.append(item)
        self._unsent += size
        self._largest = max(self._largest, len(item.message))
        self._news.set()

    def _fail(self, error: Overloaded) -> None:
        """End the stream, in place of all that waits."""
        self._abandon()
        self._outbox.append(_Item(b"", None, error))
        self._news.set()

    def _abandon(self) -> None:
        """Let the engine forget what is left, and drop what was not sent."""
        self._over = True
        # What is being sent is gRPC's, and stays there until its caller takes it.
        self._reader.sent(self._reader.nbytes - self._writing)
        self._outbox.clear()
        self._line.clear()
        for turn in list(self._open):
            entry, turn.entry = turn.entry, None
            turn.item = None
            if entry is not None:
                self._tools.engine.cancel(entry)
                self._count(turn.request, "CANCELLED")
        self._open.clear()


def _reply_message(reply: bytes, flag: bytes) -> bytes:
    """Wrap a serialised ModelInferResponse into a ModelStreamInferResponse."""
    return b"".join((bytes_field(INFER_RESPONSE, len(reply) + len(flag)), reply, flag))


def _empty_reply(request: Request) -> bytes:
    # The version is that which was asked for, mostly none, as Triton has it.
    header = request.header
    return pb.ModelInferResponse(
        id=request.id, model_name=header.model_name, model_version=header.model_version
    ).SerializeToString()


def _id_of(message: bytes) -> str:
    """Return the id of a request that could not be decoded; empty where it cannot be found."""
    try:
        return cut(message).id.decode()
    except (InvalidRequest, UnicodeDecodeError):
        return ""
