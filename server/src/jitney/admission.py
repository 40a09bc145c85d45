"""How much the server takes on at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jitney.errors import Draining, Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.config import LimitSettings

__all__ = ["Admission", "AdmissionStatistics"]


class AdmissionStatistics(NamedTuple):
    """What is in flight now."""

    requests: int
    nbytes: int


class Admission:
    """Counts requests and their bytes from acceptance to reply, and refuses what is too much.

    Invariant: ``requests`` and ``nbytes`` are 0 when nothing is in flight.
    """

    __slots__ = ("_limits", "_on_idle", "draining", "nbytes", "requests")

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self.draining = False
        self._on_idle: Callable[[], None] | None = None
        self.requests = 0
        self.nbytes = 0

    def admit(self, nbytes: int) -> None:
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
        if self.nbytes + nbytes > self._limits.max_inflight_bytes:
            msg = (
                f"{self.nbytes} bytes of requests are in flight, {nbytes} more would exceed "
                f"the limit of {self._limits.max_inflight_bytes}"
            )
            raise Overloaded(msg, reason="BYTE_BUDGET")
        self.requests += 1
        self.nbytes += nbytes

    def release(self, nbytes: int) -> None:
        """Let go of a request that was admitted."""
        self.requests -= 1
        self.nbytes -= nbytes
        if self.draining and not self.requests and self._on_idle is not None:
            self._on_idle()

    def drain(self, on_idle: Callable[[], None]) -> None:
        """Refuse everything from now on; call back when nothing is in flight any more."""
        self.draining = True
        self._on_idle = on_idle
        if not self.requests:
            on_idle()

    def statistics(self) -> AdmissionStatistics:
        """Return the current figures."""
        return AdmissionStatistics(self.requests, self.nbytes)
