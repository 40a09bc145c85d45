"""What the command lines of all benchmarks share."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    import argparse

__all__ = ["add_results", "end_on_sigterm"]

RESULTS: Final = Path(__file__).parent / "results"


def add_results(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where results are kept: ``results`` is a folder, or None."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FOLDER", help="where results are kept"
    )
    where.add_argument(
        "--no-results", dest="results", action="store_const", const=None, help="keep none"
    )


def end_on_sigterm() -> None:
    """Let SIGTERM unwind the blocks that end the processes, which it does as an exception."""
    signal.signal(signal.SIGTERM, _raise)


def _raise(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)
