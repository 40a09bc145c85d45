"""When a failed call is made again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jitney_client.errors import JitneyError

__all__ = ["Retries", "Retrying"]

GROWTH: Final = 2.0
JITTER: Final = 0.2
"""Pauses differ by so much, so that those who failed together do not come back together."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How calls are repeated that failed for reasons which pass.

    Repeated is what ended with ``safe_to_retry``: UNAVAILABLE, and RESOURCE_EXHAUSTED where the
    server says when to come back. Never requests of sequences, nor calls that change the server
    (load, unload), nor what is on a stream. The server's ``grpc-retry-pushback-ms`` is honoured:
    so many milliseconds, or, if it is negative, not at all. The timeout of a call spans all its
    attempts, and an attempt that could not begin before it is not waited for.

    gRPC has retries of its own, by service config, which are not used, for they cannot say this:
    they know a call by its path only, and sequences have the same one; they repeat
    RESOURCE_EXHAUSTED without advice as well, such as a message over the size limit; and they
    give up on any message above 256 KiB, which most images are (all measured).

    :param attempts: calls in all, the first one included.
    :param pause: seconds before the second attempt, where the server gives no advice; doubled for
        each further one.
    :param longest: seconds that such a pause may grow to.
    :param budget: share of the calls that may be repeated, in the long run. While more fail than
        that, nothing is repeated: a server in trouble is not helped by a multiple of its load.
    """

    attempts: int = 4
    pause: float = 0.1
    longest: float = 2.0
    budget: float = 0.1


class Retrying:
    """Decides for the calls of one client; threads may share it.

    Two threads that count at the same moment may lose a count, which does no harm.
    """

    def __init__(self, policy: Retries | None, rng: random.Random | None = None) -> None:
        """Begin with a full budget.

        :param policy: None never repeats anything.
        """
        self._policy = policy
        self._rng = rng or random.Random()  # noqa: S311  # not a secret
        self._most = 10.0
        self._tokens = self._most

    def __repr__(self) -> str:
        """Return how much of the budget is left."""
        state = "off" if self._policy is None else f"{self._tokens:.1f} of {self._most:g}"
        return f"<Retrying {state}>"

    def succeeded(self) -> None:
        """Count a call that was answered."""
        if self._policy is not None and self._tokens < self._most:
            self._tokens = min(self._most, self._tokens + self._policy.budget)

    def pause_after(
        self, error: JitneyError, attempt: int, remaining: float | None
    ) -> float | None:
        """Return after how many seconds to call again, or None to give up.

        :param attempt: which attempt failed, from 1.
        :param remaining: seconds until the deadline, None without one.
        """
        policy = self._policy
        if policy is None or not error.safe_to_retry:
            return None
        self._tokens = max(0.0, self._tokens - 1)
        if attempt >= policy.attempts or self._tokens < self._most / 2:
            return None
        pause = error.retry_after
        if pause is None:
            pause = min(policy.longest, policy.pause * GROWTH ** (attempt - 1))
            pause *= self._rng.uniform(1 - JITTER, 1 + JITTER)
        if remaining is not None and pause >= remaining:
            return None
        return pause
