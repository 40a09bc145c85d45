"""What is said of a bug: to whom it hit, and to whom it concerns."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from jitney.bugs import numbered

if TYPE_CHECKING:
    import pytest

log = logging.getLogger("test")


def test_the_caller_has_a_number_and_the_log_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    """With the facts that are known."""
    text = numbered(log, "it failed", ValueError("a secret"), model="m", request_id="")
    (record,) = caplog.records
    number = record.__dict__["error"]

    assert re.fullmatch(r"[0-9a-f]{12}", number)
    assert f"internal error {number}; the server's log has the details" == text
    assert (f"error {number}: it failed", "m", False) == (
        record.getMessage(),
        record.__dict__["model"],
        "request_id" in record.__dict__,
    )
    assert "a secret" in caplog.text


def test_two_bugs_have_two_numbers() -> None:
    """Whoever quotes one is understood."""
    texts = {numbered(log, "it failed", ValueError()) for _ in range(100)}

    assert 100 == len(texts)
