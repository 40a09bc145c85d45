"""The device that a worker drives, behind one small interface: the CPU, or one CUDA device.

``stage`` and ``fetch`` only *queue* copies, ``mark`` only notes a point in the queue; ``settle``
waits once per batch. Rejected: to wait after every stage, which is the obvious way to time them.
Each wait puts the thread to sleep, and the device idles until it is awake and has launched more.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import torch

from jitney.errors import ConfigError

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable
    from contextlib import AbstractContextManager

__all__ = ["CpuDevice", "CudaDevice", "Device", "Marks", "open_device"]

Marks = tuple[float, float, float, float]
"""When a batch started, was on the device, was inferred, was back on the host."""

GIBIBYTE: Final = 1 << 30
PORTABLE: Final = 1
"""``cudaHostRegisterPortable``: page-locked for every context of the process."""


class Device(Protocol):
    """Where models run.

    - All methods are called on the one thread that runs models; all but ``pin`` and ``memory``
      inside ``active()``.
    - Between two calls of ``settle`` everything happens in the order in which it was queued.
    - Host memory given to ``stage`` or ``fetch`` stays untouched until ``settle`` or ``wait``
      returned; only then does what ``fetch`` copied stand there.
    - An error of the device may surface in any later call.
    """

    name: str
    """The name that the server uses, such as ``cpu`` or ``cuda:1``."""
    description: str
    torch_device: torch.device
    pads: bool
    """Whether batches are padded up to a bucket, because new shapes are expensive."""
    threads: int
    """How many threads one operator may use at most; 0 where that decides nothing."""

    def use_threads(self, count: int) -> None:
        """Let operators use ``count`` threads from now on; 0 changes nothing."""

    def active(self) -> AbstractContextManager[object]:
        """Return a context in which torch uses this device and its stream."""

    def stage(self, host: torch.Tensor, padding: int) -> torch.Tensor:
        """Return ``host`` on the device, its last row repeated ``padding`` more times.

        Without padding and on the CPU that is ``host`` itself.
        """

    def fetch(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy an output into host memory."""

    def mark(self, stage: int, now: Callable[[], float]) -> float:
        """Note that ``stage`` (0 … 3) of a batch ends here; return when it was queued."""

    def settle(self, marks: Marks, now: Callable[[], float]) -> Marks:
        """Wait until mark 3 is reached; return when each stage really ended."""

    def wait(self) -> None:
        """Wait until nothing is queued."""

    def release(self) -> None:
        """Give memory that nobody uses back to the device."""

    def pin(self, buffer: memoryview | mmap.mmap) -> bool:
        """Page-lock a buffer, so that copies need no detour; return whether that worked."""

    def memory(self) -> dict[str, int]:
        """Return bytes by kind: ``allocated``, ``total`` and, on CUDA, ``reserved``."""

    def watch_memory(self) -> None:
        """Forget the peak of memory so far."""

    def peak_memory(self) -> int:
        """Return the most bytes that were allocated at once since ``watch_memory``."""


