"""What is logged, and how, while the server runs."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jitney.telemetry.log_lines import Form, JsonLines, TextLines
from jitney.telemetry.log_queue import LogQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

__all__ = ["LogControl", "LogSettings", "initial", "is_json", "open_log"]

log = logging.getLogger(__name__)

NOTHING: Final = logging.CRITICAL + 1


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Triton's settings of its log. Each kind of message has its own switch; debug is "verbose"."""

    info: bool = True
    warning: bool = True
    error: bool = True
    verbose_level: int = 0
    form: Form = "default"

    def allows(self, level: int) -> bool:
        """Tell whether messages of a level of Python's logging are wanted."""
        if level >= logging.ERROR:
            return self.error
        if level >= logging.WARNING:
            return self.warning
        if level >= logging.INFO:
            return self.info
        return self.verbose_level > 0


def initial(level: str) -> LogSettings:
    """Return what ``telemetry.log_level`` comes to."""
    number = logging.getLevelNamesMapping()[level.upper()]
    return LogSettings(
        info=number <= logging.INFO,
        warning=number <= logging.WARNING,
        error=number <= logging.ERROR,
        verbose_level=int(number <= logging.DEBUG),
    )


class LogControl:
    """Applies settings to the handlers of a logger, the root's in a server.

    The form of times is that of text; lines of JSON always have theirs.
    """

    def __init__(self, logger: logging.Logger, settings: LogSettings) -> None:
        """Change nothing yet.

        :param settings: those that the logger was set up with.
        """
        self._logger = logger
        self.settings = settings

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<LogControl {self.settings}>"

    def update(self, settings: LogSettings) -> None:
        """Put settings in force."""
        self.settings = settings
        for handler in self._logger.handlers:
            if not isinstance(handler.formatter, JsonLines):
                handler.setFormatter(TextLines(settings.form))
            handler.addFilter(self._is_wanted)
        # Messages below all that is wanted are not even made.
        levels = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
        self._logger.setLevel(min(filter(settings.allows, levels), default=NOTHING))

    def _is_wanted(self, record: logging.LogRecord) -> bool:
        return self.settings.allows(record.levelno)


def is_json(form: str, stream: TextIO) -> bool:
    """Tell what ``telemetry.log_format`` comes to: by itself, text for a terminal."""
    return form == "json" or (form == "auto" and not stream.isatty())


def open_log(
    level: str,
    form: str,
    rate: int,
    stream: TextIO,
    facts: Callable[[], Mapping[str, object]] | None = None,
) -> LogQueue:
    """Send everything that this process logs to a stream, and what is worth it beside.

    To be closed at the end; the root's handlers are replaced. Warnings of Python's, and exceptions
    that nobody caught, in threads and in finalisers, are logged as well: by themselves they are
    written to the standard error, between two lines of JSON or in the middle of one.

    :param level: ``telemetry.log_level``.
    :param form: ``telemetry.log_format``: ``auto``, ``text`` or ``json``.
    :param rate: ``telemetry.log_rate``.
    """
    handler = LogQueue(_writer(stream), rate=rate, facts=facts)
    handler.setFormatter(JsonLines() if is_json(form, stream) else TextLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    threading.excepthook = _thread_ended
    sys.unraisablehook = _could_not_be_raised
    return handler


def _writer(stream: TextIO) -> Callable[[bytes], object]:
    """Return what writes whole lines to a stream, beside its buffer where it has a descriptor."""
    try:
        fd = stream.fileno()
    except (AttributeError, OSError, ValueError):  # replaced by a program that embeds this one
        return lambda line: stream.write(line.decode("utf-8", "replace"))

    def write(line: bytes) -> None:
        left = memoryview(line)
        while left:
            try:
                left = left[os.write(fd, left) :]
            except BlockingIOError:  # whoever gave us the descriptor shares it
                select.select([], [fd], [], 1.0)

    return write


def _thread_ended(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        name = args.thread.name if args.thread else "?"
        error = args.exc_value or args.exc_type()
        log.error("the thread %s ended with an exception", name, exc_info=error)


def _could_not_be_raised(args: sys.UnraisableHookArgs) -> None:
    log.error(
        "%s %s",
        args.err_msg or "an exception was ignored in",
        type(args.object).__qualname__,
        exc_info=args.exc_value,
    )
