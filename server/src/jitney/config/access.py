"""Who may call, and how often."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from jitney.config.setting import file_setting, setting
from jitney.errors import ConfigError

__all__ = ["AccessSettings"]

HIGHEST: Final = 1e9


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may call, and how often."""

    tokens_file: str = file_setting(
        "file with the tokens and the names in certificates that callers are known by, and with "
        "what each of them may do (see jitney token); with it, nothing else may be called. Empty: "
        "whoever connects may do everything",
    )
    tokens_poll_seconds: float = setting(
        5.0, "how often to look whether tokens_file changed", low=0.1, high=3600
    )
    principal_rate: float = setting(
        0.0,
        "requests a second that a caller may make who has no rate in tokens_file; 0 is no limit",
        low=0,
        high=HIGHEST,
    )
    principal_burst: float = setting(
        0.0,
        "requests that such a caller may make at once, after a pause; 0 is a second's worth",
        low=0,
        high=HIGHEST,
    )
    refusal_rate: float = setting(
        10.0,
        "calls a second from one address that are told why they are not allowed, and noted in the "
        "audit log, with five times as many at once; of more, callers are told to wait",
        low=0.1,
        high=HIGHEST,
    )

    def __post_init__(self) -> None:
        """Check that a burst has a rate, and lets one request through.

        :raises ConfigError: when it does not.
        """
        if self.principal_burst and not self.principal_rate:
            msg = "access.principal_burst: needs access.principal_rate"
            raise ConfigError(msg)
        if 0 < self.principal_burst < 1:
            msg = "access.principal_burst: expected 1 or more, or 0"
            raise ConfigError(msg)

    @property
    def on(self) -> bool:
        """Whether callers have to say who they are."""
        return bool(self.tokens_file)

    @property
    def rate(self) -> float:
        """``principal_rate``, infinite where there is no limit."""
        return self.principal_rate or math.inf

    @property
    def burst(self) -> float:
        """``principal_burst``, decided."""
        return self.principal_burst or max(1.0, self.rate)