class CpuDevice:
    """The CPU: everything is done when the call returns, and nothing is copied to be staged."""

    pads = False

    def __init__(self, name: str = "cpu") -> None:
        self.name = name
        self.torch_device = torch.device("cpu")
        self.threads = self._using = torch.get_num_threads()
        self.description = f"cpu, {self.threads} thread{'s' if self.threads > 1 else ''}"
        self._active = contextlib.nullcontext()

    def __repr__(self) -> str:
        """Return name and description."""
        return f"<Device {self.name}: {self.description}>"

    def use_threads(self, count: int) -> None:
        """Set the size of the pool, where it changes: setting it costs microseconds."""
        if count and count != self._using:
            torch.set_num_threads(count)
            self._using = count

    def active(self) -> AbstractContextManager[object]:
        """Return a context that does nothing."""
        return self._active

    def stage(self, host: torch.Tensor, padding: int) -> torch.Tensor:
        """Return ``host``, or a padded copy."""
        if not padding:
            return host
        return torch.cat((host, host[-1:].expand(padding, *host.shape[1:])))

    def fetch(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy at once."""
        target.copy_(source)

    def mark(self, stage: int, now: Callable[[], float]) -> float:  # noqa: ARG002  # the protocol's
        """Return the time: what was queued is done."""
        return now()

    def settle(self, marks: Marks, now: Callable[[], float]) -> Marks:  # noqa: ARG002  # likewise
        """Return the marks as they are."""
        return marks

    def wait(self) -> None:
        """Return at once."""

    def release(self) -> None:
        """Do nothing: the C library gives memory back by itself."""

    def pin(self, buffer: memoryview | mmap.mmap) -> bool:  # noqa: ARG002  # likewise
        """Return False: page-locking helps devices that copy by themselves."""
        return False

    def memory(self) -> dict[str, int]:
        """Return the process's resident set as ``allocated``, the machine's memory as ``total``."""
        page = os.sysconf("SC_PAGE_SIZE")
        try:
            resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * page
        except OSError:
            resident = 0  # not Linux: a development machine, where the figure decides nothing
        return {"allocated": resident, "total": os.sysconf("SC_PHYS_PAGES") * page}

    def watch_memory(self) -> None:
        """Reset the kernel's high-water mark of the resident set, where it can be reset."""
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def peak_memory(self) -> int:
        """Return the high-water mark of the resident set; 0 where the system does not tell."""
        with contextlib.suppress(OSError, StopIteration):
            lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
        return 0


class CudaDevice:
    """One CUDA device, which is number 0 of this process whatever the server calls it.

    Works on a stream of its own: the legacy default stream cannot be captured into graphs and
    synchronises with every other one.
    """

    pads = True
    threads = 0

    def __init__(self, name: str) -> None:
        self.name = name
        self.torch_device = torch.device("cuda", 0)
        torch.cuda.set_device(self.torch_device)
        properties = torch.cuda.get_device_properties(self.torch_device)
        self.description = f"{properties.name}, {properties.total_memory / GIBIBYTE:.0f} GiB"
        self._stream = torch.cuda.Stream(self.torch_device)  # type: ignore[no-untyped-call]
        # Blocking events sleep in the kernel: the default is to spin, which takes a core away
        # from this process's other threads and from the server.
        self._events = [
            torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
            for _ in range(4)
        ]

    def __repr__(self) -> str:
        """Return name and description."""
        return f"<Device {self.name}: {self.description}>"

    def use_threads(self, count: int) -> None:
        """Do nothing: the CPU only launches."""

    def active(self) -> AbstractContextManager[object]:
        """Return a context in which work goes to this device's stream."""
        return torch.cuda.stream(self._stream)

    def stage(self, host: torch.Tensor, padding: int) -> torch.Tensor:
        """Queue the copy to the device; the padding is made there, from the copy."""
        if not padding:
            return host.to(self.torch_device, non_blocking=True)
        rows = host.shape[0]
        shape = (rows + padding, *host.shape[1:])
        staged = torch.empty(shape, dtype=host.dtype, device=self.torch_device)
        staged[:rows].copy_(host, non_blocking=True)
        staged[rows:].copy_(staged[rows - 1 : rows].expand(padding, *shape[1:]))
        return staged

    def fetch(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Queue the copy to the host."""
        target.copy_(source, non_blocking=True)

    def mark(self, stage: int, now: Callable[[], float]) -> float:
        """Queue an event."""
        self._events[stage].record(self._stream)
        return now()

    def settle(self, marks: Marks, now: Callable[[], float]) -> Marks:
        """Wait for the last event, without the GIL; place the others by the device's own clock."""
        first, *later = self._events
        later[-1].synchronize()
        ended, started = now(), marks[0]
        # The stream was idle when the first event was queued, so it happened at `started`; the
        # bound keeps the order where the two clocks' rates differ by a hair.
        copied_in, inferred = (
            min(ended, started + first.elapsed_time(event) / 1e3) for event in later[:2]
        )
        return (started, copied_in, inferred, ended)

    def wait(self) -> None:
        """Wait for the whole device: loading also uses other streams than ours."""
        torch.cuda.synchronize(self.torch_device)

    def release(self) -> None:
        """Give the allocator's unused blocks back."""
        torch.cuda.empty_cache()

    def pin(self, buffer: memoryview | mmap.mmap) -> bool:
        """Register the buffer with CUDA; it stays so until the process ends."""
        host = torch.frombuffer(buffer, dtype=torch.uint8)
        try:
            runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
            code = int(runtime.cudaHostRegister(host.data_ptr(), host.numel(), PORTABLE))
        except RuntimeError:
            code = -1
        if code:
            # A refusal stays behind as the runtime's last error, and the next kernel launch
            # would report it as its own; so let a launch that does not matter pick it up.
            with contextlib.suppress(RuntimeError):
                torch.zeros(1, device=self.torch_device)
        return code == 0

    def memory(self) -> dict[str, int]:
        """Return what the allocator handed out and holds, and what the device has."""
        return {
            "allocated": torch.cuda.memory_allocated(self.torch_device),
            "reserved": torch.cuda.memory_reserved(self.torch_device),
            "total": torch.cuda.mem_get_info(self.torch_device)[1],
        }

    def watch_memory(self) -> None:
        """Reset the allocator's peak."""
        torch.cuda.reset_peak_memory_stats(self.torch_device)

    def peak_memory(self) -> int:
        """Return the allocator's peak."""
        return torch.cuda.max_memory_allocated(self.torch_device)


def open_device(name: str, *, threads: int = 0) -> Device:
    """Return the device of this worker; to be called once, before anything is loaded.

    :param name: ``cpu`` or ``cuda:<number>``, the server's name for it. The number is not used:
        the worker was started with only that device visible.
    :param threads: how many threads one operator may use on the CPU; 0 leaves torch's choice.
    :raises ConfigError: if there is no such device.
    """
    if threads > 0:
        torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        # One thread runs models, one batch at a time: a second pool would only fight the first.
        # The size can be set once per process and before first use; later there is nothing to do.
        with contextlib.suppress(RuntimeError):
            torch.set_num_interop_threads(1)
    if name == "cpu":
        return CpuDevice()
    if not re.fullmatch(r"cuda:\d+", name):
        msg = f"devices: expected cpu or cuda:<number>, got {name!r}"
        raise ConfigError(msg)
    if not torch.cuda.is_available():
        msg = (
            f"devices: {name} is asked for, and CUDA is not available; write cpu, or see nvidia-smi"
        )
        raise ConfigError(msg)
    return CudaDevice(name)
