"""Both clients change what a server logs and traces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from fake_server import Failure

from jitney_client import InvalidReply, LogSettings, TraceSettings, Unavailable

if TYPE_CHECKING:
    from fake_server import FakeServer


def test_traces_are_read(server: FakeServer, client: Any) -> None:
    """Reading names the model and sets nothing; a setting that the server lacks is empty."""
    expected = TraceSettings(("OFF",), 1000, -1, 0, file="", mode="triton")

    assert expected == client.trace_settings("one")
    (request,) = server.requests
    assert ("one", {}) == (request.model_name, dict(request.settings))


def test_traces_are_changed(server: FakeServer, client: Any) -> None:
    """What is named is sent, None as a setting without a value; what holds then comes back."""
    after = client.update_trace_settings(
        "one", levels=["TIMESTAMPS", "TENSORS"], rate=5, count=None
    )

    sent = {key: list(setting.value) for key, setting in server.requests[0].settings.items()}
    assert {
        "trace_level": ["TIMESTAMPS", "TENSORS"],
        "trace_rate": ["5"],
        "trace_count": [],
    } == sent
    assert (("TIMESTAMPS", "TENSORS"), 5, 0) == (after.levels, after.rate, after.count)


def test_logs_are_changed(server: FakeServer, client: Any) -> None:
    """Each setting is sent as its own type, and those that a server does not tell are off."""
    after = client.update_log_settings(info=False, error=True, verbose_level=2, format="ISO8601")

    kinds = {
        key: setting.WhichOneof("parameter_choice")
        for key, setting in server.requests[0].settings.items()
    }
    assert {
        "log_info": "bool_param",
        "log_error": "bool_param",
        "log_verbose_level": "uint32_param",
        "log_format": "string_param",
    } == kinds
    assert LogSettings(False, False, True, 2, "ISO8601") == after  # noqa: FBT003  # as they come


def test_logs_are_read(server: FakeServer, client: Any) -> None:
    """Reading sets nothing."""
    client.log_settings()

    assert {} == dict(server.requests[0].settings)


@pytest.mark.parametrize(
    ("method", "changes", "text"),
    [
        ("update_trace_settings", {"level": ["OFF"]}, "unknown setting 'level'; there are levels"),
        ("update_trace_settings", {"levels": "OFF"}, "levels: expected a list of texts, got 'OFF'"),
        ("update_trace_settings", {"levels": [1]}, "levels: expected a list of texts, got [1]"),
        ("update_trace_settings", {"rate": "5"}, "rate: expected int, got '5'"),
        ("update_trace_settings", {"rate": True}, "rate: expected int, got True"),
        ("update_log_settings", {"info": 1}, "info: expected bool, got 1"),
        ("update_log_settings", {"file": "x"}, "unknown setting 'file'; there are info"),
    ],
)
def test_wrong_changes_are_not_sent(
    server: FakeServer, client: Any, method: str, changes: dict[str, Any], text: str
) -> None:
    """What is no setting, or of another type, is named here and never sent."""
    with pytest.raises(TypeError) as caught:
        getattr(client, method)(**changes)

    assert str(caught.value).startswith(text)
    assert [] == server.requests


def test_only_reading_is_repeated(server: FakeServer, client: Any) -> None:
    """A call that failed on its way is tried again where it changes nothing, and only there."""
    busy = Failure(grpc.StatusCode.UNAVAILABLE, "in a moment", (("grpc-retry-pushback-ms", "1"),))
    server.failures = [busy]
    client.trace_settings()
    assert 2 == len(server.requests)

    server.failures = [busy]
    with pytest.raises(Unavailable):
        client.update_trace_settings(rate=5)
    assert 3 == len(server.requests)


def test_a_reply_without_numbers_is_a_fault(server: FakeServer, client: Any) -> None:
    """A server that does not tell what it should is said to."""
    server.traces["trace_rate"] = ["often"]

    with pytest.raises(InvalidReply, match="'often'"):
        client.trace_settings()
