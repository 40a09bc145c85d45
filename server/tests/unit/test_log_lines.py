"""Records of the log as lines of JSON and of text."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from jitney.telemetry.log_lines import JsonLines, TextLines

NASTY = "one\nERROR jitney: two\r\x1b[2J\x00\x9b\u2028\ud800 \x7f"


def record(message: object, *args: object, error: Exception | None = None, **extra: Any) -> Any:
    """Return a record of a second in 2020."""
    info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("jitney.x", logging.WARNING, "x.py", 7, message, args, info)
    made.created = 1577836800.25
    made.msecs = 250.0
    made.__dict__.update(extra)
    return made


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    """Return the line of a record, read."""
    line = JsonLines().format(made)
    assert "\n" not in line
    read: dict[str, Any] = json.loads(line)
    return read


def raised(text: str) -> Exception:
    """Return an exception that was on its way."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # it is ours
        raise ValueError(text)
    return caught.value


def test_a_record_is_an_object_on_one_line() -> None:
    """Times are UTC, as RFC 3339 writes them, to the microsecond."""
    assert {
        "time": "2020-01-01T00:00:00.250000Z",
        "level": "WARNING",
        "logger": "jitney.x",
        "message": "3 of a",
    } == as_json(record("%d of %s", 3, "a"))


def test_what_a_record_was_given_beside_its_text_are_fields() -> None:
    """Numbers stay numbers, where JSON has them; everything else is a text."""
    fields = as_json(
        record("x", model="m", rows=3, ratio=0.5, ok=True, none=None, odd=float("nan"), list=[1])
    )

    assert {
        "model": "m",
        "rows": 3,
        "ratio": 0.5,
        "ok": True,
        "none": None,
        "odd": "nan",
        "list": "[1]",
    }.items() <= fields.items()


def test_a_field_cannot_take_the_place_of_the_record_itself() -> None:
    """Who logs may call a field as they like; the level is the record's."""
    assert ("WARNING", "jitney.x") == tuple(
        as_json(record("x", level="fine", logger="me"))[key] for key in ("level", "logger")
    )


def test_an_exception_is_in_the_object() -> None:
    """With its type, its text and the traceback."""
    exception = as_json(record("x", error=raised("bad\nthing")))["exception"]

    assert ("ValueError", "bad\nthing") == (exception["type"], exception["message"])
    assert exception["traceback"].startswith("Traceback (most recent call last):\n")


@pytest.mark.parametrize("where", ["message", "field", "exception"])
def test_nothing_in_a_line_of_json_acts_on_a_terminal(where: str) -> None:
    """Line breaks, escape sequences and halves of characters are escaped or replaced."""
    made = {
        "message": record("%s", NASTY),
        "field": record("x", id=NASTY),
        "exception": record("x", error=raised(NASTY)),
    }[where]
    line = JsonLines().format(made)

    assert [] == [character for character in line if not " " <= character <= "~"]
    assert "one" in line


@pytest.mark.parametrize("where", ["message", "field", "exception"])
def test_nothing_in_a_line_of_text_looks_like_another_record(where: str) -> None:
    """Only tracebacks have several lines, and those are indented."""
    made = {
        "message": record("%s", NASTY),
        "field": record("x", id=NASTY),
        "exception": record("x", error=raised(NASTY)),
    }[where]
    first, *others = TextLines("ISO8601").format(made).split("\n")

    assert first.startswith("2020-01-01T00:00:00Z WARNING jitney.x: ")
    assert [] == [line for line in others if not line.startswith("  ")]
    assert [] == [c for line in (first, *others) for c in line if not c.isprintable()]


def test_text_has_the_fields_behind_the_message() -> None:
    """As key=value."""
    line = TextLines().format(record("late", model="m", rows=3))

    assert line.endswith(" WARNING jitney.x: late model=m rows=3")


@pytest.mark.parametrize("lines", [JsonLines(), TextLines()], ids=["json", "text"])
def test_a_megabyte_is_cut(lines: logging.Formatter) -> None:
    """In the message, in a field and in an exception; the line says how much there was."""
    huge = "x" * 1_000_000
    line = lines.format(record(huge, error=raised(huge), id=huge, **dict.fromkeys("abcd", huge)))

    assert len(line) < 50_000
    assert "... (1000000 characters)" in line


def test_only_so_many_fields_are_written() -> None:
    """A record made of somebody's dictionary stays a line."""
    many: dict[str, Any] = {f"f{i}": i for i in range(1000)}

    assert 32 + 4 == len(as_json(record("x", **many)))


class Unspeakable:
    """An object that cannot be made into a text."""

    def __str__(self) -> str:
        """Fail."""
        msg = "no"
        raise RuntimeError(msg)

    __repr__ = __str__


@pytest.mark.parametrize("lines", [JsonLines(), TextLines()], ids=["json", "text"])
def test_a_record_that_cannot_be_made_into_text_is_written_all_the_same(
    lines: logging.Formatter,
) -> None:
    """Whoever logs does not fail for it."""
    assert "%d of" in lines.format(record("%d of", "no number"))
    assert "<Unspeakable>" in lines.format(record("x", id=Unspeakable()))
    assert "arguments that do not fit" in lines.format(record("%s", Unspeakable()))
