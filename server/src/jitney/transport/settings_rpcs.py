"""TraceSetting and LogSettings: the RPCs that change what a running server tells about itself.

Texts are Triton's. Nothing here takes a path: where files lie is for the operator to say.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from jitney.audit import NO_AUDIT
from jitney.errors import InvalidRequest, NotSupported
from jitney.telemetry.tracing import TENSORS, TIMESTAMPS
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Mapping, Sequence

    from jitney.audit import Audit
    from jitney.telemetry.logs import LogControl
    from jitney.telemetry.tracing import Tracer

__all__ = ["SettingsRpcs"]

OFF: Final = "OFF"
LEVELS: Final = (TIMESTAMPS, TENSORS)
MAX_INT: Final = (1 << 31) - 1
NUMBERS: Final = {
    "trace_rate": ("rate", 1),
    "trace_count": ("count", -1),
    "log_frequency": ("log_frequency", 0),
}
"""Settings of traces that are numbers: their field, and the least that they may be."""

SWITCHES: Final = {"log_info": "info", "log_warning": "warning", "log_error": "error"}
FORMATS: Final = ("default", "ISO8601")


class SettingsRpcs:
    """Serves both RPCs from the objects that know the settings.

    A request changes everything that it names or, where a part of it is wrong, nothing. Unknown
    keys are ignored, as the protocol has it; a request without any only reads.
    """

    def __init__(
        self,
        tracer: Tracer,
        logs: LogControl,
        models: Callable[[], Container[str]],
        audit: Audit = NO_AUDIT,
    ) -> None:
        """:param models: returns the names of all models that there are."""
        self._audit = audit
        self._tracer = tracer
        self._logs = logs
        self._models = models

    def handlers(self) -> dict[str, Callable[..., Awaitable[object]]]:
        """Return the methods by the names of their RPCs."""
        return {"TraceSetting": self.trace_setting, "LogSettings": self.log_settings}

    async def trace_setting(self, request: pb.TraceSettingRequest) -> pb.TraceSettingResponse:
        """TraceSetting: of one model, or of all that have none of their own.

        :raises InvalidRequest: for an unknown model, or a value that is none.
        :raises NotSupported: for a file.
        """
        model = request.model_name
        if model and model not in self._models():
            msg = f"Request for unknown model : {model}"
            raise InvalidRequest(msg)
        changes = _trace_changes({key: tuple(v.value) for key, v in request.settings.items()})
        if changes:
            self._tracer.update(changes, model)
            self._record("config.trace", changes, model=model)
        settings = self._tracer.settings(model)
        path = self._tracer.file.path
        response = pb.TraceSettingResponse()
        for key, values in (
            ("trace_level", settings.levels or (OFF,)),
            ("trace_rate", (str(settings.rate),)),
            ("trace_count", (str(settings.count),)),
            ("log_frequency", (str(settings.log_frequency),)),
            # Its name only: where it lies is nobody's business but the operator's.
            ("trace_file", (path.name if path else "",)),
            ("trace_mode", ("triton",)),
        ):
            response.settings[key].value.extend(values)
        return response

    async def log_settings(self, request: pb.LogSettingsRequest) -> pb.LogSettingsResponse:
        """LogSettings.

        :raises InvalidRequest: for a value of another type.
        :raises NotSupported: for a file.
        """
        given = request.settings
        if "log_file" in given:
            msg = "log file location can not be updated through network protocol"
            raise NotSupported(msg)
        changes: dict[str, object] = {}
        for key, field in SWITCHES.items():
            if key in given:
                changes[field] = _typed(given[key], "bool_param", f"expect boolean for '{key}'")
        if (key := "log_verbose_level") in given:
            changes["verbose_level"] = _typed(
                given[key], "uint32_param", f"expect uint32 for '{key}'"
            )
        if (key := "log_format") in given:
            form = _typed(given[key], "string_param", f"expect string for '{key}'")
            if form not in FORMATS:
                msg = f"invalid argument for log_format, got: {form}"
                raise InvalidRequest(msg)
            changes["form"] = form
        if changes:
            self._logs.update(dataclasses.replace(self._logs.settings, **changes))  # type: ignore[arg-type]  # checked above, field by field
            self._record("config.log", changes)
        settings, response = self._logs.settings, pb.LogSettingsResponse()
        response.settings["log_file"].string_param = ""
        for key, field in SWITCHES.items():
            response.settings[key].bool_param = getattr(settings, field)
        response.settings["log_verbose_level"].uint32_param = settings.verbose_level
        response.settings["log_format"].string_param = settings.form
        return response

    def _record(self, event: str, changes: Mapping[str, object], model: str = "") -> None:
        changed = ", ".join(f"{name}={value}" for name, value in changes.items())
        self._audit.record(event, model=model, changed=changed)


def _typed(value: pb.LogSettingsRequest.SettingValue, kind: str, otherwise: str) -> object:
    if value.WhichOneof("parameter_choice") != kind:
        raise InvalidRequest(otherwise)
    return getattr(value, kind)


def _trace_changes(given: dict[str, Sequence[str]]) -> dict[str, object]:
    """Return the fields that change; no value stands for what holds without the setting."""
    changes: dict[str, object] = {}
    if given.get("trace_file"):
        msg = (
            "trace file location can not be updated through network protocol; it is the "
            "operator's (telemetry.trace_file)"
        )
        raise NotSupported(msg)
    if "trace_level" in given:
        changes["levels"] = _levels(given["trace_level"]) if given["trace_level"] else None
    for key, (field, least) in NUMBERS.items():
        if key in given:
            changes[field] = _number(key, given[key], least) if given[key] else None
    return changes


def _levels(values: Sequence[str]) -> tuple[str, ...]:
    if OFF in values and len(values) > 1:
        msg = "Expect only one trace level 'OFF' is specified"
        raise InvalidRequest(msg)
    unknown = [value for value in values if value not in (OFF, *LEVELS)]
    if unknown:
        msg = f"unknown trace level '{unknown[0][:20]}', expected OFF, TIMESTAMPS or TENSORS"
        raise InvalidRequest(msg)
    return tuple(level for level in LEVELS if level in values)


def _number(key: str, values: Sequence[str], least: int) -> int:
    if len(values) > 1:
        msg = f"expect only 1 value for '{key}'"
        raise InvalidRequest(msg)
    text = values[0][:20]
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()):
        msg = f"Unable to parse '{key}', got: {text}"
        raise InvalidRequest(msg)
    number = int(text)
    if not least <= number <= MAX_INT:
        msg = f"Unable to parse '{key}', value is out of range [ {least}, {MAX_INT} ], got: {text}"
        raise InvalidRequest(msg)
    return number
