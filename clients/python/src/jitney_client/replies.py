"""The requests of a stream, and which of them a message answers."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

import grpc

from jitney_client.errors import InvalidReply, JitneyError
from jitney_client.framing import split_reply, split_stream_reply
from jitney_client.protocol import inference
from jitney_client.protocol.message import DecodeError
from jitney_client.result import InferResult
from jitney_client.statuses import from_stream

if TYPE_CHECKING:
    from jitney_client.prepared import Prepared

__all__ = ["Answer", "OpenRequests"]

P = TypeVar("P")

FINAL: Final = "triton_final_response"


def _mark_the_end() -> bytes:
    request = inference.ModelInferRequest()
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    return request.SerializeToString()


MARK_THE_END: Final = _mark_the_end()
"""Part of a request: asks the server to mark its end, where it may have any number of replies."""


class Answer(NamedTuple, Generic[P]):
    """What a message says: to which request, with what, and whether that was all.

    ``reply`` is None where the message only marks the end.
    """

    pending: P
    reply: InferResult | JitneyError | None
    last: bool


class OpenRequests(Generic[P]):
    """The requests of one stream that are not answered to the end.

    ``P`` is what waits for the answers. Messages are told apart by the request's id; a request
    without one is given a number.
    """

    def __init__(self) -> None:
        self._open: dict[str, tuple[P, tuple[str, ...]]] = {}
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._open)

    def add(self, prepared: Prepared, pending: P) -> bytes:
        """Add a request; return its message.

        :raises ValueError: when another one with its id is open.
        """
        name = prepared.request_id or f"#{next(self._numbers)}"
        if name in self._open:
            msg = f"the stream has a request {name!r} already, which is not answered yet"
            raise ValueError(msg)
        message = prepared._replace(request_id=name).message(MARK_THE_END)
        self._open[name] = (pending, prepared.head.classified)
        return message

    def drain(self) -> list[P]:
        """Remove and return all that are left."""
        left, self._open = self._open, {}
        return [pending for pending, _ in left.values()]

    def read(self, message: bytes) -> Answer[P] | None:
        """Read a message; None where it answers a request that nobody waits for.

        :raises InvalidReply: when it is none.
        """
        try:
            error, data = split_stream_reply(message)
            response, raw = split_reply(data)
        except (DecodeError, ValueError) as fault:
            msg = f"a message of the stream is none: {fault}"
            raise InvalidReply(msg, code=grpc.StatusCode.OK) from None
        found = self._open.get(response.id)
        if found is None:
            return None
        pending, classified = found
        # Servers before the flag, and most errors, leave it out: there is one message then.
        flagged = FINAL in response.parameters
        last = response.parameters[FINAL].bool_param if flagged else True
        if last:
            del self._open[response.id]
        if error:
            return Answer(pending, from_stream(error), last)
        if last and not response.outputs:
            return Answer(pending, None, last)
        try:
            return Answer(pending, InferResult(response, raw, classified=classified), last)
        except InvalidReply as fault:
            return Answer(pending, fault, last)
