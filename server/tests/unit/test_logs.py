"""Settings of the log, while the server runs."""

from __future__ import annotations

import io
import logging
import re
from dataclasses import replace

import pytest

from jitney.telemetry.log_lines import JsonLines
from jitney.telemetry.logs import LogControl, LogSettings, initial

EVERY = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


class Bench:
    """A logger of its own, set up as a server's root is, and what it wrote."""

    def __init__(self, level: str = "info") -> None:
        self.text = io.StringIO()
        self.logger = logging.Logger("test", level.upper())  # noqa: LOG001  # below no root
        self.logger.addHandler(logging.StreamHandler(self.text))
        self.control = LogControl(self.logger, initial(level))

    def said(self) -> list[str]:
        """Log a message of each level; return the levels of those that were written."""
        self.text.truncate(self.text.seek(0))
        for level in EVERY:
            self.logger.log(level, "message")
        return re.findall(r"DEBUG|INFO|WARNING|ERROR|CRITICAL", self.text.getvalue())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ["INFO", "WARNING", "ERROR", "CRITICAL"]),
        ({"info": False}, ["WARNING", "ERROR", "CRITICAL"]),
        ({"warning": False}, ["INFO", "ERROR", "CRITICAL"]),
        ({"error": False}, ["INFO", "WARNING"]),
        ({"verbose_level": 1}, ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
        ({"info": False, "warning": False, "error": False}, []),
        ({"info": False, "verbose_level": 2}, ["DEBUG", "WARNING", "ERROR", "CRITICAL"]),
    ],
)
def test_each_kind_of_message_has_its_switch(
    change: dict[str, bool | int], expected: list[str]
) -> None:
    """They are independent: less severe messages may be on where more severe ones are off."""
    bench = Bench()
    bench.control.update(replace(LogSettings(), **change))  # type: ignore[arg-type]  # by name

    assert expected == bench.said()


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", LogSettings(verbose_level=1)),
        ("info", LogSettings()),
        ("warning", LogSettings(info=False)),
        ("error", LogSettings(info=False, warning=False)),
    ],
)
def test_the_first_settings_are_those_of_the_log_level(level: str, expected: LogSettings) -> None:
    """What the server was started with reads like what may be set."""
    assert expected == initial(level)


def test_settings_can_be_taken_back() -> None:
    """The last ones count, however often they changed."""
    bench = Bench("warning")
    bench.control.update(replace(LogSettings(), verbose_level=1))
    bench.control.update(initial("error"))

    assert ["ERROR", "CRITICAL"] == bench.said()


def test_the_format_has_times_as_asked() -> None:
    """ISO 8601 is UTC; the default is the log's own."""
    bench = Bench()
    bench.control.update(LogSettings(form="ISO8601"))
    bench.said()
    iso = bench.text.getvalue()
    bench.control.update(LogSettings())
    bench.said()

    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO test: message", iso)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO", bench.text.getvalue())


def test_lines_of_json_stay_json() -> None:
    """Their times are in UTC as they are; what is wanted changes all the same."""
    bench = Bench()
    bench.logger.handlers[0].setFormatter(JsonLines())
    bench.control.update(LogSettings(info=False, form="ISO8601"))

    assert ["WARNING", "ERROR", "CRITICAL"] == bench.said()
    assert bench.text.getvalue().startswith('{"time":"')
