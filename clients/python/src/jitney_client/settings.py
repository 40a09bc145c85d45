"""What a running server writes down: its log, and traces of requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict

import grpc

from jitney_client.errors import InvalidReply
from jitney_client.protocol import inference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "LogChanges",
    "LogSettings",
    "TraceChanges",
    "TraceSettings",
    "log_request",
    "read_log",
    "read_trace",
    "trace_request",
]

TRACE_KEYS: Final = {
    "levels": "trace_level",
    "rate": "trace_rate",
    "count": "trace_count",
    "log_frequency": "log_frequency",
    "file": "trace_file",
    "mode": "trace_mode",
}
"""What we call a setting of traces, and what the protocol does."""
LOG_KEYS: Final = {
    "info": ("log_info", "bool_param", bool),
    "warning": ("log_warning", "bool_param", bool),
    "error": ("log_error", "bool_param", bool),
    "verbose_level": ("log_verbose_level", "uint32_param", int),
    "format": ("log_format", "string_param", str),
    "file": ("log_file", "string_param", str),
}


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Which requests are traced, and how.

    ``levels`` are ``OFF``, or what is noted: ``TIMESTAMPS``, ``TENSORS``. Of every ``rate``
    requests one is traced, until ``count`` were, -1 for no end. ``log_frequency`` is after how many
    traces the next file begins, 0 for one file. ``file`` and ``mode`` are its operator's.
    """

    levels: tuple[str, ...]
    rate: int
    count: int
    log_frequency: int
    file: str = ""
    mode: str = ""


class TraceChanges(TypedDict, total=False):
    """What to change of them; None goes back to what holds without a setting."""

    levels: Sequence[str] | None
    rate: int | None
    count: int | None
    log_frequency: int | None


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What a server logs: which levels, how much more than that, and in which format."""

    info: bool
    warning: bool
    error: bool
    verbose_level: int
    format: str = ""
    file: str = ""


class LogChanges(TypedDict, total=False):
    """What to change of them."""

    info: bool
    warning: bool
    error: bool
    verbose_level: int
    format: str
    """``default`` or ``ISO8601``."""


def trace_request(model: str, changes: TraceChanges) -> inference.TraceSettingRequest:
    """Return the request that changes settings, or only reads them where there are no changes.

    :raises TypeError: naming a change that is none, or whose value is of another type.
    """
    request = inference.TraceSettingRequest(model_name=model)
    _check_names(changes, TraceChanges.__annotations__)
    for name, value in changes.items():
        setting = request.settings[TRACE_KEYS[name]]
        if value is None:
            continue  # a setting without a value is one to forget
        if name == "levels":
            if isinstance(value, str) or not all(isinstance(v, str) for v in value):  # type: ignore[attr-defined]  # TypedDict.items() forgets the types
                msg = f"levels: expected a list of texts, got {value!r}"
                raise TypeError(msg)
            setting.value.extend(value)  # type: ignore[arg-type]  # checked above
        else:
            setting.value.append(str(_typed(name, value, int)))
    return request


def log_request(changes: LogChanges) -> inference.LogSettingsRequest:
    """Return the request that changes settings, or only reads them where there are no changes.

    :raises TypeError: naming a change that is none, or whose value is of another type.
    """
    request = inference.LogSettingsRequest()
    _check_names(changes, LogChanges.__annotations__)
    for name, value in changes.items():
        key, field, kind = LOG_KEYS[name]
        setattr(request.settings[key], field, _typed(name, value, kind))
    return request


def read_trace(reply: inference.TraceSettingResponse) -> TraceSettings:
    """Return the settings that a server tells.

    :raises InvalidReply: when one is missing, or no number.
    """
    told = {key: tuple(setting.value) for key, setting in reply.settings.items()}

    def first(name: str) -> str:
        return next(iter(told.get(TRACE_KEYS[name], ())), "")

    try:
        return TraceSettings(
            told[TRACE_KEYS["levels"]],
            int(first("rate")),
            int(first("count")),
            int(first("log_frequency")),
            first("file"),
            first("mode"),
        )
    except (KeyError, ValueError) as error:
        msg = f"the reply of TraceSetting lacks a setting, or has one that is none: {error}"
        raise InvalidReply(msg, code=grpc.StatusCode.OK) from None


def read_log(reply: inference.LogSettingsResponse) -> LogSettings:
    """Return the settings that a server tells."""
    values = {
        name: getattr(reply.settings[key], field) if key in reply.settings else kind()
        for name, (key, field, kind) in LOG_KEYS.items()
    }
    return LogSettings(**values)


def _check_names(changes: Mapping[str, object], known: Mapping[str, object]) -> None:
    for name in changes:
        if name not in known:
            msg = f"unknown setting {name!r}; there are {', '.join(known)}"
            raise TypeError(msg)


def _typed(name: str, value: object, kind: type) -> object:
    # A bool is an int to Python, and no number to whoever wrote it.
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        msg = f"{name}: expected {kind.__name__}, got {value!r}"
        raise TypeError(msg)
    return value
