"""Requests that no batch holds, served in parts."""

from __future__ import annotations

import itertools
import logging
import math
from typing import TYPE_CHECKING, Final, Protocol

from jitney.bugs import numbered
from jitney.errors import BatchTooLarge, InferenceFailed, JitneyError, OutputTooLarge
from jitney.scheduling.batch import Entry, State
from jitney.strings import row_offsets
from jitney.types import BatchOutputs, OutputTensor, Placed, Request, Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jitney.datatypes import DataType
    from jitney.types import Bytes, TensorHeader

__all__ = ["MAX_PARTS", "Budget", "Splitter", "spans"]

log = logging.getLogger(__name__)

MAX_PARTS: Final = 1024
"""Parts of one request. Each is an entry in a queue, and costs as much as a request of its own."""
MAX_OUTPUT_BYTES: Final = (1 << 31) - (1 << 20)
"""Bytes of a joined reply: what protobuf can read, less a MiB for names and shapes."""


class Scheduling(Protocol):
    """What parts are given to."""

    def submit(self, entry: Entry) -> None:
        """Queue an entry; raises JitneyError where it is refused."""

    def cancel(self, entry: Entry) -> str:
        """Forget an entry; return where it was, ``queued`` or ``running``. Idempotent."""


class Budget(Protocol):
    """Who counts the bytes that the server holds for requests."""

    def charge(self, nbytes: int) -> None:
        """Count more bytes of a request that was admitted; raises Overloaded at the limit."""

    def refund(self, nbytes: int) -> None:
        """Let go of bytes that were charged."""


class Splitter:
    """Stands between the engine and the scheduler, and cuts what is larger than a batch.

    - An entry that fits into a batch of its key is passed on as it is.
    - A larger one is cut by rows into parts as even as can be. Each part is an entry of its own,
      with the deadline, priority and tenant of the whole; they may share batches with others and
      run on several devices at once. Its caller gets one reply, as if one batch had run.
    - All parts are queued, or none. The first that fails ends the whole with its error, and the
      others are cancelled; they are cancelled with it as well.
    - Outputs of parts are copied out of the slots as they come. Until the whole has ended they are
      charged to ``budget``: a thousand parts may have far more outputs than inputs.
    - It counts as one request: the longest wait, the sum of the stages of its parts (of which
      several may have run at once), and the time from arrival to the last of them. A model's own
      figures count it with the batch of that last part.

    It does not ask whether a model may be served so; what must not be cut is not given to it.
    """

    def __init__(self, scheduler: Scheduling, budget: Budget) -> None:
        self._scheduler = scheduler
        self._budget = budget
        self._joints: dict[Entry, _Joint] = {}

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Splitter {len(self._joints)} requests in parts>"

    def submit(self, entry: Entry) -> None:
        """Queue an entry, in parts where it has to be.

        :raises BatchTooLarge: when it has to be, and cannot: one row does not fit into a batch.
        :raises JitneyError: when the scheduler refuses it or a part of it; ``done`` is not called.
        """
        key = entry.key
        if entry.rows <= key.max_rows and entry.nbytes <= key.max_bytes:
            self._scheduler.submit(entry)
            return
        joint = _Joint(entry, self._scheduler, self._budget, self._joints.pop)
        parts = list(joint.cut())
        self._joints[entry] = joint
        joint.submit(parts)

    def cancel(self, entry: Entry) -> str:
        """Forget an entry, with all its parts; its ``done`` will not be called. Idempotent.

        :returns: where it was: ``queued`` if no part of it had left the queue, else ``running``.
        """
        joint = self._joints.get(entry)
        return self._scheduler.cancel(entry) if joint is None else joint.cancel()


