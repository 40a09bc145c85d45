from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from calls import add_sub, error_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import tritonclient.grpc as triton

INVALID = "StatusCode.INVALID_ARGUMENT"
UNSUPPORTED = "StatusCode.UNIMPLEMENTED"
TRACE = {
    "trace_level": ["OFF"],
    "trace_rate": ["1000"],
    "trace_count": ["-1"],
    "trace_mode": ["triton"],
    "trace_file": [""],
    "log_frequency": ["0"],
}


@pytest.fixture(autouse=True)
def restore(client: triton.InferenceServerClient) -> Iterator[None]:
    """Put back what tests change."""
    yield
    client.update_trace_settings(settings=dict.fromkeys(("trace_level", "trace_rate")))
    client.update_trace_settings("simple", settings=dict.fromkeys(("trace_level", "trace_rate")))
    client.update_log_settings(
        {"log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0}
    )


def trace(client: triton.InferenceServerClient, model: str = "") -> dict[str, list[str]]:
    """Return the trace settings."""
    settings = client.get_trace_settings(model).settings
    return {key: list(settings[key].value) for key in settings}


def test_trace_defaults(client: triton.InferenceServerClient) -> None:
    """Tracing is off, and every key is there."""
    got = trace(client)
    assert {key: TRACE[key] for key in TRACE if key != "trace_file"} == {
        key: got[key] for key in TRACE if key != "trace_file"
    }


def test_trace_of_a_model(client: triton.InferenceServerClient) -> None:
    """A model has the global settings until it gets its own."""
    client.update_trace_settings("simple", {"trace_rate": "5"})
    assert (["5"], ["1000"]) == (trace(client, "simple")["trace_rate"], trace(client)["trace_rate"])
    client.update_trace_settings("simple", {"trace_rate": None})
    assert ["1000"] == trace(client, "simple")["trace_rate"]


def test_trace_is_written_and_read(client: triton.InferenceServerClient) -> None:
    """An update is answered with what is in force."""
    reply = client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]})
    assert ["TIMESTAMPS"] == list(reply.settings["trace_level"].value)
    client.infer("simple", add_sub())
    assert ["TIMESTAMPS"] == trace(client)["trace_level"]


def test_trace_of_an_unknown_model(client: triton.InferenceServerClient) -> None:
    """The blank before the colon is Triton's."""
    message = error_of(client.get_trace_settings, "nobody")[1]
    assert "Request for unknown model : nobody" in message


def test_no_trace_file_from_the_network(client: triton.InferenceServerClient) -> None:
    """Where traces are written is for the operator to say."""
    status, message = error_of(
        client.update_trace_settings,
        settings={"trace_file": "/tmp/x"},  # noqa: S108
    )
    assert (UNSUPPORTED, True) == (status, "trace_file" in message or "trace file" in message)


@pytest.mark.parametrize(
    "settings", [{"trace_rate": "many"}, {"trace_level": "EVERYTHING"}, {"trace_count": "-2"}]
)
def test_bad_trace_settings(client: triton.InferenceServerClient, settings: dict[str, str]) -> None:
    """What is no value of a setting is refused."""
    assert INVALID == error_of(client.update_trace_settings, settings=settings)[0]


def log(client: triton.InferenceServerClient) -> dict[str, object]:
    """Return the log settings."""
    settings = client.get_log_settings().settings
    return {
        key: getattr(settings[key], settings[key].WhichOneof("parameter_choice"))
        for key in settings
    }


def test_log_settings(client: triton.InferenceServerClient) -> None:
    """All six are there."""
    assert {
        "log_file",
        "log_info",
        "log_warning",
        "log_error",
        "log_verbose_level",
        "log_format",
    } == set(log(client))


def test_log_settings_change(client: triton.InferenceServerClient) -> None:
    """What is set is in force."""
    client.update_log_settings({"log_info": False, "log_verbose_level": 1})
    got = log(client)
    assert (False, 1) == (got["log_info"], got["log_verbose_level"])


@pytest.mark.parametrize("form", ["default", "ISO8601"])
def test_log_format(client: triton.InferenceServerClient, form: str) -> None:
    """There are two formats."""
    client.update_log_settings({"log_format": form})
    assert form == log(client)["log_format"]


def test_no_log_file_from_the_network(client: triton.InferenceServerClient) -> None:
    """Nor is this a path that a client may choose."""
    assert UNSUPPORTED == error_of(client.update_log_settings, {"log_file": "/tmp/x"})[0]  # noqa: S108


def test_bad_log_settings(client: triton.InferenceServerClient) -> None:
    """What is no value of a setting is refused."""
    assert INVALID == error_of(client.update_log_settings, {"log_format": "mine"})[0]
