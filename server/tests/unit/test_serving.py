"""What a process asks of its machine before it serves."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from jitney.serving import make_room_for_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hard() -> Iterator[int]:
    """Return the hard limit of open files, 300 or more; the soft one is 256 during the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < 300:
        pytest.skip("the hard limit of open files is too low to raise the soft one")
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def soft_limit() -> int:
    """Return how many files this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@pytest.mark.usefixtures("hard")
@pytest.mark.parametrize(("count", "expected"), [(300, 300), (100, 256)])
def test_the_limit_of_open_files_is_raised_to_what_the_settings_promise(
    count: int, expected: int
) -> None:
    """It is never lowered: whoever set it may have had a reason."""
    make_room_for_descriptors(count)

    assert expected == soft_limit()


def test_who_may_not_open_as_many_files_is_told(
    hard: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit is raised as far as it goes, and a warning says what to change."""
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no hard limit of open files")
    make_room_for_descriptors(hard + 1)

    assert hard == soft_limit()
    assert "raise the limit (ulimit -n), or lower limits.max_connections" in caplog.text