class _Joint:
    """One request in parts: the carrier of its parts, and who puts their outputs together."""

    def __init__(
        self,
        whole: Entry,
        scheduler: Scheduling,
        budget: Budget,
        forget: Callable[[Entry], object],
    ) -> None:
        self._whole = whole
        self._scheduler = scheduler
        self._budget = budget
        self._forget = forget
        self._parts: list[Entry] = []
        self._first_rows: dict[Request, int] = {}
        self._missing = 0
        self._columns = [_Column(whole.rows, self._charge) for _ in whole.outputs]
        self._timings: list[Timing] = []
        self._charged = 0

    # -- the way in -----------------------------------------------------------------------------

    def cut(self) -> Iterator[Entry]:
        """Yield the parts, in order.

        :raises BatchTooLarge: as ``spans``.
        """
        whole, request = self._whole, self._whole.request
        # What is elsewhere comes here first: parts of it are taken at several times.
        local = [
            data if isinstance(data, bytes | bytearray | memoryview) else data.read()
            for data in request.data
        ]
        starts = [
            _row_starts(tensor, data, whole.rows)
            for tensor, data in zip(request.header.inputs, local, strict=True)
        ]
        views = [memoryview(data) for data in local]

        def size(first: int, last: int) -> int:
            return sum(start(last) - start(first) for start in starts)

        for first, last in spans(whole, size):
            part = Request(
                request.header,
                [view[at(first) : at(last)] for view, at in zip(views, starts, strict=True)],
                self,
                id=request.id,
                deadline=request.deadline,
                timeout=request.timeout,
                tenant=request.tenant,
            )
            part.model, part.origin = request.model, request
            self._first_rows[part] = first
            yield Entry(
                part,
                whole.key,
                last - first,
                size(first, last),
                whole.arrived,
                self._ended,
                deadline=whole.deadline,
                start_by=whole.start_by,
                priority=whole.priority,
                tenant=whole.tenant,
                inputs=whole.inputs,
                outputs=whole.outputs,
            )

    def submit(self, parts: Sequence[Entry]) -> None:
        """Queue all parts, or none."""
        self._missing = len(parts)
        try:
            for part in parts:
                self._scheduler.submit(part)
                self._parts.append(part)
        except JitneyError:
            self.cancel()
            raise

    def cancel(self) -> str:
        """End without telling anybody, and cancel the parts that have not ended.

        :returns: where the whole was.
        """
        stages = set()
        for part in self._close():
            if part.state is State.DONE:
                stages.add("running")
            else:
                part.timing = None  # it may stand in the batch that is being answered
                stages.add(self._scheduler.cancel(part))
        return "running" if "running" in stages else "queued"

    def gather(self, placed: Sequence[Placed], inputs: Sequence[memoryview]) -> None:
        """Copy the rows of every part into the batch's inputs."""
        for i, region in enumerate(inputs):
            at = 0
            for p in placed:
                data = p.request.data[p.order[i]]
                region[at : at + len(data)] = data  # type: ignore[assignment]  # ours: a view
                at += len(data)

    # -- the way out ----------------------------------------------------------------------------

    def reply(
        self, placed: Sequence[Placed], outputs: BatchOutputs, timings: Sequence[Timing]
    ) -> Sequence[object]:
        """Keep the outputs of every part; the reply is made with the last of them."""
        if self._whole.state is not State.DONE:
            for p, timing in zip(placed, timings, strict=True):
                self._timings.append(timing)
                for column, i in zip(self._columns, p.outputs, strict=True):
                    column.add(outputs.outputs[i], outputs.rows, p, self._first_rows[p.request])
        return [None] * len(placed)

    def _charge(self, nbytes: int) -> None:
        if self._charged + nbytes > MAX_OUTPUT_BYTES:
            msg = (
                f"the outputs of the {self._whole.rows} rows of this request have more than "
                f"{MAX_OUTPUT_BYTES} bytes, the most of one reply; send fewer rows at a time"
            )
            raise OutputTooLarge(msg)
        self._budget.charge(nbytes)
        self._charged += nbytes

    def _ended(self, part: Entry, reply: object, error: JitneyError | None) -> None:
        part.timing = None  # one request is counted once, with its last part
        if self._whole.state is State.DONE:
            return
        if error is None:
            self._missing -= 1
            if self._missing:
                return
            reply, error = self._join()
            if error is None:
                part.timing = self._whole.timing
        self.cancel()
        self._whole.done(self._whole, reply, error)

    def _join(self) -> tuple[object, JitneyError | None]:
        whole, timings = self._whole, self._timings
        outputs = BatchOutputs(
            [column.joined() for column in self._columns], whole.rows, batched=True
        )
        placed = Placed(
            whole.request, whole.key.model, 0, whole.rows, whole.inputs, range(len(self._columns))
        )
        timing = Timing(
            max(t.queue for t in timings),
            sum(t.compute_input for t in timings),
            sum(t.compute_infer for t in timings),
            sum(t.compute_output for t in timings),
            max(t.total for t in timings),
        )
        try:
            (reply,) = whole.request.carrier.reply([placed], outputs, [timing])
            if isinstance(reply, JitneyError):
                return None, reply
        except JitneyError as error:
            return None, error
        except Exception as error:  # noqa: BLE001  # a carrier is somebody else's code
            model = whole.key.model
            facts = {"model": model.name, "version": model.version, "request_id": whole.request.id}
            text = numbered(log, "a reply in parts could not be made", error, **facts)
            return None, InferenceFailed(text)
        whole.timing = timing
        return reply, None

    def _close(self) -> Sequence[Entry]:
        """End; return the parts, of which some may not have ended.

        Nothing refers to them from here any more: their data, megabytes perhaps, would stay until
        the collector of cycles comes by.
        """
        self._whole.state = State.DONE
        self._forget(self._whole)
        self._budget.refund(self._charged)
        self._columns, self._first_rows = [], {}
        parts, self._parts = self._parts, []
        return parts


