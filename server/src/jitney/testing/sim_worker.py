"""A worker process that runs simulated models: ``python -m jitney.testing.sim_worker``.

It is the real worker in all but the model: the same loop, wire and slots, real bytes in and out,
one process per device. It imports no torch, so it is up within a fraction of a second, and asleep
while it "computes".
"""

from __future__ import annotations

import ctypes
import random
import sys
from typing import TYPE_CHECKING, Final

from jitney.errors import InferenceFailed, ModelError, OutputTooLarge
from jitney.execution.slots import aligned
from jitney.execution.worker_start import run_worker
from jitney.load_report import Golden, LoadReport
from jitney.runtime.interface import Execution, WrittenOutput
from jitney.testing.sim_device import SimDevice
from jitney.testing.sim_model import read_sim_model

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Sequence

    from jitney.load_options import LoadOptions
    from jitney.runtime.interface import InputView
    from jitney.signature import Signature
    from jitney.testing.sim_model import SimModel

__all__ = ["SimInstance", "SimRuntime", "main", "run_simulated"]

PR_SET_TIMERSLACK: Final = 29
MEMORY_BYTES: Final = 1 << 34
"""What the device says it has."""


class SimInstance:
    """A ``runtime.interface.LoadedModel``: output ``i`` is a copy of input ``i``, in due time."""

    def __init__(
        self, options: LoadOptions, model: SimModel, device: SimDevice, rng: random.Random
    ) -> None:
        self.report = _report(options, model)
        self._model = model
        self._device = device
        self._rng = rng
        self._open = True

    def execute(
        self,
        inputs: Sequence[InputView | None],
        rows: int,
        out: memoryview,
        now: Callable[[], float],
    ) -> Execution:
        """Take the model's time for ``rows``, and copy meanwhile.

        :raises OutputTooLarge: if ``out`` is too small.
        :raises InferenceFailed: if the model was closed, or an input is left out.
        """
        came = now()
        if not self._open:
            msg = "the model was unloaded"
            raise InferenceFailed(msg)
        outputs: list[WrittenOutput] = []
        end = 0
        for view in inputs:
            if view is None:
                msg = "a simulated model needs all its inputs"
                raise InferenceFailed(msg)
            offset, nbytes = aligned(end), len(view.data)
            end = offset + nbytes
            if end > len(out):
                msg = f"the outputs take {end} bytes or more, a slot has {len(out)}"
                raise OutputTooLarge(msg)
            out[offset:end] = view.data
            outputs.append(WrittenOutput(view.datatype, view.shape, offset, nbytes, -1))
        began, ended = self._device.run(self._model.drawn_seconds(rows, self._rng), came)
        # All of it is the model's time: this device copies nothing.
        return Execution(began, began, ended, ended, outputs)

    def close(self) -> None:
        """Take no further batch."""
        self._open = False


class SimRuntime:
    """A ``runtime.interface.Runtime`` on one simulated device."""

    description = "simulated"

    def __init__(self, name: str, device: SimDevice) -> None:
        self.name = name
        self._device = device

    def pin(self, buffer: mmap.mmap) -> bool:  # noqa: ARG002  # the protocol's
        """Return False: there is nobody to copy for."""
        return False

    def memory(self) -> dict[str, int]:
        """Return made-up figures."""
        return {"allocated": 0, "total": MEMORY_BYTES}

    def load(self, path: str, options: LoadOptions, progress: Callable[[str], None]) -> SimInstance:
        """Read a simulated model; its noise is the same in every run of the same device.

        :raises ModelError: for a file of any other kind, and a signature that is no identity.
        """
        progress("read")
        _check_identity(options.signature)
        rng = random.Random(f"{self.name} {options.name}")  # noqa: S311  # not a secret
        return SimInstance(options, read_sim_model(path), self._device, rng)


def _check_identity(signature: Signature) -> None:
    sides = [
        [(spec.datatype, spec.shape) for spec in side]
        for side in (signature.inputs, signature.outputs)
    ]
    if sides[0] != sides[1] or not all(spec.datatype.item_size for spec in signature.inputs):
        msg = "simulated models return their inputs, which must have a fixed size"
        raise ModelError(msg)


def _report(options: LoadOptions, model: SimModel) -> LoadReport:
    rows = options.max_batch_size if options.signature.batched else 1
    profile = model.profile(rows)
    return LoadReport(
        form="simulated",
        why=f"takes {1e3 * model.alpha:g} ms per row and {1e3 * model.beta:g} ms per batch",
        batchable=options.signature.batched,
        batchable_why="rows do not meet",
        max_batch_size=rows if options.signature.batched else 0,
        deterministic=True,
        mutated_state=(),
        mutated_inputs=(),
        golden=Golden(0, 0.0),
        latency=profile,
        memory_bytes=0,
        load_seconds=0.0,
        warnings=(),
    )


def run_simulated(argv: Sequence[str] | None, runtime: type[SimRuntime]) -> int:
    """Run a worker with such a runtime on the descriptors it inherited; return the exit code."""
    # By default the kernel may wake a sleeper 50 µs late, to wake several at once.
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    return run_worker(argv, lambda name, _: runtime(name, SimDevice()))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker on the descriptors it inherited; return the exit code."""
    return run_simulated(argv, SimRuntime)


if __name__ == "__main__":
    sys.exit(main())
