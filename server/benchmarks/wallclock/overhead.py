"""Where the server's time goes at a load near its goodput."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.profiling import profile_load
from benchmarks.wallclock.goodput import kinds_of
from benchmarks.wallclock.plan import Phase, phases

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.wallclock.rig import Rig

__all__ = ["profile_server"]

SHARE: Final = 0.9
"""Of the goodput: near it, and where sampling does not tip the server over."""
SECONDS: Final = 8.0


def profile_server(rig: Rig, peak: float, folder: Path, *, native: bool) -> str:
    """Return tables of the server's threads and functions.

    :param peak: the goodput of the rig's setting, in requests per second.
    """
    setting = rig.setting

    def load(seconds: float) -> int:
        plan = phases([Phase(seconds, [SHARE * peak])], [range(setting.models)], 1)
        rig.run(plan, kinds_of(setting))
        return len(plan.at)

    requests, lines = profile_load(rig.server.pid, load, SECONDS, folder / "profile", native=native)
    head = f"{requests} requests at {SHARE:g} of the goodput of {setting.name}"
    return "\n".join([head, "", *lines])