class _Column:
    """One output of the whole request, as far as its parts have come."""

    __slots__ = ("_charge", "_data", "_labels", "_pieces", "_rows", "_spec")

    def __init__(self, rows: int, charge: Callable[[int], None]) -> None:
        self._rows = rows
        self._charge = charge
        self._spec: tuple[str, DataType, tuple[int, ...]] | None = None
        self._labels: Sequence[str] = ()
        self._data = bytearray()
        self._pieces: dict[int, tuple[bytes, list[int]]] = {}

    def add(self, tensor: OutputTensor, batch_rows: int, p: Placed, first_row: int) -> None:
        """Copy the rows of a part out of its batch.

        :raises BatchTooLarge: when they have another shape than those of other parts.
        :raises JitneyError: when there is no room.
        """
        spec = (tensor.name, tensor.datatype, tensor.shape[1:])
        first, last = p.first_row, p.first_row + p.rows
        row_bytes = len(tensor.data) // batch_rows
        if self._spec is None:
            self._spec, self._labels = spec, tensor.labels
            if tensor.row_offsets is None:
                # All of it at once: what does not fit is then known with the first part.
                self._charge(self._rows * row_bytes)
                self._data = bytearray(self._rows * row_bytes)
        elif spec != self._spec:
            msg = (
                f"the rows of output '{tensor.name}' have the shape {list(spec[2])} in one part of "
                f"this request and {list(self._spec[2])} in another, so they cannot be joined; "
                "send no more rows than a batch has"
            )
            raise BatchTooLarge(msg)
        if tensor.row_offsets is None:
            rows = tensor.data[first * row_bytes : last * row_bytes]
            at = first_row * row_bytes
            self._data[at : at + len(rows)] = rows
            return
        ends = tensor.row_offsets[first : last + 1]
        self._charge(ends[-1] - ends[0])
        sizes = [end - start for start, end in itertools.pairwise(ends)]
        self._pieces[first_row] = (bytes(tensor.data[ends[0] : ends[-1]]), sizes)

    def joined(self) -> OutputTensor:
        """Return all rows; every part has come."""
        assert self._spec is not None  # noqa: S101  # a request has a part
        name, datatype, dims = self._spec
        offsets = None
        if self._pieces:
            pieces = [self._pieces[first_row] for first_row in sorted(self._pieces)]
            self._data = bytearray().join(data for data, _ in pieces)
            sizes = itertools.chain.from_iterable(sizes for _, sizes in pieces)
            offsets = list(itertools.accumulate(sizes, initial=0))
        data = memoryview(self._data)
        return OutputTensor(name, datatype, (self._rows, *dims), data, offsets, self._labels)


def spans(whole: Entry, size: Callable[[int, int], int]) -> list[tuple[int, int]]:
    """Return the rows of each part, in order: from the first up to, and not with, the last.

    As few parts of even rows as the limits of the batch allow; one that has too many bytes, which
    only happens where elements are texts, is halved until it has not.

    :param size: returns the bytes of a span of rows.
    :raises BatchTooLarge: when a single row has too many bytes, or there are too many parts.
    """
    key, rows = whole.key, whole.rows
    count = -(-rows // max(1, key.max_rows))
    bounds = [rows * i // count for i in range(count + 1)]
    todo = [*itertools.pairwise(bounds)][::-1]
    found: list[tuple[int, int]] = []
    while todo:
        first, last = todo.pop()
        if (nbytes := size(first, last)) <= key.max_bytes:
            found.append((first, last))
        elif last - first == 1:
            msg = (
                f"row {first} of this request to '{key.model.name}' has {nbytes} bytes, and one "
                f"batch may have {key.max_bytes} (the server's --slot-bytes)"
            )
            raise BatchTooLarge(msg)
        else:
            middle = (first + last) // 2
            todo += ((middle, last), (first, middle))
        if len(found) + len(todo) > MAX_PARTS:
            msg = (
                f"this request to '{key.model.name}' would have to be served in more than "
                f"{MAX_PARTS} parts; send fewer rows at a time"
            )
            raise BatchTooLarge(msg)
    return found


def _row_starts(tensor: TensorHeader, data: Bytes, rows: int) -> Callable[[int], int]:
    """Return what tells at which byte a row starts; the row behind the last starts at the end.

    The bytes were checked: there are as many as the shape says, and the elements of a BYTES tensor
    end where it does.
    """
    if tensor.datatype.item_size:
        row_bytes = len(data) // rows
        return lambda row: row * row_bytes
    return row_offsets(data, rows, math.prod(tensor.shape[1:])).__getitem__
