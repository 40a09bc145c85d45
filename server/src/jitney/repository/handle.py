"""A version of a model as the rest of the server holds it: its state, its contract, its limits."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import BatchTooLarge, ModelLoadFailed, ModelNotReady
from jitney.execution.slots import ALIGNMENT
from jitney.repository.check import Checked, check_header
from jitney.scheduling.batch import PRIORITIES, BatchKey
from jitney.splitting import MAX_PARTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jitney.load_report import LoadReport
    from jitney.repository.limits import ModelLimits
    from jitney.signature import Signature
    from jitney.types import ModelRef, RequestHeader

__all__ = ["ModelVersion", "Plan", "VersionState"]

REMEMBERED: Final = 4096
"""Headers and shapes remembered per version. Both come from the wire, so both are bounded; past
the bound everything is forgotten and worked out anew, which is simpler than any order of eviction
and costs microseconds."""


class VersionState(enum.StrEnum):
    """The life of a version; ``reason`` says why it is where it is."""

    LOADING = "LOADING"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"


class Plan(NamedTuple):
    """Everything about a request that follows from its header.

    ``priority`` is the scheduler's class, 0 the highest.
    """

    key: BatchKey
    checked: Checked
    priority: int


class ModelVersion:
    """One version of one model.

    It is READY while at least one device has it loaded. ``signature`` is known from the files,
    before any load; ``reports`` has, for each device that has it, what its load found out.
    """

    def __init__(
        self,
        ref: ModelRef,
        signature: Signature,
        limits: ModelLimits,
        digest: str,
        devices: Iterable[str] = ("cpu",),
    ) -> None:
        """Begin as loading.

        :param devices: those that are going to have it.
        """
        self.ref = ref
        self.signature = signature
        self.limits = limits
        self.digest = digest
        self.state = VersionState.LOADING
        self.reason = "loading"
        self.reports: dict[str, LoadReport] = {}
        self._expected = set(devices)
        self._plans: dict[RequestHeader, Plan] = {}
        self._keys: dict[tuple[tuple[int, ...], ...], BatchKey] = {}

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<ModelVersion {self.ref} {self.state.value} on {sorted(self.reports)}>"

    @property
    def max_batch_size(self) -> int:
        """The batch limit in rows that holds on every device; 0 without a batch dimension."""
        if not self.signature.batched:
            return 0
        limits = [report.max_batch_size for report in self.reports.values()]
        return min([self.limits.max_batch_size, *limits])

    @property
    def splits(self) -> bool:
        """Whether requests that are larger than a batch are served in parts.

        Not where batches have one row: such a model may mix its rows, and then a request of several
        rows would get another answer than it asks for.
        """
        return self.limits.split and self.max_batch_size > 1

    @property
    def max_request_rows(self) -> int:
        """The most rows of one request; a request in parts has to fit into the queue as a whole."""
        most = self.max_batch_size
        if self.splits:
            return max(most, min(most * MAX_PARTS, self.limits.max_queue_rows))
        return most

    def loaded(self, device: str, report: LoadReport) -> None:
        """Note that a device has it."""
        self.reports[device] = report
        self._expected.add(device)
        self.state, self.reason = VersionState.READY, ""
        self._plans.clear()
        self._keys.clear()

    def gone(self, device: str, why: str) -> None:
        """Note that a device no longer has it, and will have it again."""
        self.reports.pop(device, None)
        if not self.reports and self.state is VersionState.READY:
            self.state, self.reason = VersionState.LOADING, why

    def refused(self, device: str, why: str) -> None:
        """Note that a device does not have it and will not have it."""
        self.gone(device, why)
        self._expected.discard(device)
        if not self._expected:
            self.state, self.reason = VersionState.UNAVAILABLE, why

    def plan(self, header: RequestHeader) -> Plan:
        """Return what follows from a header.

        :raises InvalidRequest: when it breaks the contract.
        :raises BatchTooLarge: when it has too many rows, or rows too large for a slot. What is
            larger than a batch and may be served in parts is not too large.
        :raises ModelNotReady: while no device has the version, but one will.
        :raises ModelLoadFailed: when no device will.
        """
        if self.state is not VersionState.READY:
            self.ensure_ready()
        plan = self._plans.get(header)
        if plan is None:
            checked = check_header(header, self.signature, self.max_request_rows)
            plan = Plan(self._key(checked.dims), checked, self._class_of(header))
            # A row that does not fit into a slot makes it 0.
            most = plan.key.max_rows * (MAX_PARTS if self.splits else 1)
            if checked.rows > most:
                raise self._too_large(sum(n for n in checked.sizes if n > 0), plan.key)
            if header.recurs:
                if len(self._plans) >= REMEMBERED:
                    self._plans.clear()
                self._plans[header] = plan
        return plan

    def ensure_ready(self) -> None:
        """Do nothing while at least one device has it.

        :raises ModelNotReady: while no device has it, but one will.
        :raises ModelLoadFailed: when no device will.
        """
        if self.state is VersionState.READY:
            return
        name, version = self.ref
        msg = (
            f"Request for unknown model: '{name}' version {version} is not at ready state: "
            f"{self.reason}"
        )
        raise (ModelNotReady if self.state is VersionState.LOADING else ModelLoadFailed)(msg)

    def check_bytes(self, nbytes: int, plan: Plan) -> None:
        """Check that a request fits into a batch, which only its bytes tell where BYTES vary.

        :raises BatchTooLarge: when it does not, and cannot be served in parts.
        """
        if nbytes > plan.key.max_bytes and (plan.checked.rows == 1 or not self.splits):
            raise self._too_large(nbytes, plan.key)

    def _class_of(self, header: RequestHeader) -> int:
        return min(header.priority or self.limits.default_priority, PRIORITIES) - 1

    def _too_large(self, nbytes: int, key: BatchKey) -> BatchTooLarge:
        return BatchTooLarge(
            f"the inputs of this request to '{self.ref.name}' have {nbytes} bytes, and one batch "
            f"may have {max(key.max_bytes, 0)} (the server's --slot-bytes)"
        )

    def _key(self, dims: tuple[tuple[int, ...], ...]) -> BatchKey:
        key = self._keys.get(dims)
        if key is None:
            key = self._make_key(dims)
            if len(self._keys) >= REMEMBERED:
                self._keys.clear()
            self._keys[dims] = key
        return key

    def _make_key(self, dims: tuple[tuple[int, ...], ...]) -> BatchKey:
        specs = self.signature.inputs
        inputs = tuple((spec.datatype, row) for spec, row in zip(specs, dims, strict=True))
        # Every input starts at an aligned offset, so each may lose up to one alignment.
        room = self.limits.slot_bytes - ALIGNMENT * len(inputs)
        row_bytes = sum(math.prod(row) * datatype.item_size for datatype, row in inputs)
        max_rows = self.max_batch_size or 1
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
            varies=any(-1 in spec.dims for spec in specs),
        )
