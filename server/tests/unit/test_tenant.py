"""Who a call is made for, from its metadata."""

from __future__ import annotations

from typing import Any, cast

import pytest

from jitney.errors import InvalidRequest
from jitney.transport.tenant import nobody, tenant_reader


class FakeContext:
    """A call that came with metadata; it counts how often they are read."""

    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self._metadata = metadata
        self.reads = 0

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return them."""
        self.reads += 1
        return self._metadata


def read(key: str, *metadata: tuple[str, str | bytes]) -> str:
    """Return the tenant of a call."""
    return tenant_reader(key)(cast("Any", FakeContext(*metadata)))


def test_the_tenant_is_what_stands_under_the_key() -> None:
    """Other keys do not matter, and calls without it are nobody's."""
    assert "team a" == read("x-tenant", ("user-agent", "x"), ("x-tenant", "team a"))
    assert "" == read("x-tenant", ("user-agent", "x"))


def test_without_a_key_metadata_is_not_looked_at() -> None:
    """It would cost every call, for nothing."""
    context = FakeContext(("x-tenant", "a"))

    assert nobody is tenant_reader("")
    assert ("", 0) == (nobody(cast("Any", context)), context.reads)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["a" * 129], "the metadata key 't' must have at most 128 printable characters"),
        (["a\tb"], "the metadata key 't' must have at most 128 printable characters"),
        (["a", "b"], "the metadata key 't' came 2 times, it may come once"),
    ],
)
def test_what_cannot_be_a_tenant_is_refused(values: list[str], text: str) -> None:
    """Names are kept while their requests are, so they are short; and one of two is a lie."""
    with pytest.raises(InvalidRequest) as caught:
        read("t", *(("t", value) for value in values))

    assert text == str(caught.value)
    assert "a" * 128 == read("t", ("t", "a" * 128))
