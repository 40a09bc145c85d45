"""Replies read at little cost where one of the same form came before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import grpc
import numpy as np

from jitney_client.errors import InvalidReply
from jitney_client.framing import SMALL, raw_outputs, split_reply
from jitney_client.protocol.message import DecodeError
from jitney_client.result import InferResult
from jitney_client.tensors import DTYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney_client.protocol import inference
    from jitney_client.tensors import Array

__all__ = ["ReplyMemory", "read_reply"]

MOST_MISSES: Final = 16
"""Replies in a row that were unlike the one before: where shapes depend on the values, or every
request has its own id, there is nothing to be remembered."""


class Cut(NamedTuple):
    """An output: where its elements begin, and the bytes before them that say how many."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    tag: bytes


class ReplyForm:
    """All of a reply but its elements: of the same request, most replies differ in nothing else.

    The elements stand at the end of the message, so the beginning can be compared in one step, and
    nothing has to be parsed.
    """

    __slots__ = ("_beginning", "_cuts", "_size", "reply")

    def __init__(
        self, reply: inference.ModelInferResponse, beginning: bytes, cuts: list[Cut], size: int
    ) -> None:
        self.reply = reply
        self._beginning = beginning
        self._cuts = cuts
        self._size = size

    @classmethod
    def of(cls, message: bytes, reply: inference.ModelInferResponse) -> ReplyForm | None:
        """Return the form of a reply that was read; None where it cannot be told so simply."""
        places = raw_outputs(message)
        if places is None or len(places) != len(reply.outputs):
            return None
        cuts = []
        for (field, start, _), output in zip(places, reply.outputs, strict=True):
            dtype = DTYPES.get(output.datatype)
            if dtype is None:
                return None
            tag = message[field:start]
            cuts.append(Cut(output.name, dtype, tuple(output.shape), start, tag))
        return cls(reply, message[: places[0][0]], cuts, len(message)) if places else None

    def read(self, message: bytes) -> dict[str, Array] | None:
        """Return the outputs of a message of this form; None if it has another one."""
        if len(message) != self._size or not message.startswith(self._beginning):
            return None
        arrays: dict[str, Array] = {}
        for name, dtype, shape, start, tag in self._cuts:
            if not message.startswith(tag, start - len(tag)):
                return None
            arrays[name] = np.ndarray(shape, dtype, message, start)
        return arrays


class ReplyMemory:
    """The form of the last reply to one kind of request. Threads may share it."""

    __slots__ = ("_form", "_misses")

    def __init__(self) -> None:
        self._form: ReplyForm | None = None
        self._misses = 0

    def read(self, message: bytes, model: str) -> InferResult:
        """Read a reply without classes.

        :raises InvalidReply: when it contradicts the protocol.
        """
        form = self._form
        if form is not None and (arrays := form.read(message)) is not None:
            self._misses = 0
            return InferResult.of(form.reply, arrays)
        reply, raw = read_reply(message, model)
        result = InferResult(reply, raw)
        if self._misses < MOST_MISSES and len(message) < SMALL:
            self._misses += 1
            self._form = ReplyForm.of(message, reply)
        return result


def read_reply(
    message: bytes, model: str
) -> tuple[inference.ModelInferResponse, Sequence[bytes | memoryview]]:
    """Return a reply and its raw tensors.

    :raises InvalidReply: when it is none.
    """
    try:
        return split_reply(message)
    except (DecodeError, ValueError) as error:
        msg = f"the reply of {model!r} is none: {error}"
        raise InvalidReply(msg, code=grpc.StatusCode.OK) from None
