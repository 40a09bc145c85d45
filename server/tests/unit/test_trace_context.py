"""Which trace a caller says that its call belongs to."""

from __future__ import annotations

import pytest

from jitney.telemetry.trace_context import Parent, parent_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def read(*values: str | bytes, state: tuple[str, ...] = ()) -> Parent | None:
    """Return the parent of a call with such headers, and others."""
    metadata: list[tuple[str, str | bytes]] = [("user-agent", "x"), ("x-bin", b"\0")]
    metadata += [("traceparent", value) for value in values]
    metadata += [("tracestate", value) for value in state]
    return parent_of(metadata)


@pytest.mark.parametrize(("flags", "sampled"), [("01", True), ("00", False), ("ff", True)])
def test_a_caller_says_whether_it_is_traced(flags: str, *, sampled: bool) -> None:
    """Only the lowest bit counts; the others are somebody's future."""
    assert Parent(int(TRACE, 16), int(SPAN, 16), sampled) == read(f"00-{TRACE}-{SPAN}-{flags}")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-" + "0" * 8000,
        f"00-{TRACE}-{SPAN}-01".encode(),
    ],
)
def test_what_is_no_traceparent_is_none(value: str | bytes) -> None:
    """The call is handled as if nothing had been said, as the recommendation has it."""
    assert read(value) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """It may have more behind what there is today."""
    assert Parent(int(TRACE, 16), int(SPAN, 16), sampled=True) == read(f"cc-{TRACE}-{SPAN}-01-x-y")


def test_two_parents_are_none() -> None:
    """Nobody can tell which of them it was."""
    assert read(*[f"00-{TRACE}-{SPAN}-01"] * 2) is None


def test_states_are_joined_and_bounded() -> None:
    """What is too long is left out as a whole: half an entry would be somebody else's."""
    value = f"00-{TRACE}-{SPAN}-01"
    short, long = read(value, state=("a=1", "b=2")), read(value, state=("a=" + "x" * 600,))

    assert ("a=1,b=2", "") == (short and short.state, long and long.state)


def test_without_a_traceparent_there_is_none() -> None:
    """Whatever the tracestate says."""
    assert read(state=("a=1",)) is None
