"""How much the server takes on at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.errors import BatchTooLarge, Draining, Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.config import LimitSettings

__all__ = ["Admission", "AdmissionStatistics"]

KEPT_FREE: Final = 1 / 8
"""Share of each limit that nobody gets who holds more than his part already."""


class AdmissionStatistics(NamedTuple):
    """What is in flight now."""

    requests: int
    nbytes: int


class Admission:
    """Counts requests and their bytes from acceptance to reply, and refuses what is too much.

    Where tenants are told apart (``tenant_metadata_key``, ``tenant_from``), a tenant may hold at
    most ``max_tenant_share`` of each limit while others have something in flight, and the last
    eighth of it is kept from those that hold more than their part. The latter also binds a tenant
    that is alone, or nobody else could get in beside it. This is the coarse guard, which keeps one
    tenant's flood from shutting others out; whose request runs first is for the scheduler to
    decide. A tenant with nothing in flight is refused by nothing but the limits themselves.

    Invariants: ``requests`` and ``nbytes`` are 0 when nothing is in flight; of tenants, only those
    that have something in flight are remembered.
    """

    __slots__ = ("_held", "_limits", "_on_idle", "_quotas", "draining", "nbytes", "requests")

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self.draining = False
        self._on_idle: Callable[[], None] | None = None
        self.requests = 0
        self.nbytes = 0
        self._quotas = limits.tenants and limits.max_tenant_share < 1
        self._held: dict[str, AdmissionStatistics] = {}

    def admit(self, nbytes: int, tenant: str = "") -> None:
        """Take on a request.

        :raises Draining: while the server shuts down.
        :raises Overloaded: at a limit, with the limit in the text.
        """
        if self.draining:
            msg = "the server is shutting down"
            raise Draining(msg)
        if self.requests >= self._limits.max_inflight_requests:
            msg = f"{self.requests} requests are in flight, as many as the server takes"
            raise Overloaded(msg, reason="REQUEST_LIMIT")
        if self._quotas:
            self._check_quota(nbytes, tenant)
        self.charge(nbytes)
        self.requests += 1
        if self._quotas:
            requests, held = self._held.get(tenant, (0, 0))
            self._held[tenant] = AdmissionStatistics(requests + 1, held + nbytes)

    def _check_quota(self, nbytes: int, tenant: str) -> None:
        mine = self._held.get(tenant)
        if mine is None:
            return
        limits = self._limits
        for what, held, total, more, limit in (
            ("requests", mine.requests, self.requests, 1, limits.max_inflight_requests),
            ("bytes of requests", mine.nbytes, self.nbytes, nbytes, limits.max_inflight_bytes),
        ):
            most: float = limit
            if total + more > limit - int(limit * KEPT_FREE):
                most = limit / (len(self._held) + 1)  # one part for who may come
            if len(self._held) > 1:
                most = min(most, limit * limits.max_tenant_share)
            if held + more > most:
                msg = (
                    f"this tenant has {held} {what} in flight, and others need room: it may have "
                    f"{int(most)}"
                )
                raise Overloaded(msg, reason="TENANT_QUOTA")

    def release(self, nbytes: int, tenant: str = "") -> None:
        """Let go of a request that was admitted."""
        self.requests -= 1
        self.nbytes -= nbytes
        if self._quotas:
            requests, held = self._held.pop(tenant)
            if requests > 1:
                self._held[tenant] = AdmissionStatistics(requests - 1, held - nbytes)
        if self.draining and not self.requests and self._on_idle is not None:
            self._on_idle()

    def charge(self, nbytes: int) -> None:
        """Count more bytes that are held for a request that was admitted.

        :raises Overloaded: at the limit.
        :raises BatchTooLarge: when there can never be room.
        """
        if self.nbytes + nbytes > self._limits.max_inflight_bytes:
            if nbytes > self._limits.max_inflight_bytes:
                msg = (
                    f"this request takes {nbytes} bytes, and all together may take "
                    f"{self._limits.max_inflight_bytes} (limits.max_inflight_bytes)"
                )
                raise BatchTooLarge(msg)
            msg = (
                f"{self.nbytes} bytes of requests are in flight, {nbytes} more would exceed "
                f"the limit of {self._limits.max_inflight_bytes}"
            )
            raise Overloaded(msg, reason="BYTE_BUDGET")
        self.nbytes += nbytes

    def refund(self, nbytes: int) -> None:
        """Let go of bytes that were charged."""
        self.nbytes -= nbytes

    def drain(self, on_idle: Callable[[], None]) -> None:
        """Refuse everything from now on; call back when nothing is in flight any more."""
        self.draining = True
        self._on_idle = on_idle
        if not self.requests:
            on_idle()

    def statistics(self) -> AdmissionStatistics:
        """Return the current figures."""
        return AdmissionStatistics(self.requests, self.nbytes)
