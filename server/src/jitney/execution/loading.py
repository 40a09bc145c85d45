"""What is asked of whoever puts models onto devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from jitney.builtin import BuiltinSpec
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

    ``devices`` are the names of those that are to have it, empty for all; ``builtin`` is set for a
    model that has no file.

    ``open`` returns its file, hashed and sealed, or raises ``ModelError``; it blocks, so it is
    called in a thread, once for every worker that loads it. ``progress(device, text)`` is told
    what a load is doing.
    """

    ref: ModelRef
    options: LoadOptions
    open: Callable[[], AbstractContextManager[HeldFile]]
    progress: Callable[[str, str], None]
    devices: tuple[str, ...] = ()
    builtin: BuiltinSpec | None = None


class Loader(Protocol):
    """Who puts models onto devices."""

    async def load(self, spec: LoadSpec) -> dict[str, LoadReport | ModelError]:
        """Load a version onto its devices; return the report, or what was wrong, by device."""

    def unload(self, ref: ModelRef) -> None:
        """Drop a version from every device; batches already started still run."""
