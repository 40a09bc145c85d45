"""How a process ended, and how long to wait before the next one."""

from __future__ import annotations

import signal

import pytest

from jitney.execution.backoff import Backoff
from jitney.execution.ending import Cause, of_exit


@pytest.mark.parametrize(
    ("code", "memory", "expected"),
    [
        (None, False, ("", Cause.CRASH)),
        (0, False, ("", Cause.CRASH)),
        (3, False, ("exit code 3", Cause.CRASH)),
        (-signal.SIGKILL, False, ("killed by SIGKILL", Cause.OUTSIDE)),
        (-signal.SIGTERM, True, ("killed by SIGTERM", Cause.OUTSIDE)),
        (-signal.SIGKILL, True, ("killed by SIGKILL, as memory ran out", Cause.CRASH)),
        (-signal.SIGSEGV, False, ("killed by SIGSEGV", Cause.CRASH)),
        (-99, False, ("killed by signal 99", Cause.CRASH)),
    ],
)
def test_an_exit_code_tells_who_may_be_to_blame(
    code: int | None,
    memory: bool,  # noqa: FBT001  # a parameter of the test
    expected: tuple[str, Cause],
) -> None:
    """Signals that no program raises by a fault of its own come from outside."""
    assert expected == of_exit(code, out_of_memory=memory)


def test_waits_double_up_to_half_a_minute() -> None:
    """And begin anew after a process that did something useful."""
    backoff = Backoff()
    waits = [backoff.after(worked=False) for _ in range(11)]
    assert [0.1, 0.2, 0.4, 0.8] == waits[:4]
    assert [25.6, 30.0, 30.0] == waits[8:]
    assert [0.1, 0.2] == [backoff.after(worked=worked) for worked in (True, False)]
