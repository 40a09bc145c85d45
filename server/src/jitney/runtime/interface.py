"""What a worker's loop asks of whatever runs models; free of torch, so that others can be one.

Its one implementation that computes anything is torch's (``device``, ``load``, ``instance``);
``jitney.testing.sim_worker`` has another, which only takes the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Sequence

    from jitney.datatypes import DataType
    from jitney.load_options import LoadOptions
    from jitney.load_report import LoadReport

__all__ = ["DeviceFault", "Execution", "InputView", "LoadedModel", "Runtime", "WrittenOutput"]


class DeviceFault(Exception):
    """The device's context is beyond repair: the worker must exit and be replaced."""


class InputView(NamedTuple):
    """An input of a batch: a region of the slot, writable, aligned to 64 bytes.

    ``shape`` includes the batch dimension; ``data`` has exactly that many elements. BYTES are in
    the protocol's raw form, each element behind its length.
    """

    datatype: DataType
    shape: tuple[int, ...]
    data: memoryview


class WrittenOutput(NamedTuple):
    """Where an output stands in the slot.

    ``shape`` includes the batch dimension. BYTES of a batched model also have their rows' offsets,
    relative to ``offset``: rows + 1 unsigned 64-bit little-endian numbers at ``row_offsets_at``,
    which is -1 otherwise.
    """

    datatype: DataType
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    row_offsets_at: int


class Execution(NamedTuple):
    """What became of a batch; the stamps are of the caller's clock, when each stage ended."""

    started: float
    copied_in: float
    inferred: float
    copied_out: float
    outputs: list[WrittenOutput]


class LoadedModel(Protocol):
    """A model that can run; to be used by one thread."""

    @property
    def report(self) -> LoadReport:
        """What loading it found out."""

    def execute(
        self,
        inputs: Sequence[InputView | None],
        rows: int,
        out: memoryview,
        now: Callable[[], float],
    ) -> Execution:
        """Run a batch, and write its outputs into ``out``.

        :param now: monotonic seconds.
        :raises JitneyError: one of the four that ``wire.Failure`` names, and the worker goes on.
        :raises DeviceFault: if the device is lost; the process must end.
        """

    def close(self) -> None:
        """Let go of the model and its memory; may be called again."""


class Runtime(Protocol):
    """One device and the way models come onto it."""

    @property
    def name(self) -> str:
        """The device's name as the server uses it."""

    @property
    def description(self) -> str:
        """A few words for the operator."""

    def pin(self, buffer: mmap.mmap) -> bool:
        """Page-lock the slots, so that copies need no detour; return whether that worked."""

    def memory(self) -> dict[str, int]:
        """Return bytes by kind: ``allocated``, ``total`` and, where there is one, ``reserved``."""

    def load(self, path: str, options: LoadOptions, progress: Callable[[str], None]) -> LoadedModel:
        """Load a model's file; ``progress`` is called with a few words before each step.

        :raises ModelError: with ``reason`` naming the check that failed.
        :raises DeviceFault: if the device was lost on the way; the process must end.
        """
