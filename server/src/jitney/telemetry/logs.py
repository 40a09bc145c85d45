"""What is logged, and how, while the server runs."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["FORMAT", "LogControl", "LogSettings", "initial"]

Form: TypeAlias = Literal["default", "ISO8601"]

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
ISO_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
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

    Workers are processes of their own and keep the level that they were started with.
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
        formatter = logging.Formatter(FORMAT)
        if settings.form == "ISO8601":
            formatter = logging.Formatter(FORMAT, ISO_TIME)
            formatter.converter = time.gmtime
        for handler in self._logger.handlers:
            handler.setFormatter(formatter)
            handler.addFilter(self._is_wanted)
        # Messages below all that is wanted are not even made.
        levels = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
        self._logger.setLevel(min(filter(settings.allows, levels), default=NOTHING))

    def _is_wanted(self, record: logging.LogRecord) -> bool:
        return self.settings.allows(record.levelno)
