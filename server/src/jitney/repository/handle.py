"""A version of a model as the rest of the server holds it: its state, its contract, its limits."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import BatchTooLarge, ModelLoadFailed, ModelNotReady
from jitney.execution.slots import ALIGNMENT
from jitney.repository.check import Checked, check_header
from jitney.repository.limits import class_of
from jitney.repository.manifest import ModelManifest
from jitney.scheduling.batch import BatchKey
from jitney.sequence import Strategy, with_controls
from jitney.sequencing import fill
from jitney.splitting import MAX_PARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from jitney.datatypes import DataType
    from jitney.errors import JitneyError
    from jitney.load_report import LoadReport
    from jitney.repository.limits import ModelLimits
    from jitney.signature import Signature
    from jitney.types import ModelRef, RequestHeader

__all__ = ["ModelVersion", "Plan", "VersionState"]

REMEMBERED: Final = 4096
"""Headers and shapes remembered per version. Both come from the wire, so both are bounded; past
the bound everything is forgotten and worked out anew, which is simpler than any order of eviction
and costs microseconds."""
OVERDUE: Final = 5.0
"""Seconds after which nobody new waits for a worker that should have been back."""


class VersionState(enum.StrEnum):
    """The life of a version; ``reason`` says why it is where it is."""

    UNKNOWN = "UNKNOWN"
    """Found, and never asked for."""
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    """It takes no requests any more; those that it took are being answered."""
    UNAVAILABLE = "UNAVAILABLE"


class Plan(NamedTuple):
    """Everything about a request that follows from its header.

    ``priority`` is the scheduler's class, 0 the highest; ``default_timeout`` is how long, in
    seconds, a request of it may wait for its batch to start, infinite for no limit.
    """

    key: BatchKey
    checked: Checked
    priority: int
    default_timeout: float


class ModelVersion:
    """One version of one model.

    It is READY while at least one device has it loaded. ``signature`` is what its clients see, and
    known from the files, before any load; ``model_signature`` is what the model sees, which is told
    of sequences by inputs of their own. ``reports`` has, for each device that has it, what its load
    found out. ``in_flight`` counts its requests from acceptance to their end.
    """

    def __init__(
        self,
        ref: ModelRef,
        signature: Signature,
        limits: ModelLimits,
        digest: str,
        devices: Iterable[str] = ("cpu",),
        manifest: ModelManifest | None = None,
    ) -> None:
        """Begin as loading.

        :param devices: those that are going to have it.
        :param manifest: what its operator said of it.
        """
        self.ref = ref
        self.manifest = manifest or ModelManifest()
        self.signature = signature
        self.sequence = self.manifest.sequence
        self.model_signature = with_controls(signature, self.sequence)
        builtin = self.manifest.builtin
        self.decoupled = builtin is not None and builtin.handler == "repeat"
        # Torch makes a text only of what is UTF-8; a built-in model hands any bytes on.
        self.takes_text = builtin is None
        self.in_flight = 0
        self._on_idle: Callable[[], None] | None = None
        self.limits = limits
        self.digest = digest
        self.state = VersionState.LOADING
        self.reason = "loading"
        self.reports: dict[str, LoadReport] = {}
        self._before: tuple[LoadReport, ...] = ()
        self._back_at = 0.0
        self._refusal: type[JitneyError] = ModelLoadFailed
        self._expected = set(devices)
        self._plans: dict[RequestHeader, Plan] = {}
        self._keys: dict[tuple[tuple[tuple[int, ...] | None, ...], int], BatchKey] = {}

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<ModelVersion {self.ref} {self.state.value} on {sorted(self.reports)}>"

    @property
    def _known(self) -> Collection[LoadReport]:
        """What the loads found out; while no device has it, what the last one that had it did."""
        return self.reports.values() or self._before

    @property
    def max_batch_size(self) -> int:
        """The batch limit in rows that holds on every device; 0 without a batch dimension."""
        if not self.signature.batched:
            return 0
        limits = [report.max_batch_size for report in self._known]
        return min([self.limits.max_batch_size, *limits])

    @property
    def shares(self) -> bool:
        """Whether rows of several requests may be in one batch.

        Where one row may change another's answer, or nobody proved that it cannot, a request is a
        batch of its own: its rows are together because its caller sent them so.
        """
        proved = all(report.batchable for report in self._known)
        return self.signature.batched and self.limits.shared and proved

    @property
    def splits(self) -> bool:
        """Whether requests that are larger than a batch are served in parts.

        Not where batches have one row: nobody tried then whether rows can be told apart.
        """
        several = self.shares and self.max_batch_size > 1
        return self.limits.split and several and self.sequence is None

    @property
    def max_request_rows(self) -> int:
        """The most rows of one request; a request in parts has to fit into the queue as a whole."""
        most = self.max_batch_size
        if self.splits:
            return max(most, min(most * MAX_PARTS, self.limits.max_queue_rows))
        return most

    def entered(self) -> None:
        """Count a request that was accepted."""
        self.in_flight += 1

    def left(self) -> None:
        """Count the end of a request that was accepted."""
        self.in_flight -= 1
        if not self.in_flight and self._on_idle is not None:
            self._on_idle()

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call back once none of its requests is in flight any more, at once if none is now."""
        self._on_idle = callback
        if not self.in_flight:
            callback()

    def retire(self) -> None:
        """Take no requests from now on, for good."""
        self.state, self.reason = VersionState.UNLOADING, "unloading"

    def loaded(self, device: str, report: LoadReport) -> None:
        """Note that a device has it."""
        self.reports[device] = report
        self._expected.add(device)
        if self.state is not VersionState.UNLOADING:  # what waits for it may need a new worker
            self.state, self.reason = VersionState.READY, ""
        self._plans.clear()
        self._keys.clear()

    def gone(self, device: str, why: str, back_at: float = 0.0) -> None:
        """Note that a device no longer has it, and will have it again.

        :param back_at: when, in the clock's seconds; 0 where nobody knows, or it takes long.
        """
        report = self.reports.pop(device, None)
        if report is not None and not self.reports:
            self._before, self._back_at = (report,), back_at
        if not self.reports and self.state is VersionState.READY:
            self.state, self.reason = VersionState.LOADING, why

    def refused(self, device: str, why: str, error: type[JitneyError] = ModelLoadFailed) -> None:
        """Note that a device does not have it and will not have it.

        :param error: what callers are told, where no other device will have it either.
        """
        self.gone(device, why)
        self._expected.discard(device)
        if not self._expected:
            self.state, self.reason, self._refusal = VersionState.UNAVAILABLE, why, error

    def plan(self, header: RequestHeader, deadline: float = 0.0, now: float = 0.0) -> Plan:
        """Return what follows from a header.

        :param deadline: of the request. Where the only worker is just being replaced, and will be
            back before it, the request may wait for that; not when it should be there by ``now``.
        :raises InvalidRequest: when it breaks the contract.
        :raises BatchTooLarge: when it has too many rows, or rows too large for a slot. What is
            larger than a batch and may be served in parts is not too large.
        :raises ModelNotReady: while no device has the version, but one will.
        :raises ModelLoadFailed: when no device will.
        """
        if self.state is not VersionState.READY and not self._returns_by(deadline, now):
            self.ensure_ready()
        plan = self._plans.get(header)
        if plan is None:
            checked = check_header(header, self.signature, self.max_request_rows)
            priority = class_of(header.priority, self.limits)
            timeout = self.limits.default_timeouts[priority]
            alone = 0 if self.shares or not self.signature.batched else checked.rows
            plan = Plan(self._key(checked.dims, alone), checked, priority, timeout)
            # A row that does not fit into a slot makes it 0.
            most = plan.key.max_rows * (MAX_PARTS if self.splits else 1)
            if checked.rows > most:
                raise self._too_large(sum(n for n in checked.sizes if n > 0), plan.key)
            if header.recurs:
                if len(self._plans) >= REMEMBERED:
                    self._plans.clear()
                self._plans[header] = plan
        return plan

    def _returns_by(self, deadline: float, now: float) -> bool:
        """Whether it was here, and is expected back by then; a sequence would find no state."""
        returns = self.state is VersionState.LOADING and self.sequence is None
        return returns and 0.0 < self._back_at < deadline and now < self._back_at + OVERDUE

    def ensure_ready(self) -> None:
        """Do nothing while at least one device has it.

        :raises ModelNotReady: while no device has it, but one will.
        :raises ModelLoadFailed: when no device will.
        :raises DeviceFailed: when those that had it were given up; others may serve it.
        """
        if self.state is VersionState.READY:
            return
        name, version, _ = self.ref
        msg = (
            f"Request for unknown model: '{name}' version {version} is not at ready state: "
            f"{self.reason}"
        )
        loading = self.state is VersionState.LOADING
        raise (ModelNotReady if loading else self._refusal)(msg)

    def check_bytes(self, nbytes: int, plan: Plan) -> None:
        """Check that a request fits into a batch, which only its bytes tell where BYTES vary.

        :raises BatchTooLarge: when it does not, and cannot be served in parts.
        """
        if nbytes > plan.key.max_bytes and (plan.checked.rows == 1 or not self.splits):
            raise self._too_large(nbytes, plan.key)

    def _too_large(self, nbytes: int, key: BatchKey) -> BatchTooLarge:
        return BatchTooLarge(
            f"the inputs of this request to '{self.ref.name}' have {nbytes} bytes, and one batch "
            f"may have {max(key.max_bytes, 0)} (the server's --slot-bytes)"
        )

    def _key(self, dims: tuple[tuple[int, ...] | None, ...], alone: int) -> BatchKey:
        """Return the key of requests whose rows have these dimensions.

        :param alone: the rows of a request that shares no batch, 0 for one that does. A key that
            has room for no more than that is full with one.
        """
        key = self._keys.get((dims, alone))
        if key is None:
            key = self._make_key(dims, alone)
            if len(self._keys) >= REMEMBERED:
                self._keys.clear()
            self._keys[dims, alone] = key
        return key

    def _make_key(self, dims: tuple[tuple[int, ...] | None, ...], alone: int) -> BatchKey:
        specs = self.model_signature.inputs
        rows = (*dims, *(spec.dims for spec in specs[len(dims) :]))  # controls are as they are
        inputs = tuple(
            None if row is None else (spec.datatype, row)
            for spec, row in zip(specs, rows, strict=True)
        )
        present = [spec for spec in inputs if spec is not None]
        # Every input starts at an aligned offset, so each may lose up to one alignment.
        room = self.limits.slot_bytes - ALIGNMENT * len(present)
        row_bytes = sum(math.prod(row) * datatype.item_size for datatype, row in present)
        max_rows = alone or self.max_batch_size or 1
        if row_bytes:
            max_rows = min(max_rows, room // row_bytes)
        return BatchKey(
            self.ref,
            inputs,
            self.signature.outputs,
            max_rows=max_rows,
            max_bytes=room,
            max_delay=self.limits.max_queue_delay,
            max_queue_rows=self.limits.max_queue_rows,
            batched=self.signature.batched,
            mode=self.limits.mode,
            varies=any(-1 in spec.dims or spec.optional for spec in specs),
            class_queue_rows=self.limits.class_queue_rows,
            delays_late=self.limits.delays_late,
            stateful=self.sequence is not None,
            fill=self._fill(present),
        )

    def _fill(self, inputs: Sequence[tuple[DataType, tuple[int, ...]]]) -> tuple[bytes, ...]:
        if self.sequence is None or self.sequence.strategy is not Strategy.DIRECT:
            return ()
        return fill(self.sequence, inputs)
