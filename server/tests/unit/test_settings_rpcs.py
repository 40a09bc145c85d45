"""TraceSetting and LogSettings, as clients use them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from jitney.errors import InvalidRequest, JitneyError, NotSupported
from jitney.telemetry.logs import LogControl, LogSettings
from jitney.telemetry.tracing import TraceFile, Tracer
from jitney.transport.settings_rpcs import SettingsRpcs
from jitney_client.protocol import inference as pb

DEFAULTS = {
    "trace_level": ["OFF"],
    "trace_rate": ["1000"],
    "trace_count": ["-1"],
    "log_frequency": ["0"],
    "trace_file": [""],
    "trace_mode": ["triton"],
}
LOG_DEFAULTS = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}
KINDS = {bool: "bool_param", int: "uint32_param", str: "string_param"}


class Bench:
    """Both RPCs over a tracer and a logger of their own."""

    def __init__(self) -> None:
        self.hook: Any = None
        logger = logging.Logger("test")  # noqa: LOG001  # below no root
        self.logs = LogControl(logger, LogSettings())
        tracer = Tracer(lambda hook: setattr(self, "hook", hook), TraceFile())
        self.rpcs = SettingsRpcs(tracer, self.logs, lambda: ["m"])

    def trace(self, model: str = "", **settings: list[str]) -> dict[str, list[str]]:
        """Call TraceSetting; return the settings of the reply."""
        request = pb.TraceSettingRequest(model_name=model)
        for key, values in settings.items():
            request.settings[key].value.extend(values)
        reply = asyncio.run(self.rpcs.trace_setting(request))
        return {key: list(value.value) for key, value in reply.settings.items()}

    def log(self, **settings: bool | int | str | None) -> dict[str, Any]:
        """Call LogSettings; return the settings of the reply."""
        request = pb.LogSettingsRequest()
        for key, value in settings.items():
            if value is None:
                request.settings[key].SetInParent()
            else:
                setattr(request.settings[key], KINDS[type(value)], value)
        reply = asyncio.run(self.rpcs.log_settings(request))
        return {
            key: getattr(value, str(value.WhichOneof("parameter_choice")))
            for key, value in reply.settings.items()
        }


@pytest.fixture
def bench() -> Bench:
    """Return both RPCs."""
    return Bench()


# -- traces ---------------------------------------------------------------------------------------


def test_a_request_without_settings_reads_them(bench: Bench) -> None:
    """All six keys, in general and of a model."""
    assert (DEFAULTS, DEFAULTS) == (bench.trace(), bench.trace("m"))


def test_settings_are_answered_as_they_are_then(bench: Bench) -> None:
    """And take effect: somebody is called with requests that end."""
    changed = bench.trace(trace_level=["TENSORS", "TIMESTAMPS"], trace_rate=["1"])

    assert {**DEFAULTS, "trace_level": ["TIMESTAMPS", "TENSORS"], "trace_rate": ["1"]} == changed
    assert bench.hook is not None


def test_no_values_clear_a_setting(bench: Bench) -> None:
    """A model's then follow the others' again."""
    bench.trace(trace_count=["8"])
    bench.trace("m", trace_count=["9"], log_frequency=["2"])
    cleared = bench.trace("m", trace_count=[])

    assert {**DEFAULTS, "trace_count": ["8"], "log_frequency": ["2"]} == cleared
    assert DEFAULTS == bench.trace(trace_count=[])


def test_unknown_keys_of_traces_are_ignored(bench: Bench) -> None:
    """As the protocol has it; a file that is not asked for is not one."""
    assert DEFAULTS == bench.trace(nonsense=["1"], trace_mode=["opentelemetry"], trace_file=[])


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        (
            {"trace_file": ["/tmp/x"]},  # noqa: S108  # a caller's
            NotSupported,
            "trace file location can not be updated through network protocol",
        ),
        (
            {"trace_level": ["OFF", "TENSORS"]},
            InvalidRequest,
            "Expect only one trace level 'OFF' is specified",
        ),
        ({"trace_level": ["ALL"]}, InvalidRequest, "unknown trace level 'ALL', expected OFF, "),
        ({"trace_rate": ["x"]}, InvalidRequest, "Unable to parse 'trace_rate', got: x"),
        ({"trace_rate": [""]}, InvalidRequest, "Unable to parse 'trace_rate', got: "),
        ({"trace_rate": ["1", "2"]}, InvalidRequest, "expect only 1 value for 'trace_rate'"),
        (
            {"trace_rate": ["0"]},
            InvalidRequest,
            "Unable to parse 'trace_rate', value is out of range [ 1, 2147483647 ], got: 0",
        ),
        ({"trace_count": ["-2"]}, InvalidRequest, "Unable to parse 'trace_count', value is out"),
        ({"log_frequency": ["9" * 30]}, InvalidRequest, "Unable to parse 'log_frequency', value"),
    ],
)
def test_a_wrong_trace_setting_changes_nothing(
    bench: Bench, settings: dict[str, list[str]], kind: type[JitneyError], text: str
) -> None:
    """The text is Triton's; what stood beside it in the request is not done either."""
    with pytest.raises(kind) as caught:
        bench.trace(**{"trace_count": ["1"], **settings})

    assert str(caught.value).startswith(text)
    assert DEFAULTS == bench.trace()


def test_traces_of_an_unknown_model_are_refused(bench: Bench) -> None:
    """With a blank before the colon, which clients look for."""
    with pytest.raises(InvalidRequest) as caught:
        bench.trace("nobody")

    assert "Request for unknown model : nobody" == str(caught.value)


# -- the log --------------------------------------------------------------------------------------


def test_the_log_has_six_settings(bench: Bench) -> None:
    """The reply always has them all."""
    assert LOG_DEFAULTS == bench.log()


def test_log_settings_take_effect(bench: Bench) -> None:
    """They are answered as they are then, and in force."""
    changed = bench.log(log_info=False, log_verbose_level=2, log_format="ISO8601")

    assert {
        **LOG_DEFAULTS,
        "log_info": False,
        "log_verbose_level": 2,
        "log_format": "ISO8601",
    } == changed
    assert LogSettings(info=False, verbose_level=2, form="ISO8601") == bench.logs.settings


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        (
            {"log_file": "x"},
            NotSupported,
            "log file location can not be updated through network protocol",
        ),
        ({"log_info": 1}, InvalidRequest, "expect boolean for 'log_info'"),
        ({"log_error": None}, InvalidRequest, "expect boolean for 'log_error'"),
        ({"log_warning": "no"}, InvalidRequest, "expect boolean for 'log_warning'"),
        ({"log_verbose_level": True}, InvalidRequest, "expect uint32 for 'log_verbose_level'"),
        ({"log_format": 1}, InvalidRequest, "expect string for 'log_format'"),
        ({"log_format": "xml"}, InvalidRequest, "invalid argument for log_format, got: xml"),
    ],
)
def test_a_wrong_log_setting_changes_nothing(
    bench: Bench, settings: dict[str, Any], kind: type[JitneyError], text: str
) -> None:
    """The text names the key and what it takes."""
    with pytest.raises(kind) as caught:
        bench.log(**{"log_info": False, **settings})

    assert text == str(caught.value)
    assert LOG_DEFAULTS == bench.log()


def test_unknown_keys_of_the_log_are_ignored(bench: Bench) -> None:
    """As the protocol has it."""
    assert LOG_DEFAULTS == bench.log(nonsense=1)
