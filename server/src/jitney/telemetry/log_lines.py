"""Records of the log as lines: JSON for programs, text for people.

Much of what is logged comes from elsewhere: error texts quote callers, models print what they like.
So nothing in a record can begin a line of its own, move a terminal's cursor, or be larger than a
line should be.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
import traceback
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "KEPT",
    "MAX_MESSAGE",
    "Form",
    "JsonLines",
    "TextLines",
    "escaped",
    "fields_of",
    "message_of",
]

Form: TypeAlias = Literal["default", "ISO8601"]

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
ISO_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
MAX_MESSAGE: Final = 8192
MAX_TRACE: Final = 16384
MAX_FIELD: Final = 1024
MAX_FIELDS: Final = 32
"""Characters of each, and how many fields; a line has at most some 60 kB."""
MAX_BITS: Final = 256
"""Of an integer that is a field as it is."""
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
NOT_FIELDS: Final = frozenset(
    {*logging.LogRecord("", 0, "", 0, "", (), None).__dict__, "message", "asctime", "taskName"}
)
"""What every record has. Whatever else one has was given with ``extra=`` and is a field."""
KEPT: Final = "kept"
"""The field of ``extra=`` that exempts a record from the rate of its line; never written."""


class TextLines(logging.Formatter):
    """``time level logger: message field=value``, and tracebacks indented below.

    :param form: ``ISO8601`` for times in UTC, of whole seconds.
    """

    def __init__(self, form: Form = "default") -> None:
        super().__init__(FORMAT, ISO_TIME if form == "ISO8601" else None)
        if form == "ISO8601":
            self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, and one more for each line of a traceback."""
        at = self.formatTime(record, self.datefmt)
        line = f"{at} {record.levelname} {record.name}: {escaped(message_of(record))}"
        for name, value in fields_of(record):
            line += f" {name}={escaped(str(value))}"
        if trace := _trace_of(record):
            # Indented: a message with line breaks in it cannot pretend to be a record.
            line += "".join(f"\n  {escaped(part)}" for part in trace.split("\n"))
        return line


class JsonLines(logging.Formatter):
    """One object per line: ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, fields.

    An exception is in the object ``exception``: its ``type``, ``message`` and ``traceback``. Only
    ASCII is written, so that no reader's encoding matters.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{seconds}.{int(record.created % 1 * 1e6):06}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": _clean(message_of(record)),
        }
        for name, value in fields_of(record):
            line.setdefault(name, _clean(value) if isinstance(value, str) else value)
        if trace := _trace_of(record):
            kind, error = (record.exc_info or (None, None))[:2]
            line["exception"] = {
                "type": getattr(kind, "__qualname__", "") or "",
                "message": _clean(_cut(_text_of(error), MAX_MESSAGE)),
                "traceback": _clean(trace),
            }
        return json.dumps(line, separators=(",", ":")).replace("\x7f", "\\u007f")


def message_of(record: logging.LogRecord) -> str:
    """Return the text of a record, cut; also where its arguments do not fit into it."""
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001  # of somebody else's objects; a log must not fail its caller
        text = f"{_text_of(record.msg)} (with arguments that do not fit)"
    return _cut(text, MAX_MESSAGE)


def fields_of(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a record: texts, cut, and numbers that JSON has."""
    given = [name for name in record.__dict__ if name not in NOT_FIELDS and name != KEPT]
    for name in given[:MAX_FIELDS]:
        value = record.__dict__[name]
        if isinstance(value, float) and not math.isfinite(value):
            value = str(value)
        if not isinstance(value, bool | int | float | None) or _is_long(value):
            value = _cut(_text_of(value), MAX_FIELD)
        yield name, value


def escaped(text: str) -> str:
    """Return a text without anything that a terminal acts on."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def _trace_of(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return record.exc_text or ""
    try:
        text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
    except Exception:  # noqa: BLE001  # exceptions are somebody else's objects too
        text = f"{record.exc_info[0].__qualname__}, which could not be written"
    # The last lines say what happened, the first ones from where it came.
    if len(text) <= MAX_TRACE:
        return text
    half = MAX_TRACE // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters ...\n{text[-half:]}"


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001  # as above
        return f"<{type(value).__name__}>"


def _is_long(value: object) -> bool:
    """Tell whether a number is an integer that Python writes as no text, or with 4,300 digits."""
    return isinstance(value, int) and value.bit_length() > MAX_BITS


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[:size]}... ({len(text)} characters)"


def _clean(text: str) -> str:
    """Return a text that UTF-8 has: half a character may come from the names of files."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
