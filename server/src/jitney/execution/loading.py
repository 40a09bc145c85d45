"""What is asked of whoever puts models onto devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from jitney.errors import ModelError
    from jitney.load_options import LoadOptions
    from jitney.load_report import LoadReport
    from jitney.types import ModelRef

__all__ = ["HeldFile", "LoadSpec", "Loader"]


class HeldFile(Protocol):
    """A model's file in memory that nobody can change any more."""

    fd: int


@dataclass(frozen=True, slots=True, eq=False)
class LoadSpec:
    """A model version to be loaded.

    ``open`` returns its file, hashed and sealed, or raises ``ModelError``; it blocks, so it is
    called in a thread, once for every worker that loads it. ``progress(device, text)`` is told
    what a load is doing.
    """

    ref: ModelRef
    options: LoadOptions
    open: Callable[[], AbstractContextManager[HeldFile]]
    progress: Callable[[str, str], None]


class Loader(Protocol):
    """Who puts models onto devices."""

    async def load(self, spec: LoadSpec) -> dict[str, LoadReport | ModelError]:
        """Load a version onto every device; return the report, or what was wrong, by device."""
