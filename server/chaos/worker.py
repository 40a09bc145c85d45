"""A worker process that does to itself what a request asks for: ``python -m chaos.worker``.

The real worker in all but the model, as ``jitney.testing.sim_worker`` is, whose models it runs as
well: what is to be shown is how the server takes it.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Final

from chaos.faulty_model import (
    INPUT_BYTES,
    OUTPUT_BYTES,
    SIGNATURE,
    Command,
    FaultyModel,
    answer,
    is_faulty_model,
    read_faulty_model,
)
from jitney.datatypes import DataType
from jitney.errors import InferenceFailed, InputRejected
from jitney.latency_profile import LatencyProfile
from jitney.load_report import Golden, LoadReport
from jitney.runtime.buckets import ladder
from jitney.runtime.interface import DeviceFault, Execution, LoadedModel, WrittenOutput
from jitney.testing.sim_worker import SimRuntime, run_simulated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jitney.load_options import LoadOptions
    from jitney.runtime.interface import InputView
    from jitney.testing.sim_device import SimDevice

__all__ = ["FaultyInstance", "FaultyRuntime", "main"]

COMMAND_AT: Final = 8
LEAST_SECONDS: Final = 1e-5
"""A profile's batches take some time."""
SLOW_SECONDS: Final = 1.0
CRASH: Final = 139
"""The exit code of a process that a segmentation fault ended, as shells have it."""


class FaultyInstance:
    """A ``runtime.interface.LoadedModel``: answers each row, unless one says otherwise."""

    def __init__(self, options: LoadOptions, model: FaultyModel, device: SimDevice) -> None:
        self.report = _report(options, model)
        self._model = model
        self._device = device
        self._open = True

    def execute(
        self,
        inputs: Sequence[InputView | None],
        rows: int,
        out: memoryview,
        now: Callable[[], float],
    ) -> Execution:
        """Obey the first row with a command, or take the model's time and answer.

        :raises InferenceFailed: if the model was closed.
        :raises InputRejected: on ``Command.REJECT``.
        :raises DeviceFault: on ``Command.FAULT``.
        """
        came = now()
        view = inputs[0]
        if not self._open or view is None:
            msg = "the model was unloaded"
            raise InferenceFailed(msg)
        seconds = self._model.seconds(rows)
        given = [view.data[at : at + INPUT_BYTES] for at in range(0, len(view.data), INPUT_BYTES)]
        for row in given:
            command = int.from_bytes(row[COMMAND_AT:], "little", signed=True)
            if command:
                seconds += self._obey(Command(command))
        for at, row in enumerate(given):
            out[at * OUTPUT_BYTES : (at + 1) * OUTPUT_BYTES] = answer(row, self._model.stamp)
        began, ended = self._device.run(seconds, came)
        size = len(given) * OUTPUT_BYTES
        output = WrittenOutput(DataType.INT64, (rows, 3), 0, size, -1)
        return Execution(began, began, ended, ended, [output])

    def close(self) -> None:
        """Take no further batch."""
        self._open = False

    @staticmethod
    def _obey(command: Command) -> float:
        """Do what a row asks for; return the seconds to take longer."""
        if command is Command.HANG:
            threading.Event().wait()
        elif command is Command.DIE:
            os._exit(CRASH)
        elif command is Command.REJECT:
            msg = "a row asked to be rejected"
            raise InputRejected(msg)
        elif command is Command.FAULT:
            msg = "a row asked for a fault of the device"
            raise DeviceFault(msg)
        return SLOW_SECONDS if command is Command.SLOW else 0.0


class FaultyRuntime(SimRuntime):
    """A ``runtime.interface.Runtime`` that also has simulated models."""

    description = "faulty on purpose"

    def __init__(self, name: str, device: SimDevice) -> None:
        super().__init__(name, device)
        self._clock = device

    def load(self, path: str, options: LoadOptions, progress: Callable[[str], None]) -> LoadedModel:  # type: ignore[override]  # of either kind
        """Read a model of either kind.

        :raises ModelError: for a file of any other.
        """
        if not is_faulty_model(path):
            return super().load(path, options, progress)
        progress("read")
        return FaultyInstance(options, read_faulty_model(path), self._clock)


def _report(options: LoadOptions, model: FaultyModel) -> LoadReport:
    assert options.signature == SIGNATURE
    rows = options.max_batch_size
    sizes = ladder(rows)
    seconds = tuple(max(LEAST_SECONDS, model.seconds(size)) for size in sizes)
    return LoadReport(
        form="faulty",
        why=f"stamp {model.stamp}",
        batchable=True,
        batchable_why="rows do not meet",
        max_batch_size=rows,
        deterministic=True,
        mutated_state=(),
        mutated_inputs=(),
        golden=Golden(0, 0.0),
        latency=LatencyProfile(sizes, seconds, (0.0,) * len(sizes)),
        memory_bytes=0,
        load_seconds=0.0,
        warnings=(),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker on the descriptors it inherited; return the exit code."""
    return run_simulated(argv, FaultyRuntime)


if __name__ == "__main__":
    sys.exit(main())
