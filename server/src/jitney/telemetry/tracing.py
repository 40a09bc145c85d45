"""Traces: what single requests went through, one line each, of as many as somebody asks for."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from jitney.clock import wall_seconds
from jitney.errors import ConfigError
from jitney.telemetry.log_lines import KEPT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from jitney.errors import JitneyError
    from jitney.scheduling.batch import Entry

    OnEnd = Callable[[Entry, JitneyError | None], None]

__all__ = ["TENSORS", "TIMESTAMPS", "TraceFile", "TraceSettings", "Tracer"]

log = logging.getLogger(__name__)

TIMESTAMPS: Final = "TIMESTAMPS"
TENSORS: Final = "TENSORS"


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Which requests are traced, and what of them.

    ``levels``: TIMESTAMPS for the stages, TENSORS for names, datatypes and shapes of the inputs;
    empty for no traces. Of ``rate`` requests one is traced; of ``count`` traces, when it is not
    negative, that many are left. With a ``log_frequency``, every so many traces a new file begins.
    """

    levels: tuple[str, ...] = ()
    rate: int = 1000
    count: int = -1
    log_frequency: int = 0


class TraceFile:
    """Where traces are written: the operator's file, or the log where there is none."""

    def __init__(self, path: Path | None = None) -> None:
        """Check that the file can be written.

        :raises ConfigError: when it cannot.
        """
        self.path = path
        self._failed = False
        if path is not None:
            try:
                with path.open("a", encoding="utf-8"):
                    pass
            except OSError as error:
                msg = f"telemetry.trace_file: cannot write it: {error.strerror}"
                raise ConfigError(msg) from None

    def write(self, line: str, index: int | None) -> None:
        """Append a line; to the file of that index, if there is one."""
        if self.path is None:
            # Whoever asked for traces has said how many.
            log.info("trace %s", line, extra={KEPT: True})
            return
        path = self.path
        if index is not None:
            path = path.with_name(f"{path.name}.{index}")
        try:
            # Opened each time, so that it may be rotated; traces are few.
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            if not self._failed:
                log.warning("traces are lost: telemetry.trace_file: %s", error.strerror)
            self._failed = True
        else:
            self._failed = False


class Tracer:
    """Samples requests that ended, and writes a line of JSON for each sample.

    There is one group of settings for all models, and one for each model that was given some of its
    own; what such a model was not given follows the others'. Each group counts for itself. While no
    group traces anything, nobody is called: ``watch`` is told so.

    A line has the contents of no tensor: what callers send does not belong into files.
    """

    def __init__(self, watch: Callable[[OnEnd | None], None], file: TraceFile) -> None:
        """Trace nothing yet.

        :param watch: takes whom to call with each request that ended, or None.
        """
        self._watch = watch
        self.file = file
        self._group = _Group(TraceSettings())
        self._own: dict[str, dict[str, Any]] = {}
        self._groups: dict[str, _Group] = {}

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Tracer {self._group.settings} {len(self._groups)} models of their own>"

    def settings(self, model: str = "") -> TraceSettings:
        """Return what is in force, for a model or in general."""
        return self._groups.get(model, self._group).settings

    def update(self, changes: Mapping[str, object], model: str = "") -> None:
        """Change settings, for a model or in general.

        :param changes: fields of TraceSettings to their values; None is what holds without it: for
            a model what is general, in general the default.
        """
        for name, group in self._groups.items():
            if "count" in self._own[name]:
                self._own[name]["count"] = group.settings.count  # as many as are left
        if model:
            own = {**self._own.get(model, {}), **changes}
            own = {name: value for name, value in own.items() if value is not None}
            self._own.pop(model, None)
            if own:
                self._own[model] = own
        else:
            defaults = {f.name: f.default for f in fields(TraceSettings)}
            given: dict[str, Any] = {
                name: defaults[name] if value is None else value for name, value in changes.items()
            }
            self._group = self._group.changed(replace(self._group.settings, **given))
        self._groups = {
            name: self._groups.get(name, _Group(TraceSettings())).changed(
                replace(self._group.settings, **own)
            )
            for name, own in self._own.items()
        }
        groups = (self._group, *self._groups.values())
        self._watch(self._ended if any(group.settings.levels for group in groups) else None)

    def _ended(self, entry: Entry, error: JitneyError | None) -> None:
        model = entry.key.model.name
        group = self._groups.get(model, self._group)
        if group.takes():
            line = json.dumps(_record(entry, error, group.settings.levels))
            self.file.write(line, group.file_index)


class _Group:
    """Settings in force, and how much they have sampled."""

    __slots__ = ("_seen", "_written", "settings")

    def __init__(self, settings: TraceSettings, written: int = 0) -> None:
        self.settings = settings
        self._seen = 0
        self._written = written

    def changed(self, settings: TraceSettings) -> _Group:
        """Return a group with these settings: this one if they are the same."""
        return self if settings == self.settings else _Group(settings, self._written)

    def takes(self) -> bool:
        settings = self.settings
        if not settings.levels or not settings.count:
            return False
        self._seen += 1
        if self._seen % settings.rate:
            return False
        if settings.count > 0:
            self.settings = replace(settings, count=settings.count - 1)
        self._written += 1
        return True

    @property
    def file_index(self) -> int | None:
        frequency = self.settings.log_frequency
        return (self._written - 1) // frequency if frequency else None


def _record(entry: Entry, error: JitneyError | None, levels: tuple[str, ...]) -> dict[str, object]:
    """Return what the line of a request says; durations in nanoseconds."""
    request, model = entry.request, entry.key.model
    record: dict[str, object] = {
        "time": round(wall_seconds(), 6),
        "id": request.id,
        "model": model.name,
        "version": model.version,
        "rows": entry.rows,
    }
    if error is not None:
        record["error"] = error.reason
    if TIMESTAMPS in levels and entry.timing is not None:
        for stage, seconds in entry.timing._asdict().items():
            record[f"{stage}_ns"] = round(seconds * 1e9)
    if TENSORS in levels:
        record["inputs"] = [
            {"name": tensor.name, "datatype": tensor.datatype.value, "shape": tensor.shape}
            for tensor in request.header.inputs
        ]
    return record
