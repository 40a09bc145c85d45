"""The worker process that runs models with torch: ``python -m jitney.execution.worker``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from jitney.execution.worker_start import run_worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.runtime.interface import Runtime

__all__ = ["main"]


def open_runtime(name: str, threads: int) -> Runtime:
    """Return torch's runtime; torch is imported here and not before.

    The process is confined and bound to its parent by then: importing takes seconds, in which the
    parent may end, and starts threads, which a step after it would leave out.
    """
    from jitney.runtime.torch_runtime import open_torch_runtime  # noqa: PLC0415  # said above

    return open_torch_runtime(name, threads)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker on the descriptors it inherited; return the exit code."""
    return run_worker(argv, open_runtime)


if __name__ == "__main__":
    sys.exit(main())
