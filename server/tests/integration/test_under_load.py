from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

# The benchmarks are a package beside the tests, not an installed one.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import correctness
from benchmarks.models import build_identities
from benchmarks.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from live_server import LiveServer


def test_no_reply_is_wrong_or_lost_under_load(
    start: Callable[..., LiveServer], tmp_path: Path
) -> None:
    """Thousands of mixed requests, a tenth of them cancelled, end as they must and are counted."""
    server = start(build_identities(tmp_path / "repository"))
    traffic = Traffic(count=5000)
    outcome = asyncio.run(correctness.run(server.address, server.metrics_url, traffic))
    assert [] == outcome.problems
    assert (0, 0) == (outcome.wrong, outcome.lost)
    assert outcome.codes["CANCELLED"] > 0


def test_the_same_seed_sends_the_same_requests() -> None:
    """Traffic is decided by its seed, so that a failure can be sent again."""
    assert list(Traffic(count=50, seed=3).requests()) == list(Traffic(count=50, seed=3).requests())
