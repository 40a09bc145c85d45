"""Between protocol messages and requests: the only file that knows both.

A request's tensors stay where they are in the received message, or in memory shared with its
caller, until they are gathered into a batch; a reply is joined straight from the batch's outputs.
So a tensor is copied once each way.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final

from jitney.datatypes import DataType
from jitney.errors import InvalidRequest, JitneyError
from jitney.transport.framing import bytes_field, cut
from jitney.transport.heads import LONGEST_REMEMBERED, Head, parse_head
from jitney.transport.parameters import not_a_number
from jitney.transport.replies import (
    OUTPUT_FIELD,
    Cutter,
    reply_elsewhere,
    reply_head,
    timing_parameters,
)
from jitney.transport.shared_memory import RegionRegistry, SharedRequest, Window
from jitney.types import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.transport.heads import Spots
    from jitney.types import BatchOutputs, Buffer, Bytes, Placed, RequestHeader, Timing

__all__ = ["Codec"]

MAX_MESSAGE: Final = (1 << 31) - 1

REMEMBERED: Final = 2048
"""Request heads kept, and reply heads; past it all are forgotten (see ``RequestHeader``)."""
JOIN_BELOW: Final = 16 * 1024
"""Bytes; requests up to this size are joined first and copied once, which is cheaper per request
than assigning each one to its place."""

ID_FIELD: Final = 3


class Codec:
    """Decodes requests, and carries their bytes for one server: a ``types.Carrier``.

    It knows no model: whether the inputs are those of the model is checked by who knows it.
    """

    def __init__(
        self, regions: RegionRegistry | None = None, max_message_bytes: int = MAX_MESSAGE
    ) -> None:
        """Begin with nothing remembered.

        :param regions: of shared memory; none for none.
        :param max_message_bytes: as much may be copied out of shared memory for one request,
            before it is known whether the server takes it on.
        """
        self._regions = regions or RegionRegistry()
        self._max_copy = max_message_bytes
        self._headers: dict[bytes, RequestHeader] = {}
        self._elsewhere: dict[bytes, Head] = {}
        self._typed: dict[object, RequestHeader] = {}
        self._reply_heads: dict[object, bytes] = {}

    # -- in -------------------------------------------------------------------------------------

    def decode(self, message: bytes, deadline: float, tenant: str = "") -> Request:
        """Decode a serialised ModelInferRequest.

        :param deadline: in the clock's monotonic seconds, infinite where the caller set none.
        :param tenant: on whose behalf the call is made.
        :raises InvalidRequest: when it is malformed, over the caps, or has raw and typed contents.
        :raises NotSupported: when it uses what this server does not offer.
        :raises RegionNotFound: when it uses shared memory that was not registered.
        """
        head, request_id, raw, micros = cut(message)
        header = self._headers.get(head) if len(head) <= LONGEST_REMEMBERED else None
        data: Sequence[Buffer] = raw
        spots = None
        if header is None:
            parsed = self._elsewhere.get(head) or self._parse(head, has_raw=bool(raw))
            header, typed, spots = parsed
            if typed is not None:
                data = typed
        try:
            text = request_id.decode() if request_id else ""
        except UnicodeDecodeError:
            msg = "the request's id is not UTF-8"
            raise InvalidRequest(msg) from None
        if micros is None and header.parameters is not None:
            micros = int(header.parameters.get("timeout", 0))
        timeout = _seconds(micros) if micros else math.inf
        if spots is None:
            if len(data) != len(header.inputs):
                raise _wrong_count(header, len(data))
            return Request(
                header, data, self, id=text, deadline=deadline, timeout=timeout, tenant=tenant
            )
        request = self._decode_elsewhere(header, data, spots)
        request.id, request.tenant = text, tenant
        request.deadline, request.timeout = deadline, timeout
        return request

    def _decode_elsewhere(
        self, header: RequestHeader, data: Sequence[Buffer], spots: Spots
    ) -> SharedRequest:
        windows = {i: self._regions.window(spot) for i, spot in spots.inputs}
        targets = {name: self._regions.window(spot) for name, spot in spots.outputs}
        whole = self._put_together(header, data, windows)
        return SharedRequest(header, whole, self, windows=windows, targets=targets)

    def _put_together(
        self, header: RequestHeader, data: Sequence[Buffer], windows: dict[int, Window]
    ) -> list[Buffer]:
        """Return all inputs in order, those that came in the message and the others."""
        if len(data) != len(header.inputs) - len(windows):
            raise _wrong_count(header, len(data), windows)
        came = iter(data)
        whole: list[Buffer] = []
        copied = 0
        for i, tensor in enumerate(header.inputs):
            window = windows.get(i)
            if window is None:
                whole.append(next(came))
            elif tensor.datatype is not DataType.BYTES:
                whole.append(window)
            elif copied + len(window) > self._max_copy:
                of, have = ("the BYTES inputs up to", "have") if copied else ("input", "has")
                msg = (
                    f"{of} '{tensor.name}' for model '{header.model_name}' {have} "
                    f"{copied + len(window)} bytes, at most {self._max_copy} are allowed"
                )
                raise InvalidRequest(msg)
            else:
                # Their lengths are checked now and used later: nobody may change them meanwhile.
                whole.append(window.read())
                copied += len(window)
        return whole

    def _parse(self, head: bytes, *, has_raw: bool) -> Head:
        """Parse a head that was not seen before."""
        parsed = parse_head(head, self._regions, has_raw=has_raw)
        header, typed, spots = parsed
        if typed is not None:
            return Head(self._intern_typed(header), typed, spots)
        if header.recurs:
            if len(self._headers) + len(self._elsewhere) >= REMEMBERED:
                self._headers.clear()
                self._elsewhere.clear()
            if spots is None:
                self._headers[head] = header
            else:
                self._elsewhere[head] = parsed
        return parsed

    def _intern_typed(self, header: RequestHeader) -> RequestHeader:
        # The head of a typed request holds its values, so it never recurs; what it declares does.
        parameters = header.parameters or {}
        texts = [header.model_name, header.model_version, *header.outputs, *parameters]
        texts += [value for value in parameters.values() if isinstance(value, str)]
        texts += [tensor.name for tensor in header.inputs]
        if sum(map(len, texts)) > LONGEST_REMEMBERED:
            return header
        key = (
            header.model_name,
            header.model_version,
            header.inputs,
            header.outputs,
            header.classes,
            # With their types: 1, 1.0 and true are equal, and mean different things.
            frozenset((k, type(v), v) for k, v in parameters.items()),
        )
        if len(self._typed) >= REMEMBERED:
            self._typed.clear()
        return self._typed.setdefault(key, dataclasses.replace(header, recurs=True))

    # -- the bytes of a batch -------------------------------------------------------------------

    def gather(self, placed: Sequence[Placed], inputs: Sequence[memoryview]) -> None:
        """Copy the rows of every request into the batch's inputs."""
        elsewhere = self._regions.enabled and any(type(p.request) is not Request for p in placed)
        for i, region in enumerate(inputs):
            parts = [p.request.data[p.order[i]] for p in placed]
            if len(region) <= JOIN_BELOW * len(parts) and not elsewhere:
                region[:] = b"".join(parts)  # type: ignore[arg-type]  # no windows among them
                continue
            at = 0
            for part in parts:
                end = at + len(part)
                if isinstance(part, Window):
                    part.read_into(region[at:end])
                else:
                    region[at:end] = part  # type: ignore[assignment]  # no other remote ones
                at = end

    def reply(
        self, placed: Sequence[Placed], outputs: BatchOutputs, timings: Sequence[Timing]
    ) -> list[bytes | JitneyError]:
        """Return the serialised ModelInferResponse of every request."""
        tensors = [Cutter(output, outputs) for output in outputs.outputs]
        replies: list[bytes | JitneyError] = []
        last: RequestHeader | None = None
        head = b""
        for p, timing in zip(placed, timings, strict=True):
            request = p.request
            header = request.header
            if header.classes or type(request) is not Request:
                try:
                    replies.append(reply_elsewhere(p, tensors, timing))
                except JitneyError as error:
                    replies.append(error)
                continue
            if header is not last:  # mostly it is: they are of one model, often of one client
                last, head = header, self._reply_head(p, tensors)
            parts: list[Bytes] = [head]
            if request.id:
                encoded = request.id.encode()
                parts += (bytes_field(ID_FIELD, len(encoded)), encoded)
            if header.parameters and header.parameters.get("jitney_timing") is True:
                parts.append(timing_parameters(timing))
            for i in p.outputs:
                data = tensors[i].rows(p.first_row, p.rows)
                parts += (bytes_field(OUTPUT_FIELD, len(data)), data)
            replies.append(b"".join(parts))
        return replies

    def _reply_head(self, p: Placed, tensors: Sequence[Cutter]) -> bytes:
        header = p.request.header
        key = (header, p.model, tuple(tensor.dims for tensor in tensors))
        head = self._reply_heads.get(key)
        if head is None:
            head = reply_head(p, tensors)
            if header.recurs:
                if len(self._reply_heads) >= REMEMBERED:
                    self._reply_heads.clear()
                self._reply_heads[key] = head
        return head


def _seconds(micros: int) -> float:
    if micros < 0:
        key = "timeout"
        raise not_a_number(key)
    return micros / 1e6


def _wrong_count(
    header: RequestHeader, count: int, windows: dict[int, Window] | None = None
) -> InvalidRequest:
    awaited = [tensor.name for i, tensor in enumerate(header.inputs) if i not in (windows or ())]
    if count < len(awaited):
        return InvalidRequest(
            f"unable to find data for input tensor '{awaited[count]}' for model "
            f"'{header.model_name}' in request."
        )
    of = f"{len(awaited)} of the {len(header.inputs)}" if windows else f"{len(awaited)}"
    return InvalidRequest(
        f"raw_input_contents has {count} entries for the {of} inputs of a request "
        f"for model '{header.model_name}'"
    )
