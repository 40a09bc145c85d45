"""Which metadata of a call its requests get to see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from jitney.config import ServerSettings
from jitney.errors import ConfigError
from jitney.testing import make_request
from jitney.transport.forwarding import MAX_FORWARDED, MetadataForwarder

if TYPE_CHECKING:
    from jitney.types import Request


class FakeContext:
    """A call that came with metadata."""

    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return them."""
        return self._metadata


def forwarded(
    pattern: str | MetadataForwarder, *metadata: tuple[str, str | bytes], request: Request
) -> dict[str, Any]:
    """Return the parameters of a request after its call's metadata were added."""
    forwarder = MetadataForwarder(pattern) if isinstance(pattern, str) else pattern
    forward = forwarder.of_call(cast("Any", FakeContext(*metadata)))
    if forward is not None:
        forward(request)
    return dict(request.header.parameters or {})


def test_what_matches_becomes_parameters() -> None:
    """Keys match as a whole; others do not come along."""
    metadata = (("x-a", "1"), ("x-b", "2"), ("not-x-a", "3"), ("user-agent", "y"))

    assert {"x-a": "1", "x-b": "2"} == forwarded("x-.*", *metadata, request=make_request())


@pytest.mark.parametrize(
    "key", ["timeout", "priority", "sequence_id", "triton_x", "jitney_timing", "x-bin", "grpc-x"]
)
def test_what_the_server_acts_on_is_never_forwarded(key: str) -> None:
    """Nobody starts a sequence, or sets a priority, by metadata that no check has seen."""
    assert {} == forwarded(".*", (key, "1"), request=make_request())


@pytest.mark.parametrize("key", ["authorization", "proxy-authorization", "cookie"])
def test_who_calls_is_no_models_business(key: str) -> None:
    """A model that shows its parameters would show its callers' tokens."""
    assert {} == forwarded(".*", (key, "Bearer x"), request=make_request())


def test_a_parameter_of_the_request_itself_stays() -> None:
    """What its caller wrote into the request is meant for the request."""
    forwarder, request = MetadataForwarder("x-a|own"), make_request()
    forwarded(forwarder, ("own", "first"), request=request)

    assert {"own": "first", "x-a": "1"} == forwarded(
        forwarder, ("own", "second"), ("x-a", "1"), request=request
    )


def test_texts_and_their_number_are_bounded() -> None:
    """Headers are remembered, so a caller cannot make them large."""
    many = tuple((f"x-{i}", "y" * 1000) for i in range(MAX_FORWARDED + 1))

    found = forwarded(".*", *many, request=make_request())

    assert (MAX_FORWARDED, {256}) == (len(found), {len(value) for value in found.values()})


def test_equal_metadata_give_one_header() -> None:
    """What follows from a header is worked out once, also where metadata were added to it."""
    forwarder, first, second = MetadataForwarder(".*"), make_request(), make_request()
    second.header = first.header
    for request in (first, second):
        forwarded(forwarder, ("x-a", "1"), request=request)

    assert first.header is second.header
    assert {"x-a": "1"} == first.header.parameters


def test_a_pattern_that_is_none_is_refused_at_the_start() -> None:
    """The text names the setting."""
    with pytest.raises(ConfigError) as caught:
        ServerSettings(forward_metadata="(")

    assert str(caught.value).startswith("server.forward_metadata: not a regular expression: ")
